"""Reading EXIF from hostile files: bounded, never raising, only the fields that are needed.

Pillow reads first; where it finds none of the wanted fields, or stops at a damaged camera
directory, piexif reads the same block. Place, names, serial numbers and notes are never read.
"""

import dataclasses
import hashlib
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import piexif
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import IFDRational

from data_pipelines.capture_times import FIELDS, ClockTime, capture_time
from data_pipelines.images import ImageError, open_image, quiet_pillow
from data_pipelines.tags import FOCAL_LENGTHS, TAGS, Rational, RawExif, Value, parse_tags
from data_pipelines.text_coding import decode_text

MAX_EXIF_BYTES: Final = 2**20
"""Larger EXIF blocks are not parsed; a JPEG segment holds at most 64 KiB."""
MAX_VALUES: Final = 16
"""Only so many elements of a sequence are kept: the longest wanted one has a few."""

_EXIF_IFD: Final = 0x8769
_HEADER: Final = b"Exif\0\0"
MAIN_FIELDS: Final = {0x010F: "Make", 0x0110: "Model", 0x0131: "Software", 0x0132: "DateTime"}
"""Wanted fields of the main directory: tag number -> name."""
_CHECKED: Final = (
    *(field for fields in FIELDS for field in fields),
    *("PixelXDimension", "PixelYDimension", "FileSource"),
)
"""Fields that bursts and checks need, beside those of the tags."""
_NUMBERS: Final = {row["name"]: number for number, row in piexif.TAGS["Exif"].items()} | {
    "PhotographicSensitivity": 0x8827  # the name of the standard's present version
}
CAMERA_FIELDS: Final = {
    _NUMBERS[field]: field
    for field in dict.fromkeys(
        (
            *(field for tag in TAGS for field in tag.fields),
            *(source.field for source in FOCAL_LENGTHS.values()),
            *_CHECKED,
        )
    )
    if field not in MAIN_FIELDS.values()
}
"""Wanted fields of the camera's directory; none of place, names, serial numbers or notes."""
_PNG_SIGNATURE_BYTES: Final = 8
_MAX_PNG_CHUNKS: Final = 2**17  # writers cut pixels into pieces of 8 KiB or more
_MAX_PROFILE: Final = 3 * MAX_EXIF_BYTES  # hexadecimal digits, and line breaks
_PNG_PROFILE: Final = b"Raw profile type exif"  # a text's keyword, where writers know no eXIf
_POINTERS: Final = (_EXIF_IFD, 0x8825, 0xA005)  # camera, place, interoperability directories
_MAX_DIRECTORIES: Final = 5  # those three, the main one and the thumbnail's
_UNDEFINED: Final = 7  # a TIFF type
# Bytes of one element of each TIFF type; piexif knows no other types.
_TYPE_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


@dataclasses.dataclass(frozen=True)
class Exif:
    """What was read from a file.

    Attributes:
        raw: raw values by EXIF name, wanted fields only.
        digest: SHA-256 of the whole EXIF block, empty if there is none.
        problem: short code of what went wrong, empty if nothing did: "no_exif", "exif_too_large",
            "damaged_exif" or a reason of `ImageError`. EXIF without a wanted field is no problem.
    """

    raw: RawExif
    digest: str = ""
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class CaptureKey:
    """What tells whether two photos belong to one burst.

    Attributes:
        camera: canonical make and model; empty if neither is known.
        time: of capture, None if unknown.
        digest: SHA-256 of the EXIF block, for photos without a time.
    """

    camera: str
    time: ClockTime | None
    digest: str


def exif_of_image(image: Image.Image) -> Exif:
    """Reads the wanted fields from an opened image; never raises."""
    try:
        with quiet_pillow():
            return _read(image)
    except Exception:  # damaged EXIF makes Pillow raise almost anything
        return Exif({}, problem="damaged_exif")


def load_exif(source: Path | bytes) -> Exif:
    """Reads the wanted fields from a file or its bytes; never raises."""
    try:
        image = open_image(source)
    except ImageError as error:
        return Exif({}, problem=error.reason)
    return exif_of_image(image)


def capture_key(exif: Exif, values: Mapping[str, Value] | None = None) -> CaptureKey:
    """Returns camera and time of a photo, for finding bursts; its tags are parsed if not given."""
    values = parse_tags(exif.raw) if values is None else values
    camera = str(values.get("Model") or values.get("Make") or "")
    return CaptureKey(camera, capture_time(exif.raw), exif.digest)


def _read(image: Image.Image) -> Exif:
    if isinstance(image, PngImageFile) and "exif" not in image.info and image.fp is not None:
        # Pillow would decode all of the pixels to look behind them.
        image.info["exif"] = _exif_of_png(image.fp)
    block = image.info.get("exif") or b""
    if len(block) > MAX_EXIF_BYTES:
        return Exif({}, problem="exif_too_large")
    if not block.removeprefix(_HEADER).strip(b"\0"):
        block = b""  # the place for EXIF, which nobody filled
    digest = hashlib.sha256(block).hexdigest() if block else ""
    if (repaired := _without_wild_entries(block)) != block:
        block = repaired
        image.getexif().load(block)
    raw, damaged = _read_with_pillow(image)
    if block and (damaged or not raw):
        raw = {**_read_with_piexif(block), **raw}
    problem = ""
    if not raw and (damaged or (block and _is_passed_over(image, block))):
        problem = "damaged_exif"
    elif not raw and not block and not any(number in image.getexif() for number in _POINTERS):
        problem = "no_exif"
    for name in MAIN_FIELDS.values() & raw.keys():
        text = _decoded(raw[name])
        if text is not None:
            raw[name] = text
        elif name != "Software":  # that is searched for names of programs, which are ASCII
            del raw[name]
    source = raw.get("FileSource")
    if isinstance(source, bytes) and source:  # one byte that the standard leaves undefined in type
        raw["FileSource"] = source[0]
    return Exif(raw, digest, problem)


def _without_wild_entries(block: bytes) -> bytes:
    """Empties the entries of the wanted directories whose values would lie outside the block.

    Readers stop at such an entry, and all fields after it would be lost.
    """
    start = len(_HEADER) if block.startswith(_HEADER) else 0
    size = len(block) - start
    order = "<" if block[start : start + 2] == b"II" else ">"
    repaired = bytearray(block)
    try:
        directories = list(struct.unpack_from(order + "L", block, start + 4))
        for visited, offset in enumerate(directories):
            (entries,) = struct.unpack_from(order + "H", block, start + offset)
            for position in range(start + offset + 2, start + offset + 2 + 12 * entries, 12):
                tag, kind, count, value = struct.unpack_from(order + "HHLL", block, position)
                length = count * _TYPE_SIZES.get(kind, 1)
                if length > 4 and value + length > size:
                    struct.pack_into(order + "HLL", repaired, position + 2, _UNDEFINED, 0, 0)
                elif tag == _EXIF_IFD and visited == 0:
                    directories.append(value)
    except struct.error:  # a directory outside the block, or cut short
        pass
    return bytes(repaired)


def _is_passed_over(image: Image.Image, block: bytes) -> bool:
    """Whether Pillow found nothing in a directory that has, or may have, entries."""
    main = image.getexif()
    tiff = block.removeprefix(_HEADER)
    if not len(main):
        return _num_entries(tiff, None) != 0
    camera = main.get(_EXIF_IFD)
    if not isinstance(camera, int) or main.get_ifd(_EXIF_IFD):
        return False
    return _num_entries(tiff, camera) != 0


def _num_entries(tiff: bytes, offset: int | None) -> int | None:
    """Entries of a directory of a block, by default the main one; None if it lies outside."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        if offset is None:
            (offset,) = struct.unpack_from(order + "L", tiff, 4)
        number: int = struct.unpack_from(order + "H", tiff, offset)[0]
    except struct.error:
        return None
    return number


def _decoded(value: object) -> object:
    """A text as its writer meant it, None if that is not certain; other values as they are."""
    if isinstance(value, str):  # Pillow took the bytes for Latin-1
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            return value
    return decode_text(value) if isinstance(value, bytes) else value


def _exif_of_png(file: IO[bytes]) -> bytes:
    """Finds the EXIF block of a PNG file by its chunks, before the pixels or after them.

    The file is left where it was. At most one byte more than is parsed is returned.
    """
    position = file.tell()
    try:
        file.seek(_PNG_SIGNATURE_BYTES)
        profile = b""
        for _ in range(_MAX_PNG_CHUNKS):
            header = file.read(8)
            if len(header) < 8 or header[4:] == b"IEND":
                break
            length, end = int.from_bytes(header[:4], "big"), file.tell()
            if header[4:] == b"eXIf":
                return _HEADER + file.read(min(length, MAX_EXIF_BYTES + 1))
            if header[4:] in (b"tEXt", b"zTXt"):
                # A profile is written in hexadecimal digits.
                profile = profile or _profile(header[4:], file.read(min(length, _MAX_PROFILE)))
            file.seek(end + length + 4)
        return profile
    finally:
        file.seek(position)


def _profile(kind: bytes, chunk: bytes) -> bytes:
    """Returns the EXIF block in a text chunk, empty if it holds something else."""
    keyword, _, text = chunk.partition(b"\0")
    if keyword != _PNG_PROFILE:
        return b""
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_PROFILE)
        # The name and the length come first, each on a line.
        return bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
    except (zlib.error, ValueError):
        return b""


def _read_with_pillow(image: Image.Image) -> tuple[dict[str, Any], bool]:
    """Returns the wanted fields and whether reading stopped early."""
    raw: dict[str, Any] = {}
    try:
        main = image.getexif()
        raw |= _wanted(main, MAIN_FIELDS)
        raw |= _wanted(main.get_ifd(_EXIF_IFD), CAMERA_FIELDS)
    except Exception:  # see exif_of_image
        return raw, True
    return raw, False


def _wanted(fields: Any, names: dict[int, str]) -> dict[str, Any]:
    return {name: _plain(fields[number]) for number, name in names.items() if number in fields}


def _plain(value: Any) -> Any:
    """Turns Pillow's fractions into ours and bounds sequences."""
    if isinstance(value, IFDRational):
        return Rational(int(value.numerator), int(value.denominator))
    if isinstance(value, tuple | list):
        return tuple(_plain(v) for v in value[:MAX_VALUES])
    return value


def _read_with_piexif(block: bytes) -> dict[str, Any]:
    """Returns the wanted fields as piexif reads them; empty if it fails."""
    block = block if block.startswith(_HEADER) else _HEADER + block
    try:
        if not _counts_are_sane(block[len(_HEADER) :]):
            return {}
        loaded = piexif.load(block)
    except Exception:  # piexif rejects a whole file for one odd field, by any exception
        return {}
    raw: dict[str, Any] = {}
    for ifd, names in (("0th", MAIN_FIELDS), ("Exif", CAMERA_FIELDS)):
        rational = {n for n in names if piexif.TAGS[ifd].get(n, {}).get("type") in (5, 10)}
        for number, name in names.items():
            if number in loaded[ifd]:
                value = loaded[ifd][number]
                pair = number in rational and isinstance(value, tuple) and len(value) == 2
                raw[name] = Rational(*value) if pair else value
    return raw


def _counts_are_sane(tiff: bytes) -> bool:
    """Checks the element counts of every directory that piexif would read.

    piexif allocates what a count says before it looks at the data, gigabytes for a damaged count.

    Raises:
        struct.error: a directory lies outside the block.
    """
    order = "<" if tiff[:2] == b"II" else ">"
    pending = list(struct.unpack_from(order + "L", tiff, 4))
    for visited in range(_MAX_DIRECTORIES):
        offset = pending.pop()
        (entries,) = struct.unpack_from(order + "H", tiff, offset)
        for i in range(entries):
            entry = struct.unpack_from(order + "HHLL", tiff, offset + 2 + 12 * i)
            tag, kind, count, value = entry
            if count * _TYPE_SIZES.get(kind, 1) > len(tiff):
                return False
            if tag in _POINTERS:
                pending.append(value)
        if visited == 0:
            (following,) = struct.unpack_from(order + "L", tiff, offset + 2 + 12 * entries)
            if following:
                pending.append(following)
        if not pending:
            return True
    return False  # more directories than EXIF has: a cycle
