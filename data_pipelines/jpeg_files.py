"""JPEG files that stop early: whether all of the image is there.

A copy that broke off, a card that was read out after deleting, a preallocated file that was never
filled: they lack the end marker, and often zeros follow. If the coded image is whole, nothing is
lost, and it is read as if the marker were there. If data is missing or wrong, decoders paint the
rest in some colour and at most warn; here such a file is damaged, for everyone who reads it.
"""

import re
from typing import Final

from data_pipelines import libjpeg

_END: Final = b"\xff\xd9"
_START_MARKER, _SCAN_MARKER, _END_MARKER = 0xD8, 0xDA, 0xD9
# Within coded data FF 00 is a byte and D0..D7 are restarts; more FF before a marker are fill bytes.
_MARKER: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_NO_LENGTH: Final = 0x01
# Some cameras leave a few bytes between the image and the end of the file.
_LEFT_OVER: Final = re.compile(r"\b(\d+) extraneous bytes before marker 0xd9")
_FEW: Final = 69
# Warnings about a header say nothing of the image behind it; restarts stand within the image.
_HEADER: Final = re.compile(
    "extraneous bytes before marker 0x(?!d[0-7])|Invalid SOS parameters|Adobe color|JFIF revision"
)


def completed(data: bytes) -> bytes:
    """Returns a JPEG file with its end marker: itself, or without the zeros in the marker's place.

    What comes before is never changed; what follows the image may be dropped with the zeros.
    """
    end, has_marker = _end_of_image(data)
    return data if end is None or has_marker else _without_padding(data[:end]) + _END


def damage(data: bytes) -> str:
    """What is missing or wrong in the coded image of a `completed` file; "" if nothing is known.

    What keeps the image from being decoded at all is left to the decoder, and nothing is known
    where libjpeg-turbo is not installed.
    """
    if not libjpeg.is_available():
        return ""
    try:
        return damage_behind(libjpeg.first_warning(data), data)
    except libjpeg.JpegError:
        return ""


def damage_behind(warning: str, data: bytes) -> str:
    """Whether the first warning of libjpeg-turbo tells of damage to the image: the warning, or "".

    Raises:
        JpegError: the file cannot be read.
    """
    if left := _LEFT_OVER.search(warning):
        end, has_marker = _end_of_image(data)
        if end is not None and has_marker:
            warning = libjpeg.first_warning(_without_rest(data[:end], int(left[1])) + _END)
    return "" if is_left_over(warning) or _HEADER.search(warning) else warning


def is_left_over(warning: str) -> bool:
    """Whether a warning tells of nothing but a few bytes behind the image."""
    left = _LEFT_OVER.search(warning)
    return left is not None and int(left[1]) <= _FEW


def _without_rest(data: bytes, left: int) -> bytes:
    """Drops what stands behind the image, whatever it stands for: restarts and data may follow."""
    if data.endswith(b"\0\0"):  # in the place of missing data zeros decode to something
        return _without_padding(data)
    return data[: len(data) - left]


def _without_padding(data: bytes) -> bytes:
    """Drops zeros at the end but one, which may belong to the image's last byte."""
    return data[: len(data.rstrip(b"\0")) + 1]


def _end_of_image(data: bytes) -> tuple[int | None, bool]:
    """Where the first image of a file ends, and whether a marker says so.

    None where the markers make no sense, or no scan begins: decoders will say how.
    """
    position, has_scan = 2, False
    while match := _MARKER.search(data, position):
        marker, after = match[1][0], match.end()
        if marker in (_START_MARKER, _END_MARKER):  # another image begins, or this one ends
            return (match.start() if has_scan else None), marker == _END_MARKER
        if marker == _NO_LENGTH:
            position = after
            continue
        length = int.from_bytes(data[after : after + 2], "big")
        if length < 2:
            return None, False
        has_scan |= marker == _SCAN_MARKER
        position = after + length
    return (len(data) if has_scan and position <= len(data) else None), False
