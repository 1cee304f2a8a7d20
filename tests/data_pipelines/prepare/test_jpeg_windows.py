import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.images import ImageError
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows


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
    whole = decode(data)
    for (x, y), window in zip(corners, cut_windows(data, corners, 256), strict=True):
        expected = whole[y : y + 256, x : x + 256][1:-1, 1:-1]
        np.testing.assert_array_equal(decode(window)[1:-1, 1:-1], expected)


def test_other_colours_cannot_be_moved() -> None:
    assert block_size(jpeg(mode="L")) is None
    assert block_size(jpeg(mode="CMYK")) is None
    assert block_size(b"no JPEG") is None
    assert block_size(b"") is None


@pytest.mark.parametrize(
    "damaged",
    [
        jpeg()[:-2000],
        jpeg()[:-2000] + b"\xff\xd9",  # ends early, but properly
        jpeg()[:-2000] + bytes(99) + b"\xff\xd9",
        b"\xff\xd8\xff\xe0 no more",
    ],
)
def test_missing_and_wrong_data_is_an_error(damaged: bytes) -> None:
    with pytest.raises(ImageError, match=r"\S") as caught:
        cut_windows(damaged, [(0, 0)], 256)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("marker", [b"\xff\xda", b"\xff\xd9"])
def test_a_few_stray_bytes_before_a_marker_harm_nothing(marker: bytes) -> None:
    data = jpeg()
    place = data.rindex(marker)
    stray = data[:place] + b"\x00\x11\x22" + data[place:]
    assert cut_windows(stray, [(16, 0)], 256) == cut_windows(data, [(16, 0)], 256)


def test_a_harmless_warning_before_the_windows_are_lost_is_an_error() -> None:
    damaged = bytearray(jpeg(quality=30))
    damaged[231], damaged[26392] = 0, 0xDA
    with pytest.raises(ImageError) as caught:
        cut_windows(bytes(damaged), [(0, 0), (64, 32)], 256)
    assert caught.value.reason == "undecodable"


def test_corners_within_a_block_are_an_error() -> None:
    with pytest.raises(ImageError):
        cut_windows(jpeg(), [(8, 0)], 256)


@given(st.data())
def test_any_damage_gives_windows_or_an_image_error(data: st.DataObject) -> None:
    damaged = bytearray(jpeg(quality=30))
    for position in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=8)):
        damaged[position] = data.draw(st.integers(0, 255))
    block_size(bytes(damaged))
    try:
        windows = cut_windows(bytes(damaged), [(0, 0), (64, 32)], 256)
    except ImageError as error:
        assert error.reason in ("undecodable", "out_of_memory")
    else:
        assert len(windows) == 2
