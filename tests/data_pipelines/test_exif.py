import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from data_pipelines import exif as exif_module
from data_pipelines import heic
from data_pipelines.exif import capture_key, exif_of_image, load_exif
from data_pipelines.images import open_image, to_rgb
from data_pipelines.tags import Rational, parse_tags


def read_tags(source: Path | bytes) -> dict[str, str | float]:
    return parse_tags(load_exif(source).raw)


def jpeg_with_exif(block: bytes) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=block)
    return file.getvalue()


def test_values_of_a_crafted_photo_come_back(make_photo: Callable[..., Path]) -> None:
    path = make_photo("a.jpg", make="NIKON CORPORATION\0\0", model="NIKON D90")
    expected = {
        "FNumber": 2.8,
        "Make": "Nikon",
        "ExposureTime": pytest.approx(1 / 60),
        "ISO": 200.0,
        "FocalLength": 50.0,
        "Model": "Nikon D90",
        "Flash": "not_fired",
    }
    assert read_tags(path) == expected
    assert read_tags(path.read_bytes()) == expected


def test_fractions_keep_their_numerators(make_photo: Callable[..., Path]) -> None:
    brightness = {piexif.ExifIFD.BrightnessValue: (-1, 10)}
    raw = load_exif(make_photo("a.jpg", camera=brightness)).raw
    assert raw["BrightnessValue"] == Rational(-1, 10)
    assert "BrightnessValue" not in parse_tags(raw)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_other_formats_carry_exif_too(tmp_path: Path, name: str) -> None:
    block = piexif.dump(
        {"0th": {piexif.ImageIFD.Make: "Canon"}, "Exif": {piexif.ExifIFD.FNumber: (4, 1)}}
    )
    path = tmp_path / name
    Image.new("RGB", (16, 16)).save(path, exif=block)
    assert read_tags(path) == {"Make": "Canon", "FNumber": 4.0}


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png(*before: bytes, after: tuple[bytes, ...] = (), pixels: bytes | None = None) -> bytes:
    """A PNG file of 2000 x 2000 pixels with chunks before and after the pixels."""
    size = (2000).to_bytes(4, "big")
    header = chunk(b"IHDR", size + size + bytes([8, 0, 0, 0, 0]))
    pixels = zlib.compress(bytes(2000 * 2001)) if pixels is None else pixels
    end = chunk(b"IEND", b"")
    parts = (header, *before, chunk(b"IDAT", pixels), *after, end)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def profile(block: bytes) -> bytes:
    """A block as ImageMagick writes it into a text."""
    digits = block.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"\nexif\n{len(block):8}\n{lines}\n".encode()


PNG_BLOCK = piexif.dump(
    {"0th": {piexif.ImageIFD.Make: "Canon"}, "Exif": {piexif.ExifIFD.FNumber: (4, 1)}}
)
PNG_CHUNKS = {
    "eXIf": chunk(b"eXIf", PNG_BLOCK[6:]),
    "tEXt": chunk(b"tEXt", b"Raw profile type exif\0" + profile(PNG_BLOCK)),
    "zTXt": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile(PNG_BLOCK))),
}


@pytest.mark.parametrize("place", ["before", "after", "after damaged pixels"])
@pytest.mark.parametrize("kind", PNG_CHUNKS)
def test_the_pixels_of_a_png_are_not_decoded(
    monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    wanted, noise = PNG_CHUNKS[kind], chunk(b"tEXt", b"Comment\0none")
    if place == "before":
        data = png(noise, wanted)
    else:
        data = png(noise, after=(wanted,), pixels=b"no pixels" if "damaged" in place else None)
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("pixels were decoded"))
    exif = load_exif(data)
    assert parse_tags(exif.raw) == {"Make": "Canon", "FNumber": 4.0}
    assert (exif.problem, len(exif.digest)) == ("", 64)


def test_a_png_can_be_decoded_after_its_exif_was_read() -> None:
    image = open_image(png(after=(PNG_CHUNKS["eXIf"],)))
    assert parse_tags(exif_of_image(image).raw)["FNumber"] == 4.0
    assert to_rgb(image).shape == (2000, 2000, 3)
    assert parse_tags(exif_of_image(image).raw)["FNumber"] == 4.0


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ((), "no_exif"),
        ((chunk(b"tEXt", b"Raw profile type exif\0no digits"),), "no_exif"),
        ((chunk(b"zTXt", b"Raw profile type exif\0\0no stream"),), "no_exif"),
        ((chunk(b"eXIf", b"MM\0*\xff\xff\xff\xf0"),), "damaged_exif"),
        ((chunk(b"eXIf", b"MM" + bytes(2**20)),), "exif_too_large"),
        ((b"\xff\xff\xff\xffzTXt",), "no_exif"),  # a length beyond the file
        ((b"\0\0",), "no_exif"),  # cut off
    ],
)
def test_png_files_without_usable_exif(chunks: tuple[bytes, ...], problem: str) -> None:
    assert load_exif(png(after=chunks)).problem == problem


@pytest.mark.parametrize(("name", "feature"), [("a.heic", "pillow_heif"), ("a.avif", "PIL._avif")])
@pytest.mark.parametrize("orientation", [1, 6])
def test_containers_carry_exif_too(
    tmp_path: Path, name: str, feature: str, orientation: int
) -> None:
    pytest.importorskip(feature)
    heic.register_opener()
    block = piexif.dump(
        {
            "0th": {piexif.ImageIFD.Make: "Apple", piexif.ImageIFD.Orientation: orientation},
            "Exif": {piexif.ExifIFD.FNumber: (4, 1)},
        }
    )
    path = tmp_path / name
    Image.new("RGB", (64, 32)).save(path, exif=block)
    assert read_tags(path) == {"Make": "Apple", "FNumber": 4.0}
    assert len(load_exif(path).digest) == 64


@pytest.mark.parametrize("damaged", [False, True])
def test_what_is_no_tag_is_read_for_the_checks(
    make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    path = make_photo(
        "a.jpg",
        main={piexif.ImageIFD.Software: "Ver.1.00"},
        camera={
            piexif.ExifIFD.PixelXDimension: 4000,
            piexif.ExifIFD.PixelYDimension: 3000,
            piexif.ExifIFD.FocalLengthIn35mmFilm: 75,
            piexif.ExifIFD.FileSource: b"\x03",
        },
    )
    if damaged:  # piexif reads

        def fail(self: Image.Exif, tag: int) -> None:
            raise SyntaxError("damaged")

        monkeypatch.setattr(Image.Exif, "get_ifd", fail)
    raw = load_exif(path).raw
    expected = {
        "Software": "Ver.1.00",
        "PixelXDimension": 4000,
        "PixelYDimension": 3000,
        "FocalLengthIn35mmFilm": 75,
        "FileSource": 3,
    }
    assert {name: raw[name] for name in expected} == expected
    assert parse_tags(raw, focal_length="35mm")["FocalLength"] == 75.0


def test_problems_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_exif(tmp_path / "absent.jpg").problem == "unreadable"
    assert load_exif(b"text").problem == "not_an_image"
    assert load_exif(b"").problem == "empty_file"
    assert load_exif(jpeg_with_exif(b"")).problem == "no_exif"
    assert load_exif(jpeg_with_exif(b"Exif\0\0MM\0*\xff\xff\xff\xf0")).problem == "damaged_exif"
    block = piexif.dump({"Exif": {piexif.ExifIFD.FNumber: (4, 1)}})
    assert load_exif(jpeg_with_exif(block)).problem == ""
    monkeypatch.setattr(exif_module, "MAX_EXIF_BYTES", 8)
    assert load_exif(jpeg_with_exif(block)).problem == "exif_too_large"


def test_piexif_reads_what_pillow_cannot(
    make_photo: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_photo("a.jpg")
    expected = read_tags(path)

    def fail(self: Image.Exif, tag: int) -> None:
        raise SyntaxError("damaged")

    monkeypatch.setattr(Image.Exif, "get_ifd", fail)
    assert read_tags(path) == expected


def test_absurd_counts_and_cycles_never_reach_piexif(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(data: bytes) -> None:
        pytest.fail("piexif would allocate gigabytes, or never return")

    monkeypatch.setattr(exif_module.piexif, "load", refuse)
    header = b"MM\0*" + struct.pack(">L", 8)
    absurd = struct.pack(">HHHLLL", 1, 0x010F, 1, 0xFFFFFFFF, 26, 0)
    cycle = struct.pack(">HHHLLL", 1, 0x8769, 4, 1, 8, 0)
    for directory in (absurd, cycle):
        assert exif_module._read_with_piexif(b"Exif\0\0" + header + directory) == {}


BLOCK = piexif.dump(
    {
        "0th": {piexif.ImageIFD.Make: "Canon", piexif.ImageIFD.Model: "EOS"},
        "Exif": {
            piexif.ExifIFD.FNumber: (4, 1),
            piexif.ExifIFD.ISOSpeedRatings: 100,
            piexif.ExifIFD.DateTimeOriginal: "2022:05:01 10:00:00",
        },
    }
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(6, len(BLOCK) - 1), st.integers(0, 255)), max_size=6))
def test_damaged_blocks_never_raise(changes: list[tuple[int, int]]) -> None:
    block = bytearray(BLOCK)
    for position, value in changes:
        block[position] = value
    exif = load_exif(jpeg_with_exif(bytes(block)))
    parse_tags(exif.raw)
    capture_key(exif)
    parse_tags(exif_module._read_with_piexif(bytes(block)))


def test_only_wanted_fields_are_read(make_photo: Callable[..., Path]) -> None:
    path = make_photo(
        "a.jpg",
        main={piexif.ImageIFD.Artist: "Jane Doe"},
        camera={piexif.ExifIFD.BodySerialNumber: "SN123456"},
        GPS={piexif.GPSIFD.GPSLatitude: ((51, 1), (30, 1), (0, 1))},
    )
    text = repr(load_exif(path).raw)
    assert "Jane" not in text
    assert "SN123456" not in text
    assert "51" not in text


def test_capture_keys_hold_camera_and_time(make_photo: Callable[..., Path]) -> None:
    one = capture_key(load_exif(make_photo("a.jpg", time="2022:05:01 10:00:00")))
    two = capture_key(load_exif(make_photo("b.jpg", time="2022:05:01 10:00:30")))
    assert one.camera == two.camera == "Canon EOS 700D"
    assert one.time is not None
    assert two.time is not None
    assert two.time.seconds - one.time.seconds == 30


@pytest.mark.parametrize("time", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", ""])
def test_a_clock_that_was_never_set_gives_no_time(
    make_photo: Callable[..., Path], time: str
) -> None:
    key = capture_key(load_exif(make_photo("a.jpg", time=time)))
    assert key.time is None
    assert len(key.digest) == 64


def test_real_photos_have_the_documented_coverage(real_data: Path) -> None:
    paths = sorted((real_data / "dev/photos").rglob("*.jpg"))[::40]
    values = [read_tags(path) for path in paths]
    assert all({"FNumber", "Make", "ExposureTime", "ISO"} <= v.keys() for v in values)
    assert 0.7 < sum("SceneCaptureType" in v for v in values) / len(values) < 1
