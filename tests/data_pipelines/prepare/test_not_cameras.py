from collections import Counter
from pathlib import Path

import pytest

from data_pipelines.exif import load_exif
from data_pipelines.prepare.not_cameras import RULES, not_a_camera, pixel_size_differs
from data_pipelines.tags import Rational


@pytest.mark.parametrize(
    ("software", "reason"),
    [
        ("Adobe Photoshop CC 2019 (Windows)", "Adobe Photoshop"),
        ("Adobe Lightroom 6.0.1 (iOS)", "Adobe Lightroom"),
        (b"GIMP 2.10.8\0junk", "GIMP"),
        ("gimp2.8", "GIMP"),
        ("Picasa3", "Picasa"),
        ("paint.net 4.2", "Paint.NET"),
        ("CaptureOne_23", "Capture One"),
        ("Photos 1.0.1", "Photos"),
        ("iPhoto 9.6.1", "iPhoto"),
        ("Microsoft Windows Photo Viewer 6.1.7600.16385", "Microsoft Windows Photo"),
        ("Snipping Tool", "Snipping Tool"),
        ("DALL·E 3", "DALL-E"),
        ("stable-diffusion-webui", "Stable Diffusion"),
        ("VueScan 9 x64 (9.7)", "VueScan"),
        ("x" * 100 + " Photoshop", "Photoshop"),
    ],
)
def test_programs_are_told(software: str | bytes, reason: str) -> None:
    assert not_a_camera({"Make": "Canon", "Software": software}) == f"Software: {reason}"


@pytest.mark.parametrize(
    ("make", "model", "reason"),
    [
        ("Polyphony Digital Inc.", "Gran Turismo 5", "Model: Gran Turismo"),
        ("NORITSU KOKI", "QSS-32_33", "Make: Noritsu"),
        ("FUJI PHOTO FILM CO., LTD.", "SP-3000", "Model: SP-3000"),
        ("Nikon", "Nikon SUPER COOLSCAN 5000 ED", "Model: Coolscan"),
        ("NIKON CORPORATION", "LS-5000", "Model: LS-5000"),
        ("HP", "HP Scanjet 8300", "Model: Scanjet"),
        ("EPSON", "GT-X970", "Model: GT-X"),
        ("Canon", "LiDE 110", "Model: LiDE"),
    ],
)
def test_scanners_and_games_are_told_by_maker_and_model(make: str, model: str, reason: str) -> None:
    assert not_a_camera({"Make": make, "Model": model}) == reason


@pytest.mark.parametrize(
    "software",
    [
        "Ver.1.00 ",
        "HDR+ 1.0.220943774z",
        "14.4.2",
        "COOLPIX S9900V1.0",
        "Digital Camera FinePix Z5fd   Ver1.01",
        "G960FXXU7DTAA",
        "MediaTek Camera Application",
        "Android RP1A.200720.012",
        "Android",
        "exif-jax simulated camera",
        "NIKON D850 Ver.1.02",
        "ILCE-6400 v2.00",
        "QuickTime 7.6.6",
        "Windows Phone",
        "K-5 II s Ver 1.06",
        "DxO ONE v3.0",
        "topaz-user 13 TKQ1.221114.001 release-keys",
        "coral-user 12 SP1A.210812.015 release-keys",
        "Aperture priority",
        "",
        None,
        7,
    ],
)
def test_firmware_is_left_alone(software: object) -> None:
    assert not_a_camera({"Make": "Canon", "Model": "EOS", "Software": software}) is None


@pytest.mark.parametrize(
    ("make", "model"),
    [
        ("OLYMPUS IMAGING CORP.", "SP-500"),
        ("OLYMPUS OPTICAL CO.,LTD", "SP500UZ"),
        ("FUJIFILM", "FinePix S5000"),
        ("SEIKO EPSON CORP.", "PhotoPC 3000Z"),
        ("Nintendo", "Nintendo 3DS"),
        ("NVIDIA", "SHIELD Tablet"),
        ("Hewlett-Packard", "HP PhotoSmart C812"),
        ("LGE", "LS-5000"),
    ],
)
def test_cameras_with_similar_names_are_left_alone(make: str, model: str) -> None:
    assert not_a_camera({"Make": make, "Model": model}) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1, "FileSource: film scanner"),
        (2, "FileSource: reflection print scanner"),
        ((2,), "FileSource: reflection print scanner"),
        (3, None),
        (0, None),
        (b"\x01", None),  # load_exif gives a number
    ],
)
def test_scanners_say_so_themselves(value: object, reason: str | None) -> None:
    assert not_a_camera({"FileSource": value}) == reason


def test_each_name_of_the_table_is_found() -> None:
    for rule in RULES:
        for name in rule.names:
            raw = dict.fromkeys(rule.fields, name) | ({"Make": rule.make} if rule.make else {})
            assert not_a_camera(raw) is not None, name


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (4000, 3000, False),
        (3000, 4000, False),
        (Rational(4000, 1), "3000", False),
        (4000, 2999, True),
        (1600, 1200, True),
        (0, 0, False),
        (-4000, 3000, False),
        (10**9, 3000, False),
        (4000, None, False),
        (None, None, False),
    ],
)
def test_another_size_is_told_in_either_order(x: object, y: object, expected: bool) -> None:
    raw = {"PixelXDimension": x, "PixelYDimension": y}
    assert pixel_size_differs(raw, 4000, 3000) is expected


def test_real_photos_are_left_alone(real_data: Path) -> None:
    paths = sorted((real_data / "dev/photos").rglob("*.jpg"))[::5]
    reasons = Counter(not_a_camera(load_exif(path).raw) for path in paths)
    assert reasons[None] == len(paths)
