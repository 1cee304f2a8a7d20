import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.images import decode_image
from data_pipelines.photos import PhotoInfo, Reject, choose_windows, read_photo

LIMITS = {"max_windows": 4, "seed": 0, "max_pixels": 10**6}


def accepted(path: Path, **changes: int) -> tuple[PhotoInfo, list[bytes]]:
    result = read_photo(path, **{**LIMITS, **changes})
    assert not isinstance(result, Reject), result
    return result


@given(st.integers(256, 5000), st.integers(256, 5000), st.integers(1, 9), st.integers(0, 99))
def test_windows_are_aligned_inside_and_apart(width: int, height: int, n: int, seed: int) -> None:
    corners = choose_windows(width, height, n, np.random.default_rng(seed))
    assert len(corners) == min(n, (width // 256) * (height // 256))
    for i, (x, y) in enumerate(corners):
        assert x % 16 == y % 16 == 0
        assert x + 256 <= width
        assert y + 256 <= height
        assert all(abs(x - a) >= 256 or abs(y - b) >= 256 for a, b in corners[:i])


def test_windows_are_the_photos_own_pixels(make_photo: Callable[..., Path]) -> None:
    path = make_photo("a.jpg", size=(700, 600), main={0x0112: 6})
    info, windows = accepted(path)
    pixels = decode_image(path)
    assert (info.width, info.height) == (700, 600)
    assert len(windows) == 4
    for (x, y), window in zip(info.corners, windows, strict=True):
        decoded = np.asarray(Image.open(io.BytesIO(window)))
        np.testing.assert_array_equal(decoded, pixels[y : y + 256, x : x + 256])


def test_the_choice_follows_seed_and_content(make_photo: Callable[..., Path]) -> None:
    path = make_photo("a.jpg", size=(900, 900))
    copy = path.with_name("copy.jpg")
    copy.write_bytes(path.read_bytes())
    first = accepted(path, max_windows=2)
    assert accepted(copy, max_windows=2) == first
    others = {accepted(path, max_windows=2, seed=seed)[0].corners for seed in range(8)}
    assert len(others) > 1


def write(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_every_reason_to_reject(tmp_path: Path, make_photo: Callable[..., Path]) -> None:
    def reason(path: Path, **changes: int) -> str:
        result = read_photo(path, **{**LIMITS, **changes})
        assert isinstance(result, Reject)
        assert result.detail
        assert "\n" not in result.detail
        return result.reason

    grey = Image.new("RGB", (256, 256))
    no_tags = Image.Exif()
    no_tags[0x010F] = "   "
    good = make_photo("good.jpg", size=(300, 300))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-4000])
    assert reason(tmp_path / "empty.jpg") == "empty_file"
    assert reason(tmp_path / "text.jpg") == "not_an_image"
    assert reason(tmp_path / "cut.jpg") == "undecodable"
    assert reason(tmp_path / "absent.jpg") == "unreadable"
    assert reason(make_photo("small.jpg", size=(256, 255))) == "too_small"
    assert reason(good, max_pixels=300 * 300 - 1) == "too_many_pixels"
    assert reason(write(tmp_path / "plain.jpg", grey)) == "no_exif"
    assert reason(write(tmp_path / "blank.jpg", grey, exif=no_tags)) == "no_tags"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_odd_modes_are_photos_too(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    path = write(tmp_path / "a.jpg", Image.new(mode, (256, 256)), exif=exif)
    info, windows = accepted(path)
    assert info.values == {"Make": "Canon"}
    assert np.asarray(Image.open(io.BytesIO(windows[0]))).shape == (256, 256, 3)
