"""Files as cameras and programs write them, of kinds that were once read wrongly."""

from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from PIL import Image

from data_pipelines.evidence import read_evidence
from data_pipelines.images import decode_image, open_image
from data_pipelines.prepare.options import REASONS, Options
from data_pipelines.prepare.reader import PreparedPhoto, Reject, read_photo
from data_pipelines.prepare.report.page import REMEDIES
from tests.data_pipelines.jpegs import CODINGS, CUT, MULTI_PICTURE, WHOLE, camera, jpeg, scene
from tests.data_pipelines.tiffs import PHOTOS, RAW

ENCODINGS = ("dct", "pixels")


def read(data: bytes, **changes: Any) -> PreparedPhoto | Reject:
    return read_photo(data, Options(**changes))


def taken(data: bytes, **changes: Any) -> PreparedPhoto:
    result = read(data, **changes)
    assert isinstance(result, PreparedPhoto), result
    return result


def reason(data: bytes, **changes: Any) -> str:
    result = read(data, **changes)
    assert isinstance(result, Reject), result
    assert result.detail and "\n" not in result.detail
    return result.reason


def tables(data: bytes) -> Any:
    return open_image(data).quantization  # type: ignore[attr-defined]


# Several pictures


@pytest.mark.parametrize("name", MULTI_PICTURE)
def test_of_several_pictures_the_first_keeps_its_blocks(name: str) -> None:
    data = MULTI_PICTURE[name]
    assert open_image(data).format == "JPEG"
    pixels = decode_image(data)
    photo = taken(data)
    ((x, y),), (window,) = photo.corners, photo.windows
    assert window.startswith(b"\xff\xd8")
    assert tables(window) == tables(data)
    own = pixels[y : y + 256, x : x + 256]
    np.testing.assert_array_equal(decode_image(window)[1:-1, 1:-1], own[1:-1, 1:-1])


def test_a_multi_picture_file_has_the_windows_of_the_plain_one(cases: Path) -> None:
    several = taken((cases / "mpo/mpo.jpg").read_bytes())
    plain = taken((cases / "mpo/ref0.jpg").read_bytes())
    assert all(window.startswith(b"\xff\xd8") for window in several.windows)
    size, other = (sum(map(len, photo.windows)) for photo in (several, plain))
    assert 0.9 * other < size < 1.1 * other


def test_the_evidence_on_several_pictures_is_that_of_a_jpeg() -> None:
    details = read_evidence("a.jpg", MULTI_PICTURE["two of a size"])[0].details
    assert (details["format"], details["standard_quality"]) == ("JPEG", 90)


# No end marker


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("how", WHOLE)
def test_a_photo_without_its_end_marker_is_taken(how: str, encoding: str) -> None:
    data = jpeg(scene(600, 300), exif=camera())
    whole, padded = taken(data, encoding=encoding), taken(WHOLE[how](data), encoding=encoding)
    assert padded.values == whole.values
    assert len(padded.windows) == len(whole.windows) == 2


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("how", CUT)
def test_a_photo_that_lacks_data_is_rejected(how: str, encoding: str) -> None:
    assert reason(CUT[how](CODINGS["baseline"]), encoding=encoding, reject=()) == "undecodable"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_padded_photo_is_taken(cases: Path, encoding: str) -> None:
    data = (cases / "no_eoi_padded/no_eoi_padded.jpg").read_bytes()
    assert len(taken(data, encoding=encoding).windows) == 4


# Raw files


@pytest.mark.parametrize("name", RAW)
def test_the_preview_of_a_raw_file_is_no_photo(name: str) -> None:
    assert reason(RAW[name], reject=()) == "raw_file"
    assert "raw_file" in REASONS and "raw_file" in REMEDIES


@pytest.mark.parametrize("name", PHOTOS)
def test_ordinary_tiff_photos_are_taken(name: str) -> None:
    assert len(taken(PHOTOS[name], reject=()).windows) == 1


def test_a_raw_file_that_is_called_a_jpeg_is_rejected(cases: Path) -> None:
    (path,) = (cases / "raw_preview").iterdir()
    assert reason(path.read_bytes()) == "raw_file"


# EXIF that says nothing of a camera


def block(**directories: dict[int, Any]) -> bytes:
    return piexif.dump(directories)


GPS = {piexif.GPSIFD.GPSLatitudeRef: b"N", piexif.GPSIFD.GPSLatitude: ((1, 1), (2, 1), (3, 1))}
_EMPTY = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
WITHOUT_TAGS: dict[str, bytes] = {
    "place": jpeg(exif=block(GPS=GPS)),
    "orientation": jpeg(exif=block(**{"0th": {piexif.ImageIFD.Orientation: 6}})),
    "artist": jpeg(exif=block(**{"0th": {piexif.ImageIFD.Artist: b"Jane"}})),
    "comment": jpeg(exif=block(Exif={piexif.ExifIFD.UserComment: b"ASCII\0\0\0hello"})),
    "notes": jpeg(exif=block(Exif={piexif.ExifIFD.MakerNote: b"secret"})),
    "a thumbnail": jpeg(exif=block(**{"1st": {piexif.ImageIFD.Orientation: 1}})),
    "blank names": jpeg(exif=block(**{"0th": {piexif.ImageIFD.Make: b"   "}})),
    "no entries": jpeg(exif=_EMPTY),
    "a date": jpeg(exif=block(Exif={piexif.ExifIFD.DateTimeOriginal: b"2020:01:01 10:00:00"})),
    "place, PNG": jpeg(None, "PNG", exif=block(GPS=GPS)),
    "place, WebP": jpeg(None, "WEBP", exif=block(GPS=GPS)),
    "place, TIFF": jpeg(None, "TIFF", exif=block(GPS=GPS)),
}
WITHOUT_EXIF: dict[str, bytes] = {
    "JPEG": jpeg(),
    "PNG": jpeg(None, "PNG"),
    "WebP": jpeg(None, "WEBP"),
    "TIFF": jpeg(None, "TIFF"),
    "comment": jpeg(comment=b"hello"),
    "XMP": jpeg(xmp=b"<x:xmpmeta/>"),
}


@pytest.mark.parametrize("name", WITHOUT_TAGS)
def test_exif_without_a_tag_that_teaches_is_called_so(name: str) -> None:
    for encoding in ENCODINGS:
        assert reason(WITHOUT_TAGS[name], encoding=encoding) == "no_tags"


@pytest.mark.parametrize("name", WITHOUT_EXIF)
def test_no_exif_is_called_so(name: str) -> None:
    assert reason(WITHOUT_EXIF[name]) == "no_exif"


def test_a_camera_directory_that_cannot_be_read_is_damage() -> None:
    data = block(Exif={piexif.ExifIFD.FNumber: (4, 1)})
    start = data.index(b"\x87\x69")  # its entry: type, count and place follow
    damaged = data[: start + 8] + b"\0\xff\xff\xf0" + data[start + 12 :]
    assert reason(jpeg(exif=damaged)) == "damaged_exif"


def test_exif_with_a_place_alone_is_not_missing(cases: Path) -> None:
    assert reason((cases / "exif_without_camera/gps_only.jpg").read_bytes()) == "no_tags"


def test_a_maker_in_utf_16_is_decoded(cases: Path) -> None:
    values = taken((cases / "utf16_make/utf16.jpg").read_bytes()).values
    assert (values["Make"], values["Model"]) == ("ACME", "ACME Cam U16")


@pytest.mark.parametrize("coding", ["ascii", "utf-16-le", "utf-16-be", "utf-16", "latin-1"])
def test_editors_are_told_in_every_coding(coding: str) -> None:
    software = "Adobe Photoshop 7.0".encode(coding)
    assert reason(jpeg(exif=block(**{"0th": {piexif.ImageIFD.Software: software}}))) == (
        "not_a_camera"
    )


# Pictures that show nothing


def blank(mode: str, colour: Any, size: tuple[int, int] = (300, 300), kind: str = "PNG") -> bytes:
    return jpeg(Image.new(mode, size, colour), kind, exif=camera())


BLANK: dict[str, tuple[bytes, str]] = {
    "one pixel": (blank("RGB", "red", (1, 1)), "too_small"),
    "one line": (blank("RGB", "red", (300, 1)), "too_small"),
    "one pixel, JPEG": (blank("RGB", "red", (1, 1), "JPEG"), "too_small"),
    "transparent": (blank("RGBA", (9, 9, 9, 0)), "no_usable_window"),
    "almost transparent": (blank("RGBA", (9, 9, 9, 1)), "no_usable_window"),
    "transparent grey": (blank("LA", (9, 0)), "no_usable_window"),
    "transparent, WebP": (blank("RGBA", (9, 9, 9, 0), kind="WEBP"), "no_usable_window"),
    "transparent, TIFF": (blank("RGBA", (9, 9, 9, 0), kind="TIFF"), "no_usable_window"),
    "white": (blank("RGB", "white", kind="JPEG"), "no_usable_window"),
    "black": (blank("RGB", "black", kind="JPEG"), "no_usable_window"),
    "grey": (blank("RGB", "grey", kind="JPEG"), "no_usable_window"),
}


@pytest.mark.parametrize("name", BLANK)
def test_pictures_that_show_nothing_are_rejected(name: str) -> None:
    data, expected = BLANK[name]
    for encoding in ENCODINGS:
        assert reason(data, encoding=encoding) == expected
