import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.exif import read_exif
from data_pipelines.tags import (
    TAGS,
    Rational,
    Target,
    build_targets,
    encode_targets,
    parse_tags,
    targets_from_json,
    targets_to_json,
    to_number,
)
from exif_jax.errors import UserError

RANGES = {
    "FNumber": (0.5, 128),
    "ExposureTime": (1e-6, 3600),
    "ISO": (1, 10_000_000),
    "FocalLength": (0.5, 5000),
    "MaxApertureValue": (-2, 14),
    "ExposureBiasValue": (-10, 10),
    "BrightnessValue": (-20, 20),
}
FIELDS = [
    "Make",
    "Model",
    "FNumber",
    "ApertureValue",
    "ExposureTime",
    "ShutterSpeedValue",
    "PhotographicSensitivity",
    "ISOSpeed",
    "StandardOutputSensitivity",
    "RecommendedExposureIndex",
    "FocalLength",
    "Flash",
    "MeteringMode",
    "MaxApertureValue",
    "ExposureBiasValue",
    "ExposureMode",
    "WhiteBalance",
    "BrightnessValue",
    "SceneCaptureType",
]
PUBLISHED_SIZES = {1: 7, 5: 6, 6: 4, 9: 6, 10: 4, 11: 2, 13: 5}

scalars = st.one_of(
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.none(),
    st.booleans(),
    st.builds(Rational, st.integers(), st.integers()),
    st.builds(Rational, st.integers(-(2**31), 2**32), st.integers(0, 2**32)),
)
raw_values = st.one_of(scalars, st.lists(scalars, max_size=3).map(tuple), st.lists(scalars))


def test_the_order_and_kinds_are_the_published_ones() -> None:
    assert [i for i, tag in enumerate(TAGS) if tag.kind == "categorical"] == list(PUBLISHED_SIZES)
    assert len(TAGS) == 14


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(FIELDS), raw_values))
def test_any_raw_value_gives_a_plausible_value_or_none(raw: dict[str, object]) -> None:
    values = parse_tags(raw)
    for tag in TAGS:
        value = values.get(tag.name)
        if value is None:
            continue
        if tag.kind == "ranked":
            low, high = RANGES[tag.name]
            assert isinstance(value, float)
            assert low <= value <= high or tag.name in ("FNumber", "ExposureTime")
            assert math.isfinite(np.float32(value))
            assert tag.name not in ("FNumber", "ExposureTime") or value > 0
        else:
            assert isinstance(value, str)
            assert value
            assert not tag.words or value in (*tag.words, "other")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (Rational(1, 60), 1 / 60),
        (Rational(1, 0), None),
        (Rational(10**400, 1), None),
        ((100, 0, 0), 100.0),
        ((), None),
        ("1/60", 1 / 60),
        (" 5.6\0junk", 5.6),
        (b"5.6", 5.6),
        ("1/0", None),
        ("__import__('os')", None),
        ("1e400", None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
    ],
)
def test_numbers_are_matched_never_evaluated(raw: object, expected: float | None) -> None:
    assert to_number(raw) == expected


@pytest.mark.parametrize(
    ("raw", "name", "expected"),
    [
        ({"FNumber": Rational(0, 0), "ApertureValue": Rational(4, 1)}, "FNumber", 4.0),
        ({"ApertureValue": Rational(0, 1)}, "FNumber", None),
        ({"ShutterSpeedValue": Rational(6, 1)}, "ExposureTime", 1 / 64),
        ({"ShutterSpeedValue": Rational(-1, 1)}, "ExposureTime", 2.0),
        ({"ExposureTime": Rational(1, 60)}, "ExposureTime", 1 / 60),
        ({"ExposureTime": Rational(0, 1)}, "ExposureTime", None),
        ({"PhotographicSensitivity": (400, 0)}, "ISO", 400.0),
        ({"PhotographicSensitivity": 65535, "ISOSpeed": 102400}, "ISO", 102400.0),
        ({"PhotographicSensitivity": 65535}, "ISO", None),
        ({"MaxApertureValue": Rational(0, 10)}, "MaxApertureValue", None),
        ({"ExposureBiasValue": Rational(-1, 3)}, "ExposureBiasValue", -1 / 3),
        ({"ExposureBiasValue": Rational(-1, 1)}, "ExposureBiasValue", -1.0),
        ({"BrightnessValue": Rational(-1, 1)}, "BrightnessValue", None),
        ({"BrightnessValue": Rational(-3, 2)}, "BrightnessValue", -1.5),
        ({"BrightnessValue": Rational(0xFFFFFFFF, 1)}, "BrightnessValue", None),
        ({"FocalLength": Rational(0, 1)}, "FocalLength", None),
        ({"Flash": 0}, "Flash", "not_fired"),
        ({"Flash": 16}, "Flash", "not_fired"),
        ({"Flash": 24}, "Flash", "auto_not_fired"),
        ({"Flash": 25}, "Flash", "fired"),
        ({"Flash": 89}, "Flash", "fired"),
        ({"Flash": 32}, "Flash", "no_flash_function"),
        ({"Flash": 4096}, "Flash", None),
        ({"MeteringMode": 3}, "MeteringMode", "spot"),
        ({"MeteringMode": 0}, "MeteringMode", None),
        ({"MeteringMode": 255}, "MeteringMode", "other"),
        ({"MeteringMode": 2.5}, "MeteringMode", None),
        ({"ExposureMode": 2}, "ExposureMode", "auto_bracket"),
        ({"WhiteBalance": 7}, "WhiteBalance", None),
        ({"SceneCaptureType": 8}, "SceneCaptureType", None),
    ],
)
def test_values_follow_the_standard(raw: dict[str, object], name: str, expected: object) -> None:
    value = parse_tags(raw).get(name)
    assert value == (pytest.approx(expected) if isinstance(expected, float) else expected)


def test_frequent_values_get_classes_and_the_others_one_together() -> None:
    photos = [{"Make": f"M{i}"} for i in range(9) for _ in range(9 - i)]
    make = build_targets(photos)[1]
    assert make.classes == ("M0", "M1", "M2", "M3", "M4", "M5", "other")
    assert encode_targets({"Make": "M8"}, [make]).tolist() == [6.0]


def test_closed_enumerations_have_the_published_sizes_whatever_was_seen() -> None:
    targets = build_targets([{"WhiteBalance": "manual", "MeteringMode": "other"}])
    sizes = {i: targets[i].size for i in PUBLISHED_SIZES if i not in (1, 5)}
    assert sizes == {i: size for i, size in PUBLISHED_SIZES.items() if i not in (1, 5)}
    assert targets[11].classes == ("manual", "auto")
    assert targets[9].classes[-1] == "other"
    assert targets[1].classes == ("other",)
    assert [t.name for t in targets] == [t.name for t in TAGS]


def test_ties_do_not_depend_on_the_order_of_photos() -> None:
    photos: list[dict[str, str | float]] = [{"Make": m, "FNumber": 2.0} for m in "ZYXWVUTSR"]
    assert build_targets(photos) == build_targets(photos[::-1])


def test_no_value_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        build_targets([{}, {}])


def test_missing_values_are_nan() -> None:
    targets = build_targets([{"Make": "A", "FNumber": 2.0, "WhiteBalance": "auto"}])
    row = encode_targets({"Make": "", "FNumber": math.nan, "WhiteBalance": "sunny"}, targets)
    assert row.dtype == np.float32
    assert np.isnan(row).all()
    row = encode_targets({"FNumber": 2.8, "WhiteBalance": "manual", "Flash": None}, targets)
    assert row[0] == np.float32(2.8)
    assert row[11] == 1.0


def test_targets_survive_json() -> None:
    targets = build_targets([{"Make": "Canon", "FNumber": 2.0}])
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets)))) == targets


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        [{"name": "Make"}],
        [{"name": "Make", "kind": "colour", "classes": []}],
        [{"name": "Make", "kind": "categorical", "classes": []}],
        [{"name": "Make", "kind": "categorical", "classes": ["a", "a"]}],
        [{"name": "ISO", "kind": "ranked", "classes": ["a"]}],
        [{"name": 3, "kind": "ranked", "classes": []}],
        ["Make"],
    ],
)
def test_damaged_targets_are_refused(damaged: object) -> None:
    with pytest.raises(UserError, match="list of targets"):
        targets_from_json(damaged)


def test_size_is_the_number_of_outputs() -> None:
    assert Target("ISO", "ranked").size == 1
    assert Target("Make", "categorical", ("a", "other")).size == 2


def test_a_raw_file_without_exif_has_no_tags() -> None:
    assert parse_tags(read_exif(b"not an image")) == {}
