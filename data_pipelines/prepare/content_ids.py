"""Numbers that only copies of an image share, whatever stands around its pixels.

Of a JPEG file what is coded is compared: tables and scans as they are, but neither metadata nor
fill bytes nor what follows the image, such as the video of a motion photo or a second picture. That
needs no decoding, which takes longer than cutting windows. Of other files the decoded pixels are
compared, so that it makes no difference how they were compressed without loss, or in which format.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from PIL import Image

from data_pipelines.images import bands

_START: Final = b"\xff\xd8"
_END, _SCAN, _COMMENT = 0xD9, 0xDA, 0xFE
_METADATA: Final = frozenset({*range(0xE0, 0xF0), _COMMENT})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
# Readers skip what stands before a marker; any number of 0xFF may.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# In a scan, 0xFF 0x00 is data, and restart markers belong to it.
_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FILL = re.compile(rb"\xff\xff+")  # many times as fast as \xff{2,}


def content_id(data: bytes, image: Image.Image) -> int:
    """Returns a number that only copies of an image share, in [0, 2^63).

    Args:
        data: the file.
        image: opened from it, and one that `can_be_cropped`; of a JPEG file it is not decoded.

    Raises:
        ImageError: "undecodable" or "unsupported_pixels".
    """
    digest = hashlib.sha256()
    if data.startswith(_START):
        for piece in _coded(data):
            digest.update(piece)
    else:
        digest.update(f"{image.width} x {image.height}".encode())
        for band in bands(image):
            digest.update(band.data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def _coded(data: bytes) -> Iterator[bytes]:
    """Yields the segments and scans of a JPEG file that say what its pixels are."""
    position = len(_START)
    while (marker := _MARKER.search(data, position)) is not None:
        position, kind = marker.end(), data[marker.end() - 1]
        if kind in _ALONE:
            continue
        if kind == _END:
            yield marker[0]
            return
        end = position + int.from_bytes(data[position : position + 2], "big")
        if kind == _SCAN:
            after = _END_OF_SCAN.search(data, end)
            end = len(data) if after is None else after.start()
        if kind not in _METADATA:
            piece = data[marker.start() : end]
            yield _without_fill(piece) if kind == _SCAN else piece
        position = max(position, end)


def _without_fill(scan: bytes) -> bytes:
    """Returns a scan without fill bytes before its restart markers and its end."""
    return _FILL.sub(b"\xff", scan).rstrip(b"\xff")
