import ctypes
import ctypes.util
import io
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.images import ImageError
from data_pipelines.ingest import jpeg_windows
from data_pipelines.ingest.jpeg_windows import block_size, check_library, cut_windows
from exif_jax.errors import UserError


def jpeg(size: tuple[int, int] = (320, 288), mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("subsampling", "block"), [("4:4:4", (8, 8)), ("4:2:2", (16, 8)), ("4:2:0", (16, 16))]
)
def test_windows_are_the_same_blocks(subsampling: str, block: tuple[int, int]) -> None:
    data = jpeg(subsampling=subsampling)
    assert block_size(data) == block
    corners = [(0, 0), (3 * block[0], block[1]), (64, 32)]
    windows, warning = cut_windows(data, corners, 256)
    assert warning == ""
    whole = decode(data)
    for (x, y), window in zip(corners, windows, strict=True):
        expected = whole[y : y + 256, x : x + 256][2:-2, 2:-2]
        np.testing.assert_array_equal(decode(window)[2:-2, 2:-2], expected)


def test_other_colours_cannot_be_moved() -> None:
    assert block_size(jpeg(mode="L")) is None
    assert block_size(jpeg(mode="CMYK")) is None
    assert block_size(b"no JPEG") is None
    assert block_size(b"") is None


def test_missing_data_is_a_warning_and_other_damage_an_error() -> None:
    data = jpeg()
    windows, warning = cut_windows(data[:-2000], [(0, 0)], 256)
    assert len(windows) == 1
    assert "Premature end" in warning
    with pytest.raises(ImageError, match=r"\S") as caught:
        cut_windows(b"\xff\xd8\xff\xe0 no more", [(0, 0)], 256)
    assert caught.value.reason == "undecodable"
    with pytest.raises(ImageError):
        cut_windows(data, [(8, 0)], 256)  # not a multiple of the block


@given(st.data())
def test_any_damage_gives_windows_or_an_image_error(data: st.DataObject) -> None:
    damaged = bytearray(jpeg(quality=30))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    block_size(bytes(damaged))
    try:
        windows, _ = cut_windows(bytes(damaged), [(0, 0), (64, 32)], 256)
    except ImageError as error:
        assert error.reason in ("undecodable", "out_of_memory")
    else:
        assert len(windows) == 2


def test_a_missing_library_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        return None

    monkeypatch.setattr(jpeg_windows.importlib.util, "find_spec", absent)
    monkeypatch.setattr(ctypes.util, "find_library", absent)
    jpeg_windows._library.cache_clear()
    with pytest.raises(UserError, match=r"pip install turbojpeg.*--encoding pixels"):
        check_library()
    monkeypatch.undo()
    jpeg_windows._library.cache_clear()
    if sys.version_info < (3, 14):
        check_library()
