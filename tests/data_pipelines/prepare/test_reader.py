import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.images import decode_image
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import (
    PreparedPhoto,
    Reject,
    choose_windows,
    from_row,
    read_photo,
    to_row,
)
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.targets import RELEASED

MakePhoto = Callable[..., Path]


def accepted(path: Path, sidecar: Entry | None = None, **changes: Any) -> PreparedPhoto:
    result = read_photo(path.read_bytes(), Options(**changes), name=path.name, sidecar=sidecar)
    assert isinstance(result, PreparedPhoto), result
    return result


def reason(path: Path, sidecar: Entry | None = None, **changes: Any) -> str:
    result = read_photo(path.read_bytes(), Options(**changes), name=path.name, sidecar=sidecar)
    assert isinstance(result, Reject), result
    assert result.detail
    assert "\n" not in result.detail
    return result.reason


def pixels_of(window: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(window)) as image:
        return np.asarray(image)


@given(st.integers(256, 5000), st.integers(256, 5000), st.integers(1, 9), st.integers(0, 99))
def test_windows_are_aligned_inside_and_apart(width: int, height: int, n: int, seed: int) -> None:
    corners = choose_windows(width, height, n, np.random.default_rng(seed), align=(32, 16))
    assert len(corners) == min(n, (width // 256) * (height // 256))
    for i, (x, y) in enumerate(corners):
        assert x % 32 == y % 16 == 0
        assert x + 256 <= width
        assert y + 256 <= height
        assert all(abs(x - a) >= 256 or abs(y - b) >= 256 for a, b in corners[:i])


@pytest.mark.parametrize("encoding", ["dct", "pixels"])
def test_windows_are_the_photos_own_pixels(make_photo: MakePhoto, encoding: str) -> None:
    path = make_photo("a.jpg", size=(700, 600), main={piexif.ImageIFD.Orientation: 6})
    photo = accepted(path, encoding=encoding)
    pixels = decode_image(path).astype(int)
    assert (photo.width, photo.height) == (700, 600)
    assert len(photo.windows) == 4
    # Colour is interpolated over the border of a window that was moved without decoding.
    inner = slice(1, -1) if encoding == "dct" else slice(None)
    for (x, y), window in zip(photo.corners, photo.windows, strict=True):
        own = pixels[y : y + 256, x : x + 256]
        np.testing.assert_array_equal(pixels_of(window)[inner, inner], own[inner, inner])
        assert np.abs(pixels_of(window) - own).max() < 48


def test_windows_keep_the_quantisation_and_nothing_of_the_metadata(make_photo: MakePhoto) -> None:
    path = make_photo("a.jpg", size=(600, 300), main={piexif.ImageIFD.Artist: "Jane"})
    with Image.open(path) as whole:
        tables = whole.quantization  # type: ignore[attr-defined]
    for window in accepted(path).windows:
        with Image.open(io.BytesIO(window)) as image:
            assert image.quantization == tables  # type: ignore[attr-defined]
            assert image.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert b"Exif" not in window
        assert b"Jane" not in window


def test_the_choice_follows_seed_and_content(make_photo: MakePhoto) -> None:
    path = make_photo("a.jpg", size=(900, 900))
    copy = path.with_name("copy.jpg")
    copy.write_bytes(path.read_bytes())
    first = accepted(path, windows_per_photo=2)
    assert accepted(copy, windows_per_photo=2) == first
    others = {accepted(path, windows_per_photo=2, seed=seed).corners for seed in range(8)}
    assert len(others) > 1


def write(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def noise(size: tuple[int, int] = (256, 256)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))


def test_reasons_to_reject(tmp_path: Path, make_photo: MakePhoto) -> None:
    good = make_photo("good.jpg", size=(300, 300))
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-4000])
    assert reason(tmp_path / "empty.jpg") == "empty_file"
    assert reason(tmp_path / "text.jpg") == "not_an_image"
    assert reason(tmp_path / "cut.jpg") == "undecodable"
    assert reason(tmp_path / "cut.jpg", encoding="pixels") == "undecodable"
    (tmp_path / "header.jpg").write_bytes(good.read_bytes()[:40])
    assert reason(tmp_path / "header.jpg") == "undecodable"
    png = write(tmp_path / "cut.png", noise())
    png.write_bytes(png.read_bytes()[:-9000])
    assert reason(png) == "no_exif"
    assert reason(png, reject=()) == "undecodable"
    assert reason(make_photo("small.jpg", size=(256, 255))) == "too_small"
    assert reason(good, min_side=301) == "too_small"
    assert reason(good, max_pixels=300 * 300 - 1) == "too_many_pixels"
    assert reason(good, max_bytes=good.stat().st_size - 1) == "too_many_bytes"
    floats = Image.fromarray(np.zeros((256, 256), np.float32))
    exif = make_exif("Canon")
    assert reason(write(tmp_path / "float.tif", floats, exif=exif)) == "unsupported_pixels"


def make_exif(make: str) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = make
    return exif


def test_reasons_that_are_switches(tmp_path: Path, make_photo: MakePhoto) -> None:
    size = {piexif.ExifIFD.PixelXDimension: 4000, piexif.ExifIFD.PixelYDimension: 3000}
    plain = write(tmp_path / "plain.jpg", noise())
    large = write(tmp_path / "large.png", noise(), exif=b"Exif\0\0" + bytes(2**20))
    broken = make_photo("broken.jpg")
    data = bytearray(broken.read_bytes())
    start = data.index(b"Exif\0\0")
    data[start + 10 : start + 14] = b"\xff\xff\xff\xf0"  # the first directory is nowhere
    broken.write_bytes(bytes(data))
    cases = {
        "no_exif": plain,
        "damaged_exif": broken,
        "exif_too_large": large,
        "no_tags": write(tmp_path / "blank.jpg", noise(), exif=make_exif("   ")),
        "not_a_camera": make_photo("edited.jpg", main={0x0131: "Adobe Photoshop CS6 (Windows)"}),
        "size_mismatch": make_photo("cropped.jpg", camera=size),
    }
    for name, path in cases.items():
        assert reason(path, reject=(name,)) == name
        photo = accepted(path, reject=())
        assert photo.size_differs == (name == "size_mismatch")
    assert accepted(cases["size_mismatch"]).size_differs  # kept by default, but counted


def test_windows_without_content_are_skipped_and_counted(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 1024, 3), np.uint8)
    pixels[:, :256] = 3  # black
    pixels[:, 256:512] = 255  # clipped
    pixels[:, 512:768] = 128  # flat
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path, exif=make_exif("Canon"))
    photo = accepted(path)
    assert photo.corners == ((768, 0),)
    assert photo.skipped == {"black": 1, "clipped": 1, "flat": 1}
    Image.fromarray(pixels[:, :768]).save(path, exif=make_exif("Canon"))
    result = read_photo(path.read_bytes(), Options())
    assert isinstance(result, Reject)
    assert (result.reason, result.skipped) == ("no_usable_window", photo.skipped)


def test_sidecars_help_only_where_the_photo_says_nothing(
    tmp_path: Path, make_photo: MakePhoto
) -> None:
    entry = Entry({"Make": "NIKON", "FNumber": "5.6", "DateTimeOriginal": "2022:05:01 10:00:00"})
    plain = accepted(write(tmp_path / "plain.jpg", noise()), entry)
    assert plain.values == {"Make": "Nikon", "FNumber": 5.6}
    assert (plain.camera, plain.seconds is None) == ("Nikon", False)
    own = make_photo("own.jpg")
    assert accepted(own, entry) == accepted(own)


def test_imported_labels_are_taken_as_they_are(tmp_path: Path) -> None:
    coded = tuple(1.0 if classes else 2.5 for classes in RELEASED.values())
    photo = accepted(write(tmp_path / "a.png", noise()), Entry({}, coded))
    assert photo.values["Make"] == "class_1"
    assert photo.values["FNumber"] == 2.5
    assert photo.camera == ""
    nothing = Entry({}, (None,) * len(RELEASED))
    assert reason(write(tmp_path / "b.png", noise()), nothing) == "no_tags"


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_odd_modes_are_photos_too(tmp_path: Path, mode: str, suffix: str) -> None:
    image = noise().convert(mode)
    path = write(tmp_path / f"a.{suffix}", image, exif=make_exif("Canon"))
    photo = accepted(path)
    assert photo.values == {"Make": "Canon"}
    assert pixels_of(photo.windows[0]).shape == (256, 256, 3)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_way_of_coding_a_jpeg(tmp_path: Path, subsampling: str, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    noise((520, 300)).save(
        path, exif=make_exif("Canon"), subsampling=subsampling, progressive=progressive
    )
    photo = accepted(path)
    assert len(photo.windows) == 2
    pixels = decode_image(path)
    for (x, y), window in zip(photo.corners, photo.windows, strict=True):
        own = pixels[y : y + 256, x : x + 256]
        np.testing.assert_array_equal(pixels_of(window)[1:-1, 1:-1], own[1:-1, 1:-1])


def test_heic_windows_are_of_the_sensors_orientation(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif", reason="the optional pillow-heif is not installed")
    from data_pipelines.images import open_image, to_rgb

    path = tmp_path / "a.heic"
    path.write_bytes(make_heic(noise((512, 300)), orientation=6))
    photo = accepted(path)
    pixels = to_rgb(open_image(path))
    assert (photo.height, photo.width) == pixels.shape[:2]
    (x, y), window = photo.corners[0], photo.windows[0]
    np.testing.assert_array_equal(pixels_of(window), pixels[y : y + 256, x : x + 256])


def make_heic(image: Image.Image, orientation: int) -> bytes:
    import pillow_heif

    exif = make_exif("Apple")
    exif[0x0112] = orientation
    file = io.BytesIO()
    pillow_heif.from_pillow(image).save(file, quality=90, exif=exif.tobytes())
    return file.getvalue()


def test_stray_bytes_harm_nothing(make_photo: MakePhoto) -> None:
    path = make_photo("a.jpg", size=(300, 300))
    data = path.read_bytes()
    stray = path.with_name("stray.jpg")
    stray.write_bytes(data[:-2] + b"\x00\x11\x22" + data[-2:])
    assert accepted(stray).values == accepted(path).values


def test_rows_of_the_previous_release_are_read() -> None:
    photo = {"photo": 7, "camera": "Canon EOS 700D", "seconds": 9.0, "digest": 3}
    photo |= {"values": {"Make": "Canon", "FNumber": 2.8}, "width": 600, "height": 300}
    photo |= {"size_differs": False, "corners": [[0, 16], [256, 16]], "windows": [3, 2]}
    read = from_row({"name": "a.jpg", "photo": {**photo, "skipped": {"flat": 1}}}, b"abcde")
    assert isinstance(read, PreparedPhoto)
    assert (read.corners, read.windows) == (((0, 16), (256, 16)), (b"abc", b"de"))
    reject = {"reason": "too_small", "detail": "10 x 10 pixels", "skipped": {}}
    assert from_row({"name": "b.jpg", "reject": reject}, b"") == Reject(**reject)


def test_photos_and_rejects_come_back_from_json(make_photo: MakePhoto) -> None:
    photo = accepted(make_photo("a.jpg", size=(600, 300)))
    row = json.loads(json.dumps(to_row(photo)))
    assert from_row(row, b"".join(photo.windows)) == photo
    reject = Reject("too_small", "10 x 10 pixels", {"flat": 1})
    assert from_row(json.loads(json.dumps(to_row(reject))), b"") == reject
