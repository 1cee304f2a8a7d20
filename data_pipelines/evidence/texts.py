"""Texts out of a file's pieces: PNG text, EXIF, IPTC; decoded, never longer than allowed."""

import re
import zlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from PIL import Image

from data_pipelines.exif import MAX_EXIF_BYTES
from data_pipelines.images import quiet_pillow

MAX_TEXT: Final = 2**18
"""Only so many bytes of a text are read."""

_EXIF_IFD: Final = 0x8769
# In either directory: generators write the camera's fields into the main one.
_EXIF_TEXTS: Final = {
    0x010E: "ImageDescription",
    0x010F: "Make",
    0x0110: "Model",
    0x0131: "Software",
    0x013B: "Artist",
    0x9286: "UserComment",
}
_IIM_NAMES: Final = {0x41: "Software", 0x6E: "Credit", 0x73: "Source", 0x78: "Description"}
# The second record's data sets of these numbers, with their length.
_IIM: Final = re.compile(rb"\x1c\x02([\x41\x6e\x73\x78])([\x00-\x7f].)", re.DOTALL)
_MAX_IIM: Final = 16


class Text(NamedTuple):
    """A text in a file.

    Attributes:
        where: kind of metadata, for people: "PNG text", "EXIF", "XMP", ...
        key: name of the field.
        text: decoded, at most `MAX_TEXT` long.
    """

    where: str
    key: str
    text: str


def decode(data: bytes) -> str:
    """Decodes UTF-8, else Latin-1; a character that was cut in two at the end is dropped."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8")
        return data.decode("latin-1")


def png_text(name: bytes, body: memoryview) -> tuple[str, bytes, str]:
    """Reads a tEXt, zTXt or iTXt chunk.

    Returns:
        Its keyword, at most `MAX_TEXT` bytes of its text, and a sentence if that is not all.
    """
    size = len(body)
    keyword, _, rest = bytes(body[: MAX_TEXT + 1024]).partition(b"\0")
    key = keyword[:79].decode("latin-1")
    compressed = name == b"zTXt"
    if compressed:
        rest = rest[1:]
    elif name == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        rest = rest.split(b"\0", 2)[-1]  # the language, and the keyword in it
    if not compressed:
        long = f"a PNG text of {size:,} bytes was read in part" if size > MAX_TEXT else ""
        return key, rest[:MAX_TEXT], long
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(rest, MAX_TEXT)
    except zlib.error:
        return key, b"", "a compressed PNG text is damaged"
    part = "" if inflater.eof else "a compressed PNG text was read in part"
    return key, text, part


def iptc_texts(body: memoryview) -> Iterator[Text]:
    """Yields what an APP13 segment has of the older IPTC fields that name a program or credit."""
    data = bytes(body)
    for count, match in enumerate(_IIM.finditer(data)):
        if count == _MAX_IIM:
            return
        value = data[match.end() : match.end() + int.from_bytes(match[2], "big")]
        yield Text("IPTC", _IIM_NAMES[match[1][0]], decode(value[:MAX_TEXT]))


def exif_texts(image: Image.Image) -> Iterator[Text]:
    """Yields the free texts in an opened image's EXIF."""
    if len(image.info.get("exif") or b"") > MAX_EXIF_BYTES:
        return
    found: dict[str, Any] = {}
    with quiet_pillow():
        main = image.getexif()
        for directory in (main, main.get_ifd(_EXIF_IFD)):
            found |= {key: directory[n] for n, key in _EXIF_TEXTS.items() if n in directory}
    for key, value in found.items():
        if isinstance(value, bytes):
            value = _user_comment(value[:MAX_TEXT]) if key == "UserComment" else decode(value)
        if isinstance(value, str) and value.strip("\0 "):
            yield Text("EXIF", key, value[:MAX_TEXT])


def _user_comment(value: bytes) -> str:
    """Reads the field that begins with eight bytes for its coding."""
    coding, text = value[:8], value[8:]
    if coding == b"UNICODE\0":  # in either byte order, whatever that of the block is
        zeros = (text[:256:2].count(0), text[1:256:2].count(0))
        return text.decode("utf-16-le" if zeros[1] > zeros[0] else "utf-16-be", "replace")
    known = coding in (b"ASCII\0\0\0", bytes(8), b"JIS\0\0\0\0\0")
    return decode(text if known else value)
