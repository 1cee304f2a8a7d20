import json
import math
from collections import Counter

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.tags import TAGS
from data_pipelines.targets import (
    Target,
    build_targets,
    coded_targets,
    coded_values,
    encode_values,
    targets_from_json,
    targets_to_json,
)

PUBLISHED_SIZES = {1: 7, 5: 6, 6: 4, 9: 6, 10: 4, 11: 2, 13: 5}
PUBLISHED = (
    *("FNumber", "Make", "ExposureTime", "ISO", "FocalLength", "Model", "Flash"),
    *("MaxApertureValue", "ExposureBiasValue", "MeteringMode", "ExposureMode", "WhiteBalance"),
    *("BrightnessValue", "SceneCaptureType"),
)
CODED = [2.8, 6, 0.01, 200.0, 50.0, 0, 3, 4.0, -1.0, 5, 3, 1, 7.5, 4]


def targets_of(photos: list[dict[str, str | float]], **options: int) -> tuple[Target, ...]:
    counts: dict[str, Counter[str]] = {}
    for name, value in (pair for photo in photos for pair in photo.items()):
        if isinstance(value, str):
            counts.setdefault(name, Counter())[value] += 1
    return build_targets(counts, any_value=any(photos), **options)


def test_frequent_values_get_classes_and_the_others_one_together() -> None:
    photos = [{"Make": f"M{i}"} for i in range(9) for _ in range(9 - i)]
    make = targets_of(photos)[1]
    assert make.classes == ("M0", "M1", "M2", "M3", "M4", "M5", "other")
    assert encode_values(["M8", "M0", ""], make).tolist()[:2] == [6.0, 0.0]


def test_closed_enumerations_have_the_published_sizes_whatever_was_seen() -> None:
    targets = targets_of([{"WhiteBalance": "manual", "MeteringMode": "other"}])
    sizes = {i: targets[i].size for i in PUBLISHED_SIZES if i not in (1, 5)}
    assert sizes == {i: size for i, size in PUBLISHED_SIZES.items() if i not in (1, 5)}
    assert targets[11].classes == ("manual", "auto")
    assert targets[9].classes[-1] == "other"
    assert targets[1].classes == ("other",)
    assert [t.name for t in targets] == [t.name for t in TAGS]


def test_ties_do_not_depend_on_the_order_of_photos() -> None:
    photos: list[dict[str, str | float]] = [{"Make": m, "FNumber": 2.0} for m in "ZYXWVUTSR"]
    assert targets_of(photos) == targets_of(photos[::-1])


def test_no_value_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="nothing to learn"):
        targets_of([{}, {}])


def test_missing_values_are_nan() -> None:
    targets = targets_of([{"Make": "A", "FNumber": 2.0, "WhiteBalance": "auto"}])
    f_number, make, white_balance = targets[0], targets[1], targets[11]
    for column in (
        encode_values([math.nan, 2.8], f_number),
        encode_values(["", "A"], make),
        encode_values(["sunny", "manual"], white_balance),  # a class that there is not, nor "other"
    ):
        assert column.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(column), [True, False])
    assert encode_values([2.8], f_number) == np.float32(2.8)
    assert encode_values(np.array(["manual"], object), white_balance) == 1.0
    assert encode_values([], make).shape == (0,)


def test_targets_survive_json() -> None:
    targets = targets_of([{"Make": "Canon", "FNumber": 2.0}])
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets)))) == targets


def test_targets_of_other_objectives_survive_json() -> None:
    targets = (Target("ISO", "bins", ("low", "high")), Target("rotation", "angles"))
    assert targets_from_json(json.loads(json.dumps(targets_to_json(targets)))) == targets


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        [],
        [{"name": "Make"}],
        [{"name": "Make", "kind": 3, "classes": []}],
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


def test_rare_makes_and_models_are_other() -> None:
    photos = [{"Make": m, "Model": m, "Flash": "fired"} for m in "AAABBC"]
    targets = targets_of(photos, min_count=2)
    assert targets[1].classes == targets[5].classes == ("A", "B", "other")
    # A closed enumeration keeps its classes, however rare.
    assert targets[6].size == 4


def test_the_number_of_classes_of_makes_and_models_can_be_set() -> None:
    photos = [{"Make": f"M{i:02}", "Model": f"M{i:02}", "Flash": "fired"} for i in range(20)]
    for most in (1, 6, 15):
        targets = targets_of(photos, max_classes=most)
        assert targets[1].size == targets[5].size == most + 1
        assert targets[1].classes[-1] == "other"
        assert targets[6].size == 4
    assert [target.size for target in targets_of(photos)][1:6:4] == [7, 6]


@pytest.mark.parametrize("name", ["min_count", "max_classes"])
@pytest.mark.parametrize("number", [0, -1, True, 1.5])
def test_wrong_arguments_are_named(name: str, number: int) -> None:
    with pytest.raises(UserError, match=f"{name}: {number} is not"):
        targets_of([{"Make": "A"}], **{name: number})


def test_ranked_values_alone_give_targets_but_counts_of_nothing_do_not() -> None:
    assert build_targets({}, any_value=True) == targets_of([{"FNumber": 2.0}])
    with pytest.raises(UserError, match="nothing to learn"):
        build_targets({"Make": {"A": 0}})


def test_coded_labels_come_back_as_the_same_numbers() -> None:
    targets = coded_targets()
    sizes = {i: target.size for i, target in enumerate(targets) if target.kind == "categorical"}
    assert sizes == PUBLISHED_SIZES
    assert tuple(target.name for target in targets) == PUBLISHED
    values = coded_values(CODED)
    assert values["FNumber"] == 2.8
    assert values["Make"] == "class_6"
    encoded = [encode_values([values[target.name]], target)[0] for target in targets]
    np.testing.assert_array_equal(encoded, np.float32(CODED))
    assert targets_from_json(targets_to_json(targets)) == targets


@pytest.mark.parametrize("missing", [None, math.nan])
def test_missing_coded_labels_stay_missing(missing: float | None) -> None:
    for i, name in enumerate(PUBLISHED):
        coded: list[float | None] = [*CODED]
        coded[i] = missing
        assert coded_values(coded).keys() == {*PUBLISHED} - {name}
    assert coded_values([missing] * 14) == {}


@pytest.mark.parametrize(
    ("index", "number", "message"),
    [
        (1, 7, "7 of Make is no whole number from 0 to 6"),
        (11, -1, "-1 of WhiteBalance"),
        (11, 0.5, "0.5 of WhiteBalance"),
        (6, math.inf, "inf of Flash"),
        (0, math.inf, "inf of FNumber is no finite number"),
    ],
)
def test_coded_labels_out_of_range_are_refused(index: int, number: float, message: str) -> None:
    coded = [*CODED]
    coded[index] = number
    with pytest.raises(UserError, match=message):
        coded_values(coded)


def test_coded_labels_must_be_fourteen() -> None:
    with pytest.raises(UserError, match="13 numbers given, 14 wanted"):
        coded_values(CODED[:-1])
