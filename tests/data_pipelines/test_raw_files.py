import io
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.images import ImageError, decode_image, open_image
from data_pipelines.raw_files import raw_file
from tests.data_pipelines.jpegs import scene
from tests.data_pipelines.tiffs import PHOTOS, RAW


@pytest.mark.parametrize("name", RAW)
def test_a_raw_file_is_refused_with_a_reason_of_its_own(name: str) -> None:
    with pytest.raises(
        ImageError, match=r"raw file, or one like it \(.+\): only a preview"
    ) as caught:
        open_image(RAW[name])
    assert caught.value.reason == "raw_file"


@pytest.mark.parametrize("name", PHOTOS)
def test_an_ordinary_photo_is_taken(name: str) -> None:
    assert raw_file(PHOTOS[name]) == ""
    assert decode_image(PHOTOS[name]).shape == (280, 300, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg", "tiff_adobe_deflate"])
@pytest.mark.parametrize("pages", [1, 3])
def test_photos_that_pillow_writes_are_taken(compression: str | None, pages: int) -> None:
    file = io.BytesIO()
    more = [scene(400, 300, seed=seed) for seed in range(1, pages)]
    scene().save(file, "TIFF", compression=compression, save_all=True, append_images=more)
    assert decode_image(file.getvalue()).shape == (288, 320, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_other_formats_are_no_raw_files(kind: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    assert raw_file(file.getvalue()) == ""


@given(st.binary(max_size=300), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0"]))
def test_any_bytes_get_an_answer(data: bytes, start: bytes) -> None:
    assert isinstance(raw_file(start + data), str)


@given(st.data())
def test_any_damage_gets_an_answer(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from([*RAW.values()])))
    tail = len(damaged) - 400
    for position in data.draw(st.lists(st.integers(max(0, tail), len(damaged) - 1), max_size=9)):
        damaged[position] = data.draw(st.integers(0, 255))
    assert isinstance(raw_file(bytes(damaged)), str)


def test_a_maze_of_directories_takes_no_time() -> None:
    many = 2**16 - 1
    entry = struct.pack("<HHLL", 330, 4, 1000, 8)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", many) + many * entry
    data += struct.pack("<1000L", *range(10, 4010, 4))
    started = time.perf_counter()
    raw_file(data)
    assert time.perf_counter() - started < 5
