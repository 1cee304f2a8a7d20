"""The pieces that image files are made of: no pixels, no copies, no more than so many.

Every walk ends at the first piece that makes no sense, at the last one before the pixels where the
format has its metadata there, or after `MAX_PIECES`.
"""

from collections.abc import Callable, Iterator
from typing import Final

MAX_PIECES: Final = 2**16
"""More pieces of a file are not looked at; PNG files of 500 MB have as many."""

Piece = tuple[bytes, memoryview]
"""The name of a segment, chunk or box, and what is in it (cut where the file ends)."""

_SCAN: Final = 0xDA
_NO_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})


def container_of(data: bytes) -> str:
    """Names the container by its first bytes, "" if it is none that is walked."""
    if data[:2] == b"\xff\xd8":
        return "JPEG"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    return "ISO" if data[4:8] == b"ftyp" else ""


def pieces_of(data: bytes) -> Iterator[Piece]:
    """Yields the pieces of a file of a known container, none of another."""
    walk = _WALKS.get(container_of(data))
    if walk is None:
        return
    for count, piece in enumerate(walk(memoryview(data))):
        if count == MAX_PIECES:
            return
        yield piece


def _jpeg(data: memoryview) -> Iterator[Piece]:
    """Segments up to the first scan, by their marker's second byte."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _SCAN:
            return
        if marker == 0xFF or marker in _NO_LENGTH:  # a fill byte, or a marker alone
            position += 1 if marker == 0xFF else 2
            yield b"", data[:0]  # counts, or a file of fill bytes takes long
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            return
        yield bytes([marker]), data[position + 4 : position + 2 + length]
        position += 2 + length


def _png(data: memoryview) -> Iterator[Piece]:
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name = bytes(data[position + 4 : position + 8])
        if name == b"IEND":
            return
        yield name, data[position + 8 : position + 8 + length]
        position += 12 + length


def _webp(data: memoryview) -> Iterator[Piece]:
    position = 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        yield bytes(data[position : position + 4]), data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2


def _iso(data: memoryview) -> Iterator[Piece]:
    """Boxes of the outermost level."""
    position = 0
    while position + 8 <= len(data):
        length, header = int.from_bytes(data[position : position + 4], "big"), 8
        if length == 1:
            length, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        elif length == 0:  # up to the end
            length = len(data) - position
        if length < header:
            return
        name = bytes(data[position + 4 : position + 8])
        yield name, data[position + header : position + length]
        position += length


_WALKS: Final[dict[str, Callable[[memoryview], Iterator[Piece]]]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "WebP": _webp,
    "ISO": _iso,
}
