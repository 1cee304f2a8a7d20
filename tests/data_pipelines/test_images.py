import io
import os
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from data_pipelines import heic, images
from data_pipelines.errors import UserError
from data_pipelines.images import (
    ImageError,
    can_be_cropped,
    decode_image,
    find_images,
    open_image,
    read_bytes,
    to_rgb,
)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reason_of(source: Path | bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(source, **options)
    assert str(caught.value)
    return caught.value.reason


def heic_file(pixels: np.ndarray, **options: object) -> bytes:
    pytest.importorskip("pillow_heif", reason="HEIC needs the optional pillow-heif")
    assert heic.register_opener()
    lossless = {"quality": -1, "chroma": 444}
    return encode(Image.fromarray(pixels), heic.FORMAT, **lossless, **options)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([3 * x, 5 * y, x + y], -1).astype(np.uint8)


def ftyp(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return (4 + len(body)).to_bytes(4, "big") + body


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


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rgba = np.random.default_rng(1).integers(0, 256, (37, 20, 4), np.uint8)
    files = [
        encode(Image.fromarray(rgba)),
        encode(Image.fromarray(rgba).quantize(9)),
        encode(Image.fromarray(rgba[..., :3]), transparency=tuple(map(int, rgba[0, 0, :3]))),
        encode(Image.fromarray(rgba[..., 0].astype(np.uint16) * 7)),
        encode(Image.fromarray(rgba[..., :3]).convert("CMYK"), "JPEG"),
    ]
    whole = [decode_image(file) for file in files]
    monkeypatch.setattr(images, "_BAND", 100)
    for file, pixels in zip(files, whole, strict=True):
        np.testing.assert_array_equal(decode_image(file), pixels)


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


@pytest.mark.parametrize("brand", [b"qt  ", b"mp42", b"isom"])
def test_a_film_under_the_name_of_a_photo_is_no_image(tmp_path: Path, brand: bytes) -> None:
    film = b"\0\0\0\x18ftyp" + brand + bytes(4) + brand + b"\0\0\0\x08moov" + bytes(100)
    for name in ("IMG_1.HEIC", "IMG_1.jpg"):
        (tmp_path / name).write_bytes(film)
        assert reason_of(tmp_path / name) == "not_an_image"


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
    names = ("b.JPG", "deep/er/a.jpeg", "c.txt", "d.PnG", "jpg", "e.HEIC", "f.avif")
    for name in (*names, "._b.JPG", "__MACOSX/b.JPG"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = find_images([tmp_path, tmp_path / "deep", tmp_path / "c.txt"])
    assert [path.name for path in found] == [
        "b.JPG",
        "c.txt",
        "d.PnG",
        "a.jpeg",
        "e.HEIC",
        "f.avif",
    ]


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such file or directory"):
        find_images([tmp_path / "absent"])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_pixels_are_where_the_sensor_had_them(orientation: int) -> None:
    pixels = smooth(48, 80)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = heic_file(pixels, exif=exif.tobytes())
    turned = open_image(data)
    assert turned.size == ((80, 48) if orientation < 5 else (48, 80))
    decoded = decode_image(data)
    assert decoded.flags.c_contiguous
    assert decoded.shape == (48, 80, 3)
    np.testing.assert_array_equal(decoded, decode_image(heic_file(pixels)))
    assert abs(decoded.astype(int) - pixels).max() <= 3  # YCbCr of 8 bits


def test_heic_bombs_are_refused_by_their_header() -> None:
    data = heic_file(smooth(64, 128))
    assert reason_of(data, max_pixels=64 * 128 - 1) == "too_many_pixels"
    # A container that states less than the coded picture has must not decode the whole.
    small = bytearray(data)
    at = data.find(b"ispe") + 8
    while at >= 8:
        small[at : at + 8] = (32).to_bytes(4, "big") * 2
        at = data.find(b"ispe", at) + 8
    assert reason_of(bytes(small)) == "undecodable"
    assert reason_of(data[: len(data) // 2]) in ("not_an_image", "undecodable")


def test_heic_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(heic.importlib, "import_module", fail)
    monkeypatch.delitem(Image.OPEN, heic.FORMAT, raising=False)
    for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        with pytest.raises(ImageError, match=r"pip install 'exif-jax\[heic\]'") as caught:
            open_image(ftyp(brand, b"mif1", b"heic"))
        assert caught.value.reason == "heic_not_supported"
    assert reason_of(ftyp(b"mp42", b"isom")) == "not_an_image"
    assert reason_of(ftyp(b"mif1", b"avif")) != "heic_not_supported"


def test_the_heic_opener_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Package:
        @staticmethod
        def register_heif_opener(**options: object) -> None:
            calls.append(options)
            Image.OPEN[heic.FORMAT] = (None, None)

    monkeypatch.delitem(Image.OPEN, heic.FORMAT, raising=False)
    monkeypatch.setattr(heic.importlib, "import_module", lambda name: Package)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: heic.register_opener(), range(40)))
    assert len(calls) == 1
    assert calls[0]["decode_threads"] == 1
    assert calls[0]["thumbnails"] is False


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_pixels_are_where_the_sensor_had_them() -> None:
    pixels = smooth(48, 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_image(encode(Image.fromarray(pixels), "AVIF", quality=100))
    turned = encode(Image.fromarray(pixels), "AVIF", quality=100, exif=exif)
    np.testing.assert_array_equal(decode_image(turned), upright)
    assert abs(upright.astype(int) - pixels).max() <= 8  # colour is coded at half the size
    assert reason_of(turned, max_pixels=48 * 80 - 1) == "too_many_pixels"
    assert reason_of(turned[: len(turned) // 2]) in ("not_an_image", "undecodable")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1", "YCbCr"])
def test_a_part_decodes_as_it_does_within_the_whole(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 4), np.uint8)
    image = Image.fromarray(pixels)
    image = (
        image.convert("RGB").convert(mode) if mode not in ("RGBA", "LA") else image.convert(mode)
    )
    assert can_be_cropped(image)
    whole = to_rgb(image)
    np.testing.assert_array_equal(to_rgb(image, (16, 8, 70, 55)), whole[8:55, 16:70])


def test_where_all_values_decide_no_part_is_decoded() -> None:
    assert not can_be_cropped(Image.new("I;16", (8, 8)))
    assert not can_be_cropped(Image.new("F", (8, 8)))
