"""A crafted photo with known EXIF, and the folder of what exiftool 12.57 says of it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import piexif
import pytest
from PIL import Image

FIXTURES = Path(__file__).parent / "fixtures"
SECRETS = ("Jane", "SN-4711", "LENS-815", "secret note", "maker note", "52", "2031")
"""Parts of what must never be read: names, serial numbers, notes, place, other times."""


def crafted_photo() -> bytes:
    """A grey JPEG with every wanted field and much that must not be read."""
    exif = {
        "0th": {
            piexif.ImageIFD.Make: b"NIKON CORPORATION",
            piexif.ImageIFD.Model: b"NIKON D750",
            piexif.ImageIFD.Software: b"Ver.1.15",
            piexif.ImageIFD.Artist: b"Jane Doe",
            piexif.ImageIFD.Copyright: b"Jane Doe",
            piexif.ImageIFD.DateTime: b"2031:01:01 01:01:01",
            piexif.ImageIFD.ImageDescription: b"secret note",
        },
        "Exif": {
            piexif.ExifIFD.ExposureTime: (1, 60),
            piexif.ExifIFD.FNumber: (28, 10),
            piexif.ExifIFD.ISOSpeedRatings: 400,
            piexif.ExifIFD.DateTimeOriginal: b"2009:05:01 10:00:00",
            piexif.ExifIFD.DateTimeDigitized: b"2009:05:01 10:00:01",
            piexif.ExifIFD.ShutterSpeedValue: (59, 10),
            piexif.ExifIFD.ApertureValue: (297, 100),
            piexif.ExifIFD.BrightnessValue: (-5, 4),
            piexif.ExifIFD.ExposureBiasValue: (1, 3),
            piexif.ExifIFD.MaxApertureValue: (17, 10),
            piexif.ExifIFD.MeteringMode: 5,
            piexif.ExifIFD.Flash: 0x0F,
            piexif.ExifIFD.FocalLength: (500, 10),
            piexif.ExifIFD.FocalLengthIn35mmFilm: 75,
            piexif.ExifIFD.ExposureMode: 2,
            piexif.ExifIFD.WhiteBalance: 1,
            piexif.ExifIFD.SceneCaptureType: 3,
            piexif.ExifIFD.PixelXDimension: 16,
            piexif.ExifIFD.PixelYDimension: 8,
            piexif.ExifIFD.FileSource: b"\x03",
            piexif.ExifIFD.CameraOwnerName: b"Jane Doe",
            piexif.ExifIFD.BodySerialNumber: b"SN-4711",
            piexif.ExifIFD.LensSerialNumber: b"LENS-815",
            piexif.ExifIFD.UserComment: b"ASCII\0\0\0secret note",
            piexif.ExifIFD.MakerNote: b"maker note",
        },
        "GPS": {
            piexif.GPSIFD.GPSLatitudeRef: b"N",
            piexif.GPSIFD.GPSLatitude: ((52, 1), (30, 1), (0, 1)),
            piexif.GPSIFD.GPSLongitudeRef: b"E",
            piexif.GPSIFD.GPSLongitude: ((52, 1), (24, 1), (0, 1)),
        },
    }
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8), (120, 120, 120)).save(buffer, "JPEG", exif=piexif.dump(exif))
    return buffer.getvalue()


@pytest.fixture
def photo() -> bytes:
    return crafted_photo()


@pytest.fixture
def secrets() -> tuple[str, ...]:
    return SECRETS


@pytest.fixture(params=sorted(p.name for p in FIXTURES.glob("*.json")))
def exiftool_output(request: pytest.FixtureRequest) -> Path:
    """What exiftool says of the crafted photo at trip/IMG_1.jpg, with different options."""
    return FIXTURES / str(request.param)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Writes a file below `tmp_path`: a text, bytes, or anything else as JSON."""

    def write(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8")
        return path

    return write
