"""What the model predicts for each tag: its targets, built from the training photos.

Labels that come already coded, as the published vectors of fourteen numbers do, have targets of
their own: `coded_targets` and `coded_values`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.tags import OTHER, TAG_BY_NAME, TAGS, CategoricalTag, RankedTag, Value

RELEASED: Final[Mapping[str, int]] = {
    "FNumber": 0,
    "Make": 7,
    "ExposureTime": 0,
    "ISO": 0,
    "FocalLength": 0,
    "Model": 6,
    "Flash": 4,
    "MaxApertureValue": 0,
    "ExposureBiasValue": 0,
    "MeteringMode": 6,
    "ExposureMode": 4,
    "WhiteBalance": 2,
    "BrightnessValue": 0,
    "SceneCaptureType": 5,
}
"""Columns of the published label vectors, in their order, with the number of classes; 0: a value.

It stands by itself, so that no change of `TAGS` changes how these vectors are read.
"""
_HAS_CLASSES: Final = {RankedTag.kind: False, CategoricalTag.kind: True}


@dataclasses.dataclass(frozen=True)
class Target:
    """What the model predicts for one tag.

    Attributes:
        name: of the tag.
        kind: "ranked", "categorical", or the name of another objective that learns it.
        classes: names of the classes in the order of their indices; none of a number.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of outputs of the target's head."""
        return len(self.classes) or 1


def build_targets(
    counts: Mapping[str, Mapping[str, int]],
    *,
    any_value: bool = False,
    min_count: int = 1,
    max_classes: int | None = None,
) -> tuple[Target, ...]:
    """Builds the targets from the training photos: the frequent classes of each tag, and "other".

    All tags are always there, in the order of the table, also where no photo has a value. A closed
    enumeration always has the same number of classes (unseen words fill it up); makes and models
    have as many as there are frequent ones, and "other". Ties go by name.

    Args:
        counts: by tag name: how many training photos have each text value.
        any_value: whether a photo has a value that is not counted, one of a ranked tag.
        min_count: a make or model gets a class of its own from so many training photos on; the
            rest is "other".
        max_classes: at most so many makes, and so many models, get a class of their own; None: the
            table's numbers, six makes and five models.

    Raises:
        UserError: no value is counted and `any_value` is false, or an argument is out of its range.
    """
    for name, number in (("min_count", min_count), ("max_classes", max_classes)):
        if number is not None and (type(number) is not int or number < 1):
            raise UserError(f"{name}: {number!r} is not a whole number from 1 up")
    if not any_value and not any(any(words.values()) for words in counts.values()):
        raise UserError(
            "no training photo has a usable EXIF value, so there is nothing to learn from; "
            "give photos as the camera wrote them"
        )
    return tuple(
        Target(tag.name, tag.kind, tag.classes(counts.get(tag.name, {}), min_count, max_classes))
        for tag in TAGS
    )


def coded_targets() -> tuple[Target, ...]:
    """Returns the targets of labels that are already coded: classes are known by number only."""
    return tuple(
        Target(name, TAG_BY_NAME[name].kind, tuple(map(_coded_class, range(classes))))
        for name, classes in RELEASED.items()
    )


def _coded_value(name: str, number: float | None) -> Value | None:
    if number is None or math.isnan(number):
        return None
    classes = RELEASED[name]
    if classes and number not in range(classes):
        raise UserError(
            f"coded labels: {number:g} of {name} is no whole number from 0 to {classes - 1}"
        )
    if math.isinf(number):
        raise UserError(f"coded labels: {number} of {name} is no finite number")
    return _coded_class(int(number)) if classes else float(number)


def coded_values(coded: Sequence[float | None]) -> dict[str, Value]:
    """Returns what the labels of one photo stand for by tag name, for `coded_targets`.

    Args:
        coded: fourteen numbers in the order of `RELEASED`: of a ranked tag the value, of a
            categorical one the number of its class; None or NaN is missing.

    Returns:
        Numbers as they are, classes as "class_0", "class_1", ...; missing values are left out.

    Raises:
        UserError: there are not fourteen, or one is out of its range.
    """
    if len(coded) != len(RELEASED):
        raise UserError(f"coded labels: {len(coded)} numbers given, {len(RELEASED)} wanted")
    values = {name: _coded_value(name, n) for name, n in zip(RELEASED, coded, strict=True)}
    return {name: value for name, value in values.items() if value is not None}


def _coded_class(number: int) -> str:
    return f"class_{number}"


def class_index(value: str, target: Target) -> int | None:
    """Index of a value's class, that of "other" if it has none of its own, None if neither."""
    for name in (value, OTHER):
        if name in target.classes:
            return target.classes.index(name)
    return None


def encode_values(values: Sequence[Value] | np.ndarray, target: Target) -> np.ndarray:
    """Encodes the values of n photos for training; NaN or an empty text is missing.

    Returns:
        float32 [n]: the number itself, or the index of the class; NaN where it is missing.
    """
    if not target.classes:
        return np.asarray(values, np.float32)
    index = {word: class_index(str(word), target) if word else None for word in set(values)}
    return np.array([index[word] for word in values], np.float32)  # None becomes NaN


def targets_to_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Returns the targets as plain lists and dicts, for a JSON file."""
    return [{**vars(target), "classes": list(target.classes)} for target in targets]


def targets_from_json(obj: object) -> tuple[Target, ...]:
    """Reads what `targets_to_json` wrote.

    Raises:
        UserError: `obj` is not a list of targets.
    """
    try:
        targets = tuple(_target_from_json(row) for row in obj)  # type: ignore[attr-defined]
        if not targets:
            raise ValueError("it is empty")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(
            f"the list of targets is damaged ({error}); make the data or model anew"
        ) from error
    return targets


def _target_from_json(row: Mapping[str, Any]) -> Target:
    name, kind, classes = row["name"], row["kind"], tuple(row["classes"])
    if not all(isinstance(text, str) for text in (name, kind, *classes)):
        raise ValueError(f"names must be texts in {row!r}")
    if _HAS_CLASSES.get(kind, bool(classes)) != bool(classes) or len(set(classes)) != len(classes):
        raise ValueError(f"the classes of {name} do not fit its kind")
    return Target(name, kind, classes)
