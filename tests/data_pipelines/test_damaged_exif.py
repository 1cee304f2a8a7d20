"""EXIF that other readers stop at: one wild field costs no other."""

import hashlib
import io
import struct
from collections.abc import Iterable

import pytest
from PIL import Image

from data_pipelines.exif import Exif, load_exif

Entry = tuple[int, int, int, bytes | int]
MAIN: tuple[Entry, ...] = ((0x010F, 2, 6, b"Canon\0"), (0x0110, 2, 6, b"EOS 1\0"))
CAMERA: dict[str, Entry] = {
    "ExposureTime": (0x829A, 5, 1, struct.pack("<LL", 1, 60)),
    "FNumber": (0x829D, 5, 1, struct.pack("<LL", 28, 10)),
    "PhotographicSensitivity": (0x8827, 3, 1, 200),
    "DateTimeOriginal": (0x9003, 2, 20, b"2022:05:01 10:00:00\0"),
    "FocalLengthIn35mmFilm": (0xA405, 3, 1, 75),
}


def jpeg_with_exif(block: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=block)
    return file.getvalue()


def directory(entries: Iterable[Entry], start: int, following: int = 0) -> bytes:
    """A directory of a little-endian block that starts there; numbers are values or places."""
    entries = sorted(entries)
    place = start + 2 + 12 * len(entries) + 4
    head, rest = struct.pack("<H", len(entries)), b""
    for tag, kind, count, value in entries:
        head += struct.pack("<HHL", tag, kind, count)
        if isinstance(value, int):
            head += struct.pack("<L", value)
        elif len(value) <= 4:
            head += value.ljust(4, b"\0")
        else:
            head += struct.pack("<L", place + len(rest))
            rest += value
    return head + struct.pack("<L", following) + rest


def block_of(
    camera: Iterable[Entry] = tuple(CAMERA.values()),
    main: Iterable[Entry] = MAIN,
    following: int = 0,
) -> bytes:
    """An EXIF block as bytes, as odd as its entries are."""
    size = len(directory([*main, (0x8769, 4, 1, 0)], 8))
    first = directory([*main, (0x8769, 4, 1, 8 + size)], 8, following)
    return b"Exif\0\0II*\0\x08\0\0\0" + first + directory(camera, 8 + size)


WILD: dict[str, tuple[list[Entry], list[Entry]]] = {
    "none": ([], []),
    "notes of 4 GB": ([(0x927C, 7, 0xFFFFFFF0, 8)], []),
    "damaged notes": ([(0x927C, 7, 200, b"Nikon\0\2\x10" + b"\xff" * 192)], []),
    "program of 4 GB": ([], [(0x0131, 2, 0xFFFFFFF0, 8)]),
    "bias beyond the end": ([(0x9204, 10, 1, 90_000)], []),
    "aperture without a value": ([(0x9202, 5, 0, 0)], []),
    "interoperability beyond the end": ([(0xA005, 4, 1, 90_000)], []),
}


@pytest.mark.parametrize("name", WILD)
def test_one_wild_field_costs_no_other(name: str) -> None:
    camera, main = WILD[name]
    block = block_of([*CAMERA.values(), *camera], [*MAIN, *main])
    exif = load_exif(jpeg_with_exif(block))
    assert set(CAMERA) | {"Make", "Model"} <= exif.raw.keys()
    assert not exif.problem and exif.digest == hashlib.sha256(block).hexdigest()


@pytest.mark.parametrize("field", ["ExposureTime", "FNumber"])
def test_a_field_whose_value_lies_elsewhere_is_missing_alone(field: str) -> None:
    entries = CAMERA | {field: (*CAMERA[field][:3], 90_000)}
    raw = load_exif(jpeg_with_exif(block_of(entries.values()))).raw
    assert CAMERA.keys() - raw.keys() == {field}


def test_a_thumbnail_s_directory_that_is_not_there_costs_nothing() -> None:
    raw = load_exif(jpeg_with_exif(block_of(following=90_000))).raw
    assert CAMERA.keys() <= raw.keys()


def test_the_empty_place_for_exif_is_none() -> None:
    for block in (b"Exif\0\0", b"Exif\0\0" + bytes(40)):
        assert load_exif(jpeg_with_exif(block)) == Exif({}, problem="no_exif")


def test_exif_of_several_segments_is_one() -> None:
    comment = (0x9286, 7, 90_000, b"ASCII\0\0\0".ljust(90_000, b"x"))
    block = block_of([*CAMERA.values(), comment])
    data = jpeg_with_exif(block[:60_000])
    rest = b"Exif\0\0" + block[60_000:]
    end = data.index(b"Exif") + 60_000
    whole = data[:end] + b"\xff\xe1" + struct.pack(">H", len(rest) + 2) + rest + data[end:]
    assert CAMERA.keys() <= load_exif(whole).raw.keys()
