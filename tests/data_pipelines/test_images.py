import io
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.images import ImageError, decode_image, find_images, open_image, read_bytes
from exif_jax.errors import UserError


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reason_of(source: Path | bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(source, **options)
    assert str(caught.value)
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        checksum = zlib.crc32(name + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + name + body + checksum

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    header = chunk(b"IHDR", size + b"\x08\x02\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_rgb_pixels_are_exact() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    decoded = decode_image(encode(Image.fromarray(pixels)))
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, pixels)


def test_grey_is_repeated() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    decoded = decode_image(encode(Image.fromarray(grey)))
    np.testing.assert_array_equal(decoded, np.repeat(grey[..., None], 3, axis=2))
    one_bit = Image.new("1", (4, 4), 1)
    assert (decode_image(encode(one_bit)) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_are_scaled_not_clipped(kind: str) -> None:
    wide = np.array([[0, 257, 32896, 65535]], np.uint16)
    decoded = decode_image(encode(Image.fromarray(wide), kind))
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 1, 128, 255])


def test_pixels_without_a_fixed_range_are_refused() -> None:
    assert reason_of(encode(Image.new("F", (4, 4), 0.5), "TIFF")) == "unsupported_pixels"
    assert reason_of(encode(Image.new("I", (4, 4), 10**6), "TIFF")) == "unsupported_pixels"


def test_cmyk_and_palette_become_rgb() -> None:
    cmyk = decode_image(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    np.testing.assert_array_equal(cmyk[0, 0], [255, 0, 0])
    assert decode_image(encode(Image.new("CMYK", (16, 16)), "JPEG")).shape == (16, 16, 3)
    palette = Image.new("RGB", (8, 8), (0, 0, 255)).quantize(4)
    np.testing.assert_array_equal(decode_image(encode(palette))[0, 0], [0, 0, 255])


def test_transparency_is_composited_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (decode_image(encode(clear)) == 255).all()
    solid = Image.new("RGBA", (4, 4), (10, 20, 30, 255))
    np.testing.assert_array_equal(decode_image(encode(solid))[0, 0], [10, 20, 30])
    assert (decode_image(encode(Image.new("LA", (4, 4), (0, 0)))) == 255).all()
    palette = Image.new("P", (4, 4))
    assert (decode_image(encode(palette, transparency=0)) == 255).all()
    assert (decode_image(encode(palette, transparency=b"\0\xff")) == 255).all()
    keyed = Image.new("RGB", (4, 4), (1, 2, 3))
    assert (decode_image(encode(keyed, transparency=(1, 2, 3))) == 255).all()


def test_orientation_is_not_applied(make_photo: Callable[..., Path]) -> None:
    upright = make_photo("a.jpg", size=(64, 32))
    turned = make_photo("b.jpg", size=(64, 32), main={0x0112: 6})
    np.testing.assert_array_equal(decode_image(turned), decode_image(upright))


def test_bombs_are_refused_by_their_header() -> None:
    assert reason_of(png_header(60_000, 60_000)) == "too_many_pixels"
    # Pillow would only warn here, and warnings are errors in these tests.
    assert reason_of(png_header(12_000, 13_000)) == "too_many_pixels"
    assert reason_of(encode(Image.new("L", (20, 20))), max_pixels=399) == "too_many_pixels"


def test_damage_is_named(tmp_path: Path, make_photo: Callable[..., Path]) -> None:
    data = make_photo("a.jpg").read_bytes()
    assert reason_of(data[: len(data) // 2]) == "undecodable"
    assert reason_of(b"a text") == "not_an_image"
    assert reason_of(data[:20]) in ("not_an_image", "undecodable")
    assert reason_of(b"") == "empty_file"
    assert reason_of(tmp_path / "absent.jpg") == "unreadable"
    assert reason_of(tmp_path) == "unreadable"
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    assert reason_of(pipe) == "unreadable"


def test_large_files_are_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x" * 100)
    with pytest.raises(ImageError, match="more than 99 bytes"):
        read_bytes(path, max_bytes=99)
    assert len(read_bytes(path, max_bytes=100)) == 100


def test_opening_does_not_decode() -> None:
    image = open_image(png_header(100, 50))
    assert image.size == (100, 50)


def test_threads_may_decode_odd_files_at_once() -> None:
    sources = [png_header(12_000, 13_000), b"text", encode(Image.new("L", (9, 9)))] * 40

    def outcome(data: bytes) -> str:
        try:
            return str(decode_image(data).shape)
        except ImageError as error:
            return error.reason

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(outcome, sources))
    assert outcomes == ["too_many_pixels", "not_an_image", "(9, 9, 3)"] * 40


def test_images_are_found_by_extension_in_any_case(tmp_path: Path) -> None:
    for name in ("b.JPG", "deep/er/a.jpeg", "c.txt", "d.PnG", "jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = find_images([tmp_path, tmp_path / "deep", tmp_path / "c.txt"])
    assert [path.name for path in found] == ["b.JPG", "c.txt", "d.PnG", "a.jpeg"]


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such file or directory"):
        find_images([tmp_path / "absent"])
