"""What a file holds beside its pixels: texts, an XMP packet, a C2PA manifest.

Limits are on each part and on all of them together, so a file with a text of 100 MB, or with a
million small ones, takes no more time or memory than any other; what was left out is said.
"""

import dataclasses
from typing import Final

from PIL import Image

from data_pipelines.evidence.containers import container_of, pieces_of
from data_pipelines.evidence.texts import MAX_TEXT, Text, decode, exif_texts, iptc_texts, png_text
from data_pipelines.evidence.xmp import properties_of

MAX_TEXTS: Final = 2**21
"""All texts together, in characters."""
MAX_XMP: Final = 2**20
MAX_MANIFEST: Final = 2**25
"""Larger C2PA manifests are not read; most have thumbnails of some hundred KiB."""
_MAX_PIECES: Final = 256  # with texts in them
_MAX_NOTES: Final = 8
_LEFT_UNREAD: Final = "texts beyond the limits were left unread"

_XMP_KEYWORD: Final = "XML:com.adobe.xmp"  # of a PNG text
_XMP_HEADER: Final = b"http://ns.adobe.com/xap/1.0/\0"  # of a JPEG segment
_MORE_XMP_HEADER: Final = b"http://ns.adobe.com/xmp/extension/\0"
_MORE_XMP_BYTES: Final = len(_MORE_XMP_HEADER) + 40  # a digest, the length and the offset follow
_C2PA_BOX: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_JUMBF: Final = b"jumb"
_JUMBF_SEGMENT: Final = b"JP"


@dataclasses.dataclass
class Embedded:
    """What was found.

    Attributes:
        container: see `containers.container_of`.
        texts: with the properties of the XMP packet.
        manifest: the C2PA manifest store, a JUMBF box; empty if there is none.
        manifest_bytes: its size in the file.
        notes: sentences about what was left unread.
    """

    container: str
    texts: list[Text] = dataclasses.field(default_factory=list)
    manifest: bytearray = dataclasses.field(default_factory=bytearray)
    manifest_bytes: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    _left: int = MAX_TEXTS
    _pieces: int = 0
    _instance: bytes = b""

    def note(self, sentence: str) -> None:
        """Adds a sentence once."""
        if sentence not in self.notes and len(self.notes) < _MAX_NOTES:
            self.notes.append(sentence)

    def add(self, text: Text) -> None:
        """Adds a text, as long as there is room."""
        self._left -= len(text.text)
        if self._left < 0:
            self.note(_LEFT_UNREAD)
        else:
            self.texts.append(text)

    def another(self) -> bool:
        """Counts a piece with texts; False if it is one too many to take apart."""
        self._pieces += 1
        if self._pieces > _MAX_PIECES:
            self.note(_LEFT_UNREAD)
        return self._pieces <= _MAX_PIECES

    def add_manifest(self, part: memoryview, instance: bytes = b"") -> None:
        """Adds a piece of the manifest store; `instance` is the number of its JPEG segments."""
        self._instance = instance
        self.manifest_bytes += len(part)
        self.manifest += part[: max(0, MAX_MANIFEST - len(self.manifest))]


def read_embedded(data: bytes, image: Image.Image | None) -> Embedded:
    """Reads what a file holds; `image` is the opened file, if Pillow opens it.

    Its EXIF must have been read (`exif_of_image`): that finds it behind the pixels of PNG files.
    """
    found = Embedded(container_of(data))
    read_piece = _READERS.get(found.container)
    xmp = bytearray()
    if read_piece is not None:
        for name, body in pieces_of(data):
            read_piece(found, xmp, name, body)
    if image is not None:
        if not xmp:  # the containers that only Pillow takes apart
            packet = image.info.get("xmp") or b""
            xmp += (packet.encode() if isinstance(packet, str) else bytes(packet))[:MAX_XMP]
        comment = image.info.get("comment")
        if found.container != "JPEG" and isinstance(comment, bytes):
            found.add(Text("comment", "comment", decode(comment[:MAX_TEXT])))
        try:
            for text in exif_texts(image):
                found.add(text)
        except Exception:  # Pillow raises almost anything on damaged EXIF
            found.note("the texts in EXIF are damaged")
    if len(xmp) >= MAX_XMP:
        found.note(f"only {MAX_XMP:,} bytes of XMP were read")
    for key, value in properties_of(bytes(xmp)):
        found.add(Text("XMP", key, value))
    return found


def _add_xmp(xmp: bytearray, packet: memoryview) -> None:
    xmp += packet[: max(0, MAX_XMP - len(xmp))]


def _jpeg(found: Embedded, xmp: bytearray, name: bytes, body: memoryview) -> None:
    if name == b"\xe1":
        if body[: len(_XMP_HEADER)] == _XMP_HEADER:
            _add_xmp(xmp, body[len(_XMP_HEADER) :])
        elif body[: len(_MORE_XMP_HEADER)] == _MORE_XMP_HEADER:
            _add_xmp(xmp, body[_MORE_XMP_BYTES:])
    elif name == b"\xeb" and body[:2] == _JUMBF_SEGMENT:
        # Two letters, a number that all segments of a box share, their order, the box's header,
        # which each segment repeats.
        instance, box = bytes(body[2:4]), body[8:]
        if not found.manifest and _is_c2pa(box):
            found.add_manifest(box, instance)
        elif found.manifest and instance == found._instance:
            found.add_manifest(box[8:], instance)
    elif name == b"\xed" and found.another():
        for text in iptc_texts(body):
            found.add(text)
    elif name == b"\xfe" and found.another():
        found.add(Text("JPEG comment", "comment", decode(bytes(body))))


def _png(found: Embedded, xmp: bytearray, name: bytes, body: memoryview) -> None:
    if name == b"caBX":
        found.add_manifest(body)
    elif name in (b"tEXt", b"zTXt", b"iTXt") and found.another():
        key, text, problem = png_text(name, body)
        if problem:
            found.note(problem)
        if key == _XMP_KEYWORD:
            _add_xmp(xmp, memoryview(text))
        else:
            found.add(Text("PNG text", key, decode(text)))


def _webp(found: Embedded, xmp: bytearray, name: bytes, body: memoryview) -> None:
    if name == b"C2PA":
        found.add_manifest(body)
    elif name == b"XMP ":
        _add_xmp(xmp, body)


def _iso(found: Embedded, xmp: bytearray, name: bytes, body: memoryview) -> None:
    if name == b"uuid" and body[:16] == _C2PA_BOX:
        start = bytes(body[:256]).find(_JUMBF)
        found.add_manifest(body[start - 4 :] if start > 16 else body[16:])


def _is_c2pa(box: memoryview) -> bool:
    """Whether a JUMBF box is a C2PA manifest store: the type in its description begins so."""
    return box[4:8] == _JUMBF and b"jumd" in bytes(box[8:16]) and b"c2pa" in bytes(box[16:64])


_READERS: Final = {"JPEG": _jpeg, "PNG": _png, "WebP": _webp, "ISO": _iso}
