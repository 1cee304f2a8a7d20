"""What the model predicts for each tag: its targets, built from the training photos.

Labels that come already coded, as the published vectors of fourteen numbers do, have targets of
their own: `coded_targets` and `coded_values`.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.tags import OTHER, TAGS, Tag


@dataclasses.dataclass(frozen=True)
class Target:
    """What the model predicts for one tag.

    Attributes:
      name: Name of the tag.
      kind: "ranked" or "categorical".
      classes: Names of the classes of a categorical target, in the order of their indices.
    """

    name: str
    kind: str
    classes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of outputs of the target's head."""
        return 1 if self.kind == "ranked" else len(self.classes)


def build_targets(
    photos: Iterable[Mapping[str, str | float]],
    *,
    min_count: int = 1,
    max_classes: int | None = None,
) -> tuple[Target, ...]:
    """Builds the targets from the training photos: the frequent classes of each tag, and "other".

    Args:
      photos: Valid values of each training photo by tag name, one mapping a photo.
      min_count: See `build_targets_from_counts`.
      max_classes: See there.

    Raises:
      UserError: Not one photo has a value of any tag, or an argument is out of its range.
    """
    counts: dict[str, Counter[str]] = {tag.name: Counter() for tag in TAGS}
    any_value = False
    for values in photos:
        any_value = any_value or not counts.keys().isdisjoint(values)
        for name, value in values.items():
            if isinstance(value, str):
                counts[name][value] += 1
    return build_targets_from_counts(
        counts, any_value=any_value, min_count=min_count, max_classes=max_classes
    )


def build_targets_from_counts(
    counts: Mapping[str, Mapping[str, int]],
    *,
    any_value: bool = False,
    min_count: int = 1,
    max_classes: int | None = None,
) -> tuple[Target, ...]:
    """Builds the targets from counts alone, for more photos than fit into memory.

    All fourteen tags are always there, in the order of the table, also where no photo has a value.
    A closed enumeration always has the same number of classes (unseen words fill it up); makes and
    models have as many as there are frequent ones, and "other". Ties go by name.

    Args:
      counts: By tag name: how many training photos have each text value.
      any_value: Whether a photo has a value that is not counted, one of a ranked tag.
      min_count: A make or model gets a class of its own from so many training photos on; the rest
        is "other".
      max_classes: At most so many makes, and so many models, get a class of their own; None: the
        table's numbers, six makes and five models.

    Raises:
      UserError: No value is counted and `any_value` is false, or an argument is out of its range.
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
        Target(tag.name, tag.kind)
        if tag.kind == "ranked"
        else Target(
            tag.name, tag.kind, _classes(tag, counts.get(tag.name, {}), min_count, max_classes)
        )
        for tag in TAGS
    )


def _classes(
    tag: Tag, counts: Mapping[str, int], min_count: int, max_classes: int | None
) -> tuple[str, ...]:
    """Names of the classes of a tag: most frequent first, "other" last."""
    most = tag.frequent
    words = [*tag.words, *sorted(counts.keys() - set(tag.words))]
    if not tag.words:  # an open vocabulary
        most = max_classes or most
        words = [word for word in words if counts[word] >= min_count]
    # Stable sort: equal counts stay in the standard's order, or by name.
    words = sorted(
        (word for word in words if word != OTHER),
        key=lambda word: counts.get(word, 0),
        reverse=True,
    )
    return tuple(words[:most]) + ((OTHER,) if tag.other else ())


def coded_targets() -> tuple[Target, ...]:
    """Returns the targets of labels that are already coded: classes are known by number only."""
    return tuple(
        Target(tag.name, tag.kind, tuple(map(_coded_class, range(tag.frequent + tag.other))))
        for tag in TAGS
    )


def coded_values(coded: Sequence[float | None]) -> dict[str, str | float]:
    """Returns the values of one photo from its coded labels, for `coded_targets`.

    Args:
      coded: Fourteen numbers in the order of the table: of a ranked tag the value, of a categorical
        one the number of its class; None or NaN is missing.

    Returns:
      Values by tag name: ranked ones as they are, categorical ones as "class_0", "class_1", ...

    Raises:
      UserError: There are not fourteen, or one is out of its range.
    """
    if len(coded) != len(TAGS):
        raise UserError(f"coded labels: {len(coded)} numbers given, {len(TAGS)} wanted")
    values: dict[str, str | float] = {}
    for tag, number in zip(TAGS, coded, strict=True):
        if number is None or math.isnan(number):
            continue
        classes = tag.frequent + tag.other
        if tag.kind == "ranked":
            if math.isinf(number):
                raise UserError(f"coded labels: {number} of {tag.name} is no finite number")
            values[tag.name] = float(number)
        elif number in range(classes):
            values[tag.name] = _coded_class(int(number))
        else:
            raise UserError(
                f"coded labels: {number} of {tag.name} is no whole number from 0 to {classes - 1}"
            )
    return values


def _coded_class(number: int) -> str:
    return f"class_{number}"


def class_index(value: str, target: Target) -> int | None:
    """Index of a value's class, that of "other" if it has none of its own, None if neither."""
    for name in (value, OTHER):
        if name in target.classes:
            return target.classes.index(name)
    return None


def encode_targets(
    values: Mapping[str, str | float | None], targets: Sequence[Target]
) -> np.ndarray:
    """Encodes the values of one photo for training.

    Args:
      values: Values by tag name; absent, None or NaN is missing, and so is an empty text.
      targets: The T targets.

    Returns:
      float32 [T]: the value of a ranked tag in its unit, the class index of a categorical one, NaN
      where it is missing.
    """
    encoded = np.full(len(targets), np.nan, np.float32)
    for i, target in enumerate(targets):
        value = values.get(target.name)
        if value is None or value == "":
            continue
        number = class_index(str(value), target) if target.kind == "categorical" else float(value)
        if number is not None:
            encoded[i] = number
    return encoded


def targets_to_json(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Returns the targets as plain lists and dicts, for a JSON file."""
    return [
        {"name": target.name, "kind": target.kind, "classes": list(target.classes)}
        for target in targets
    ]


def targets_from_json(obj: object) -> tuple[Target, ...]:
    """Reads what `targets_to_json` wrote.

    Raises:
      UserError: `obj` is not a list of targets.
    """
    try:
        targets = tuple(_target_from_json(row) for row in obj)  # type: ignore[attr-defined]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise UserError(
            f"the list of targets is damaged ({error}); make the data or model anew"
        ) from error
    if not targets:
        raise UserError("the list of targets is empty; make the data or model anew")
    return targets


def _target_from_json(row: Mapping[str, Any]) -> Target:
    name, kind, classes = row["name"], row["kind"], tuple(row["classes"])
    if not isinstance(name, str) or not all(isinstance(c, str) for c in classes):
        raise ValueError(f"names must be texts in {row!r}")
    if kind not in ("ranked", "categorical"):
        raise ValueError(f"unknown kind {kind!r} of {name}")
    if (kind == "ranked") == bool(classes) or len(set(classes)) != len(classes):
        raise ValueError(f"the classes of {name} do not fit its kind")
    return Target(name, kind, classes)
