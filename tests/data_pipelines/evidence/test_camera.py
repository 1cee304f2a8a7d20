import pytest

from data_pipelines.evidence.camera import standard_quality
from tests.data_pipelines.evidence.crafted import (
    FORMATS,
    PICTURE,
    SIDE,
    camera_photo,
    exif_of,
    file_of,
    saved,
    the_only,
)

CAMERA = {0x010F: "Canon", 0x0110: "Canon EOS 700D"}
EXPOSURE = {0x829A: 1 / 60, 0x829D: 2.8, 0x8827: 200}
SIZE = {0xA002: SIDE, 0xA003: SIDE}


def evidence(fields, camera, *, image=PICTURE, kind="JPEG", **options):
    return the_only(saved(image, kind, exif=exif_of(fields, camera), **options), "camera_exif")


def test_a_camera_with_exposure_and_the_right_size_says_photo():
    item = evidence(CAMERA, EXPOSURE | SIZE)
    assert item.says == "photo"
    assert item.details["status"] == "consistent"
    assert item.details["camera"] == "Canon EOS 700D"
    assert item.text.startswith(
        "EXIF names a camera, Canon EOS 700D, and its settings, 1/60 s, f/2.8, ISO 200; "
        "the size that it states is the picture's."
    )


def test_a_missing_size_is_no_contradiction():
    item = evidence(CAMERA, EXPOSURE)
    assert (item.says, item.details["status"]) == ("photo", "consistent")
    assert "it states no size to compare" in item.text


def test_a_picture_turned_by_a_program_still_fits():
    wide = PICTURE.resize((96, 64))
    item = evidence(CAMERA, EXPOSURE | {0xA002: 64, 0xA003: 96}, image=wide)
    assert item.details["status"] == "consistent"


def test_another_size_is_told():
    item = evidence(CAMERA, EXPOSURE | {0xA002: 4032, 0xA003: 3024})
    assert (item.says, item.details["status"]) == ("photo", "inconsistent")
    assert f"states 4032 x 3024 pixels, the picture has {SIDE} x {SIDE}" in item.text


@pytest.mark.parametrize("software", ["Adobe Photoshop 25.0", "VueScan 9", "Midjourney"])
def test_a_program_that_names_itself_is_no_camera(software):
    item = evidence(CAMERA | {0x0131: software}, EXPOSURE | SIZE)
    assert (item.says, item.details["status"]) == ("nothing", "inconsistent")
    assert "another source of the file" in item.text


def test_settings_without_a_camera_and_a_camera_without_settings_say_nothing():
    settings, camera = evidence({}, EXPOSURE), evidence(CAMERA, {0x9207: 5})
    assert settings.says == camera.says == "nothing"
    assert "no camera is named" in settings.text
    assert "exposure time, aperture and ISO are missing" in camera.text


@pytest.mark.parametrize("kind", FORMATS)
def test_absent_exif(kind):
    item = the_only(file_of(kind), "camera_exif")
    assert (item.says, item.details["status"]) == ("nothing", "absent")
    assert item.text.startswith("No camera EXIF.")


@pytest.mark.parametrize("kind", FORMATS)
def test_camera_exif_is_read_in_every_container(kind):
    item = the_only(camera_photo(kind), "camera_exif")
    assert item.says == "photo"
    assert ("converted since" in item.text) == (kind in ("PNG", "WEBP"))


def test_damaged_exif_is_said():
    item = the_only(saved(PICTURE, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff"), "camera_exif")
    assert (item.says, item.details["status"]) == ("nothing", "unread")


@pytest.mark.parametrize("quality", [1, 30, 75, 90, 100])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_standard_quantisation_tables_are_known(quality, mode):
    item = the_only(saved(PICTURE.convert(mode), "JPEG", quality=quality), "camera_exif")
    assert item.details["standard_quality"] == quality
    assert f"standard ones of quality {quality}," in item.text


def test_other_quantisation_tables_are_other():
    tables = [[k % 60 + 1 for k in range(64)], [9] * 64]
    item = the_only(saved(PICTURE, "JPEG", qtables=tables), "camera_exif")
    assert item.details["standard_quality"] is None
    assert "tables are not the standard ones" in item.text
    assert standard_quality({}) is None


def test_a_name_of_a_camera_cannot_be_long_or_have_control_characters():
    item = evidence({0x010F: "Ca\x1b[31mnon", 0x0110: "E\u202eOS"}, EXPOSURE)
    assert item.text.isprintable()
    item = evidence({0x010F: "x" * 5000, 0x0110: "y" * 5000}, EXPOSURE)
    assert len(item.text) < 500


def test_pixels_need_not_be_readable():
    data = camera_photo()
    assert the_only(data[: len(data) - 200], "camera_exif").says == "photo"
