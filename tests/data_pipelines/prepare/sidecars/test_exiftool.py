"""Output of exiftool: fixtures of a crafted photo, and its own print values."""

import json
from pathlib import Path

import pytest

from data_pipelines.capture_times import FIELDS as TIME_FIELDS
from data_pipelines.capture_times import capture_time, parse_time
from data_pipelines.exif import load_exif
from data_pipelines.prepare.sidecars import load_sidecars
from data_pipelines.prepare.sidecars.exiftool import read
from data_pipelines.prepare.sidecars.values import FIELDS, PHOTOGRAPHIC
from data_pipelines.tags import TAGS, parse_tags
from data_pipelines.targets import RELEASED

FLASH = {
    0x00: "No Flash",
    0x01: "Fired",
    0x05: "Fired, Return not detected",
    0x07: "Fired, Return detected",
    0x08: "On, Did not fire",
    0x09: "On, Fired",
    0x0D: "On, Return not detected",
    0x0F: "On, Return detected",
    0x10: "Off, Did not fire",
    0x14: "Off, Did not fire, Return not detected",
    0x18: "Auto, Did not fire",
    0x19: "Auto, Fired",
    0x1D: "Auto, Fired, Return not detected",
    0x1F: "Auto, Fired, Return detected",
    0x20: "No flash function",
    0x30: "Off, No flash function",
    0x41: "Fired, Red-eye reduction",
    0x45: "Fired, Red-eye reduction, Return not detected",
    0x47: "Fired, Red-eye reduction, Return detected",
    0x49: "On, Red-eye reduction",
    0x4D: "On, Red-eye reduction, Return not detected",
    0x4F: "On, Red-eye reduction, Return detected",
    0x50: "Off, Red-eye reduction",
    0x58: "Auto, Did not fire, Red-eye reduction",
    0x59: "Auto, Fired, Red-eye reduction",
    0x5D: "Auto, Fired, Red-eye reduction, Return not detected",
    0x5F: "Auto, Fired, Red-eye reduction, Return detected",
    0x24: "Unknown (0x24)",
}


def test_every_form_of_output_gives_the_values_of_the_photo(exiftool_output: Path, photo: bytes):
    sidecars = load_sidecars([exiftool_output], ["trip/IMG_1.jpg"])
    (entry,) = sidecars.entries.values()
    values, expected = parse_tags(entry.raw), parse_tags(load_exif(photo).raw)
    assert values.keys() == expected.keys() == RELEASED.keys()
    # exiftool prints apertures with one decimal.
    exact = "numeric" in exiftool_output.name or "long" in exiftool_output.name
    tolerance = 1e-9 if exact else 3e-3
    for name, value in expected.items():
        close = value if isinstance(value, str) else pytest.approx(value, rel=tolerance)
        assert values[name] == close, name
    assert sidecars.files[0].kind == "exiftool"
    assert (sidecars.files[0].num_entries, sidecars.files[0].num_matched) == (1, 1)


def test_every_wanted_field_is_read_and_nothing_else(exiftool_output: Path, secrets):
    (entry,) = load_sidecars([exiftool_output], ["trip/IMG_1.jpg"]).entries.values()
    missing = {"ISOSpeed", "StandardOutputSensitivity", "RecommendedExposureIndex"}
    missing |= {field for tag in TAGS if tag.name not in RELEASED for field in tag.fields}
    # The photo has neither fractions nor zones; its time of modification is nobody's business.
    missing |= {field for fields in TIME_FIELDS for field in fields[1:]} | {"DateTime"}
    assert entry.raw.keys() == FIELDS - missing
    assert entry.raw["DateTimeDigitized"] == "2009:05:01 10:00:01"
    assert entry.raw["FileSource"] == 3 and entry.raw["Flash"] == 0x0F
    assert [float(entry.raw[f]) for f in ("FocalLengthIn35mmFilm", "PixelXDimension")] == [75, 16]
    text = json.dumps(entry.raw)
    assert [secret for secret in secrets if secret in text] == []


def test_other_groups_do_not_override():
    keys = ("MakerNotes:ISO", "Composite:ISO", "XMP:ISO", "File:ISO", "IFD1:ISO", "EXIF:ISO")
    raw = read(dict.fromkeys(keys[:-1], 1) | {keys[-1]: 100}).raw
    assert raw == {"PhotographicSensitivity": 100}
    assert read(dict.fromkeys(keys[:-1], 1)).raw == {}


def test_print_values_of_flash():
    assert {PHOTOGRAPHIC["Flash"](text): text for text in FLASH.values()} == FLASH


@pytest.mark.parametrize(
    ("field", "texts"),
    [
        (
            "MeteringMode",
            {
                "Unknown": 0,
                "Average": 1,
                "Center-weighted average": 2,
                "Spot": 3,
                "Multi-spot": 4,
                "Multi-segment": 5,
                "Partial": 6,
                "Other": 255,
                "Unknown (9)": 9,
                "Honeycomb": None,
                "5": 5,
                5.5: None,
                -1: None,
            },
        ),
        ("ExposureMode", {"Auto": 0, "Manual": 1, "Auto bracket": 2, "Program AE": None}),
        ("WhiteBalance", {"Auto": 0, "Manual": 1, "Daylight": None}),
        ("SceneCaptureType", {"Standard": 0, "Landscape": 1, "Portrait": 2, "Night": 3}),
        ("FileSource", {"Film Scanner": 1, "Reflection Print Scanner": 2, "Digital Camera": 3}),
        ("Flash", {"Auto": None, "On": None, "sometimes": None, "": None, 16: 16}),
    ],
)
def test_print_values_of_enumerations(field, texts):
    assert {text: PHOTOGRAPHIC[field](text) for text in texts} == texts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1/60", "1/60"),
        ("+1/3", "1/3"),
        ("-4/3", "-4/3"),
        ("50.0 mm", "50.0"),
        ("75mm", "75"),
        ("0.017 sec (1/60)", "1/60"),
        ("0 EV", "0"),
        ("0.00708999340091532", 0.00708999340091532),
        ("f/2.8", "2.8"),
        ("F2.8", "2.8"),
        (2.8, 2.8),
        ([100, 200], 100),
    ],
)
def test_numbers(text, value):
    assert PHOTOGRAPHIC["ExposureTime"](text) == value


@pytest.mark.parametrize("field", sorted(FIELDS - {"Make", "Model", "Software"}))
@pytest.mark.parametrize(
    "text",
    ["inf", "undef", "n/a", "", "nan", "1/0", "Bulb", "1 & 2", "9" * 99, float("nan"), float("inf"),
     10**99, True, None, {}, [], [[1]], {"val": {}}],
)  # fmt: skip
def test_what_is_no_value_is_missing(field, text):
    assert PHOTOGRAPHIC[field](text) is None


def test_zeros_are_read_or_missing():
    body = {"MaxApertureValue": 0, "FocalLength": "0 mm", "ShutterSpeedValue": 0, "ISO": "100, 0"}
    assert read(body).raw == {"FocalLength": "0", "PhotographicSensitivity": "100"}


def test_texts_are_bounded_and_printable():
    raw = read({"Make": "A\0\ud800B" + "x" * 999, "Software": 1.5, "Model": "\n"}).raw
    assert raw == {"Make": "A  B" + "x" * 196, "Software": "1.5"}


def test_fractions_and_zones_of_times_are_read():
    names = {"SourceFile": "a.jpg", "CreateDate": "2009-05-01T10:00:01", "SubSecTimeDigitized": 12}
    raw = read(names | {"OffsetTimeDigitized": "+02:00", "DateTimeOriginal": "0000:00:00"}).raw
    assert capture_time(raw) == parse_time("2009:05:01 10:00:01.12+02:00")
