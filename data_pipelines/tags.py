"""The table of EXIF targets that the extractor learns from, and how their values are read.

One row of `TAGS` says everything about a target: its name, whether photos are ranked by it or
classified, where in EXIF it comes from, how the raw value becomes a value in canonical units
(seconds, f-number, millimetres, ISO, EV), which range is plausible, and how classes are grouped.
The order is that of the published label vectors; which seven tags are ranked is our choice.

Enumerations, bit fields, units and the codes for "unknown" follow the EXIF standard (CIPA
DC-008, version 3.0). Nothing here raises on any raw value: what is not plausible is missing.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from data_pipelines.camera_names import normalise_make, normalise_model
from exif_jax.errors import UserError

Kind = Literal["categorical", "ranked"]
OTHER: Final = "other"
"""Name of the class that holds every value outside the frequent ones."""


class Rational(NamedTuple):
    """A fraction as EXIF stores it, not reduced: codes for "unknown" are in the numerator."""

    numerator: int
    denominator: int


RawExif = Mapping[str, Any]
"""Raw values by EXIF name: int, float, str, bytes, `Rational` or a tuple of those."""

_NUMBER_TEXT = re.compile(r"\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*(?:/\s*(\d{1,12}))?\s*")


def to_number(value: object) -> float | None:
    """Returns a finite number from a raw value, else None.

    Sequences give their first element (ISO comes as one in several cameras). Texts must be a plain
    decimal or one fraction ("5.6", "1/60"); they are matched, never evaluated.
    """
    if isinstance(value, Rational):
        try:
            return to_number(value.numerator / value.denominator)
        except (ArithmeticError, TypeError):
            return None
    if isinstance(value, tuple | list):
        return to_number(value[0]) if value and not isinstance(value[0], tuple | list) else None
    if isinstance(value, str | bytes):
        text = value.decode("latin-1") if isinstance(value, bytes) else value
        match = _NUMBER_TEXT.fullmatch(text.split("\0", 1)[0])
        if match is None:
            return None
        numerator, denominator = float(match[1]), float(match[2] or 1)
        return numerator / denominator if denominator else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond float's range
        return None


def _aperture_to_f_number(value: float) -> float:
    """APEX aperture value Av -> f-number, 2^(Av/2)."""
    return 2.0 ** (value / 2)


def _shutter_speed_to_seconds(value: float) -> float:
    """APEX shutter speed value Tv -> seconds, 2^-Tv."""
    return 2.0**-value


@dataclasses.dataclass(frozen=True)
class Source:
    """One EXIF field that gives a ranked tag.

    Attributes:
      field: EXIF name of the field.
      low: Smallest plausible raw value; it also keeps `convert` from overflowing.
      high: Largest plausible raw value.
      unknown: Raw values that stand for "not known" although they lie in the range.
      unknown_numerator: Numerator of a rational that stands for "not known".
      convert: From the field's unit to the tag's.
    """

    field: str
    low: float
    high: float
    unknown: tuple[float, ...] = ()
    unknown_numerator: int | None = None
    convert: Callable[[float], float] | None = None

    def read(self, raw: RawExif) -> float | None:
        """Returns the value in the tag's unit, None if absent or not plausible."""
        field = raw.get(self.field)
        number = to_number(field)
        if number is None or not self.low <= number <= self.high or number in self.unknown:
            return None
        if isinstance(field, Rational) and field.numerator == self.unknown_numerator:
            return None
        return self.convert(number) if self.convert else number


def _first_valid(*sources: Source) -> Callable[[RawExif], float | None]:
    """Parser of a ranked tag: the first source that gives a plausible value."""

    def parse(raw: RawExif) -> float | None:
        return next((v for s in sources if (v := s.read(raw)) is not None), None)

    return parse


def _enumeration(field: str, names: Mapping[int, str]) -> Callable[[RawExif], str | None]:
    """Parser of an enumerated tag; codes outside `names` are missing."""

    def parse(raw: RawExif) -> str | None:
        number = to_number(raw.get(field))
        return names.get(int(number)) if number is not None and number.is_integer() else None

    return parse


def _parse_flash(raw: RawExif) -> str | None:
    """Reads the bit field: bit 0 fired, bits 3-4 mode (3 = auto), bit 5 camera has no flash."""
    number = to_number(raw.get("Flash"))
    if number is None or not number.is_integer() or not 0 <= number < 128:
        return None
    bits = int(number)
    if bits & 1:
        return "fired"
    if bits & 0b10_0000:
        return "no_flash_function"
    return "auto_not_fired" if (bits >> 3) & 0b11 == 3 else "not_fired"


@dataclasses.dataclass(frozen=True)
class Tag:
    """One row of the table.

    Attributes:
      name: Name of the target, as in reports and records.
      kind: "ranked" (photos are ordered by it) or "categorical".
      unit: Unit of a ranked value; empty for a categorical one.
      parse: Raw EXIF -> value (float for ranked, class word or name for categorical), None if
        missing. Never raises.
      frequent: Number of frequent classes that get a class of their own.
      other: Whether a last class, "other", holds the remaining values.
      words: Every word that `parse` can give if the enumeration is closed, in the standard's order.
    """

    name: str
    kind: Kind
    parse: Callable[[RawExif], str | float | None]
    unit: str = ""
    frequent: int = 0
    other: bool = False
    words: tuple[str, ...] = ()


def _ranked(name: str, unit: str, *sources: Source) -> Tag:
    return Tag(name, "ranked", _first_valid(*sources), unit)


def _enumerated(name: str, field: str, names: Mapping[int, str], frequent: int, other: bool) -> Tag:
    words = tuple(dict.fromkeys(word for word in names.values() if word != OTHER))
    parse = _enumeration(field, names)
    return Tag(name, "categorical", parse, frequent=frequent, other=other, words=words)


_METERING: Final = {
    1: "average",
    2: "center_weighted",
    3: "spot",
    4: "multi_spot",
    5: "pattern",
    6: "partial",
    255: OTHER,
}
_SCENES: Final = {0: "standard", 1: "landscape", 2: "portrait", 3: "night"}
_MAX_ISO: Final = 10_000_000

TAGS: Final[tuple[Tag, ...]] = (
    _ranked(
        "FNumber",
        "f-number",
        Source("FNumber", 0.5, 128),
        # A stored 0 is what lenses without contacts leave, not an f/1 lens.
        Source("ApertureValue", -2, 14, unknown=(0.0,), convert=_aperture_to_f_number),
    ),
    Tag("Make", "categorical", lambda raw: normalise_make(raw.get("Make")), frequent=6, other=True),
    _ranked(
        "ExposureTime",
        "s",
        Source("ExposureTime", 1e-6, 3600),
        Source("ShutterSpeedValue", -11, 19, convert=_shutter_speed_to_seconds),
    ),
    _ranked(
        "ISO",
        "ISO",
        # 65535 is the largest number the two-byte field holds: look at the wider ones.
        Source("PhotographicSensitivity", 1, _MAX_ISO, unknown=(65535.0,)),
        Source("ISOSpeed", 1, _MAX_ISO),
        Source("StandardOutputSensitivity", 1, _MAX_ISO),
        Source("RecommendedExposureIndex", 1, _MAX_ISO),
    ),
    _ranked("FocalLength", "mm", Source("FocalLength", 0.5, 5000)),
    Tag(
        "Model",
        "categorical",
        lambda raw: normalise_model(raw.get("Model"), raw.get("Make")),
        frequent=5,
        other=True,
    ),
    Tag(
        "Flash",
        "categorical",
        _parse_flash,
        frequent=4,
        words=("not_fired", "fired", "auto_not_fired", "no_flash_function"),
    ),
    _ranked("MaxApertureValue", "EV", Source("MaxApertureValue", -2, 14, unknown=(0.0,))),
    _ranked("ExposureBiasValue", "EV", Source("ExposureBiasValue", -10, 10)),
    _enumerated("MeteringMode", "MeteringMode", _METERING, frequent=5, other=True),
    _enumerated(
        "ExposureMode",
        "ExposureMode",
        {0: "auto", 1: "manual", 2: "auto_bracket"},
        frequent=3,
        other=True,
    ),
    _enumerated("WhiteBalance", "WhiteBalance", {0: "auto", 1: "manual"}, frequent=2, other=False),
    _ranked(
        "BrightnessValue",
        "EV",
        # The standard's FFFFFFFF over anything, read as the signed number it is.
        Source("BrightnessValue", -20, 20, unknown_numerator=-1),
    ),
    _enumerated("SceneCaptureType", "SceneCaptureType", _SCENES, frequent=4, other=True),
)
"""The fourteen targets, in the order of the published label vectors."""

TAG_BY_NAME: Final[dict[str, Tag]] = {tag.name: tag for tag in TAGS}


def parse_tags(raw: RawExif) -> dict[str, str | float]:
    """Returns the valid values of a photo by tag name; missing tags are left out."""
    values = ((tag.name, tag.parse(raw)) for tag in TAGS)
    return {name: value for name, value in values if value is not None}


@dataclasses.dataclass(frozen=True)
class Target:
    """What the model predicts for one tag.

    Attributes:
      name: Name of the tag.
      kind: "ranked" or "categorical".
      classes: Names of the classes of a categorical target, in the order of their indices.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of outputs of the target's head."""
        return 1 if self.kind == "ranked" else len(self.classes)


def build_targets(photos: Iterable[Mapping[str, str | float]]) -> tuple[Target, ...]:
    """Builds the targets from the training photos: the frequent classes of each tag, and "other".

    All fourteen tags are always there, in the order of the table, also where no photo has a value.
    A closed enumeration always has the same number of classes (unseen words fill it up); makes and
    models have as many as there are frequent ones, and "other". Ties go by name.

    Args:
      photos: Valid values of each training photo by tag name, one mapping a photo.

    Raises:
      UserError: Not one photo has a value of any tag.
    """
    counts: dict[str, Counter[str]] = {tag.name: Counter() for tag in TAGS}
    any_value = False
    for values in photos:
        any_value = any_value or not TAG_BY_NAME.keys().isdisjoint(values)
        for name, value in values.items():
            if isinstance(value, str):
                counts[name][value] += 1
    if not any_value:
        raise UserError(
            "no training photo has a usable EXIF value, so there is nothing to learn from; "
            "give photos as the camera wrote them"
        )
    return tuple(
        Target(tag.name, tag.kind, () if tag.kind == "ranked" else _classes(tag, counts[tag.name]))
        for tag in TAGS
    )


def _classes(tag: Tag, counts: Counter[str]) -> tuple[str, ...]:
    """Names of the classes of a tag: most frequent first, "other" last."""
    words = [*tag.words, *sorted(counts.keys() - set(tag.words))]
    # Stable sort: equal counts stay in the standard's order, or by name.
    words = sorted((word for word in words if word != OTHER), key=lambda word: -counts[word])
    return tuple(words[: tag.frequent]) + ((OTHER,) if tag.other else ())


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
