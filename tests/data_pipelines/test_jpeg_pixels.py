"""libjpeg-turbo gives Pillow's pixels, or leaves the file to it."""

import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines import jpeg_pixels, libjpeg
from data_pipelines.images import ImageError, decode_image

pytestmark = pytest.mark.skipif(not libjpeg.is_available(), reason="libjpeg-turbo is absent")


def picture(height=45, width=61):
    return np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)


def jpeg(mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(picture()).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [5, 95])
def test_pixels_are_those_of_pillow(sampling, progressive, quality):
    data = jpeg(subsampling=sampling, progressive=progressive, quality=quality)
    pixels = jpeg_pixels.decode(data)
    np.testing.assert_array_equal(pixels, by_pillow(data))
    np.testing.assert_array_equal(decode_image(data), pixels)


def test_real_photographs_decode_as_by_pillow(real_data):
    paths = sorted(real_data.rglob("*.jpg"))[::97]
    assert len(paths) > 10
    decoded = 0
    for path in paths:
        data = path.read_bytes()
        pixels = jpeg_pixels.decode(data)
        if pixels is not None:
            decoded += 1
            np.testing.assert_array_equal(pixels, by_pillow(data), err_msg=path.name)
    assert decoded > len(paths) / 2


def test_it_decodes_into_the_place_that_is_given():
    data, out = jpeg(), np.zeros((45, 61, 3), np.uint8)
    assert jpeg_pixels.decode(data, out) is out
    np.testing.assert_array_equal(out, by_pillow(data))
    assert jpeg_pixels.decode(data, np.zeros((45, 60, 3), np.uint8)) is None


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_are_left_to_pillow(mode):
    assert jpeg_pixels.decode(jpeg(mode)) is None
    assert decode_image(jpeg(mode)).shape == (45, 61, 3)


def test_damage_is_left_to_who_tells_of_it():
    data = jpeg(quality=95)
    assert jpeg_pixels.decode(data[: len(data) // 2]) is None
    assert jpeg_pixels.decode(b"\xff\xd8\xff") is None
    assert jpeg_pixels.decode(b"\x89PNG") is None
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2])


def test_a_library_that_decodes_otherwise_is_not_used(monkeypatch):
    data, right = jpeg(), by_pillow(jpeg())
    monkeypatch.setattr(jpeg_pixels, "_decode", lambda *_: np.zeros((45, 61, 3), np.uint8))
    jpeg_pixels._is_pillows.cache_clear()
    try:
        assert jpeg_pixels.decode(data) is None
        np.testing.assert_array_equal(decode_image(data), right)
    finally:
        jpeg_pixels._is_pillows.cache_clear()
