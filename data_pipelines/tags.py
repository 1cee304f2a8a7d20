"""The table of EXIF targets that the extractor learns from, and how their values are read.

One row of `TAGS` says everything about a target: its name, whether photos are ranked by it or
classified, where in EXIF it comes from, how the raw value becomes a value in canonical units
(seconds, f-number, millimetres, ISO, EV), which range is plausible, and how classes are grouped.
The order is that of the published label vectors; which seven tags are ranked is our choice.

Enumerations, bit fields, units and the codes for "unknown" follow the EXIF standard (CIPA
DC-008, version 3.0). Nothing here raises on any raw value: what is not plausible is missing.

BrightnessValue has no substitute, though APEX would give one: Bv = Av + Tv - Sv + bias, with
Sv = log2(ISO / 3.125). On 637 photos of 64 camera models that state it, this differs from it by
0.60 EV in the median and 3.8 EV at the 90th percentile, and only 43% are within 0.5 EV. Some makers
write exactly this sum (Google 0.00 in the median), others a scale of their own (Apple 0.60, Huawei
2.9), so that values from the sum and plain ones could not be ranked together.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

from data_pipelines.camera_names import normalise_make, normalise_model
from data_pipelines.errors import UserError

Kind = Literal["categorical", "ranked"]
FocalLengthKind = Literal["actual", "35mm"]
OTHER: Final = "other"
"""Name of the class that holds every value outside the frequent ones."""


class Rational(NamedTuple):
    """A fraction as EXIF stores it, not reduced: codes for "unknown" are in the numerator."""

    numerator: int
    denominator: int


RawExif = Mapping[str, Any]
"""Raw values by EXIF name: int, float, str, bytes, `Rational` or a tuple of those."""

_NUMBER_TEXT = re.compile(r"\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*(?:/\s*(\d{1,12}))?\s*")


def _first(value: Any) -> Any:
    """Returns the first element of a sequence, anything else as it is."""
    if isinstance(value, tuple | list) and not isinstance(value, Rational):
        return value[0] if value else None
    return value


def to_number(value: object) -> float | None:
    """Returns a finite number from a raw value, else None.

    Sequences give their first element (ISO comes as one in several cameras). Texts must be a plain
    decimal or one fraction ("5.6", "1/60"); they are matched, never evaluated.
    """
    value = _first(value)
    if isinstance(value, Rational):
        try:
            return to_number(value.numerator / value.denominator)
        except (ArithmeticError, TypeError):
            return None
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
        field = _first(raw.get(self.field))
        number = to_number(field)
        if number is None or not self.low <= number <= self.high or number in self.unknown:
            return None
        if isinstance(field, Rational) and field.numerator == self.unknown_numerator:
            return None
        return self.convert(number) if self.convert else number


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
      sources: EXIF fields of a ranked tag: the first that gives a plausible value counts.
      classify: Raw EXIF -> class word or name of a categorical tag, None if missing. Never raises.
      frequent: Number of frequent classes that get a class of their own.
      other: Whether a last class, "other", holds the remaining values.
      words: Every word that `classify` can give if the enumeration is closed, in the standard's
        order; empty for the open vocabularies of makes and models.
    """

    name: str
    kind: Kind
    unit: str = ""
    sources: tuple[Source, ...] = ()
    classify: Callable[[RawExif], str | None] | None = None
    frequent: int = 0
    other: bool = False
    words: tuple[str, ...] = ()

    def parse(self, raw: RawExif) -> str | float | None:
        """Returns the tag's value, None if missing; never raises."""
        if self.classify is not None:
            return self.classify(raw)
        return next((v for s in self.sources if (v := s.read(raw)) is not None), None)


def _ranked(name: str, unit: str, *sources: Source) -> Tag:
    return Tag(name, "ranked", unit, sources)


def _enumerated(name: str, field: str, names: Mapping[int, str], frequent: int, other: bool) -> Tag:
    words = tuple(dict.fromkeys(word for word in names.values() if word != OTHER))
    classify = _enumeration(field, names)
    return Tag(name, "categorical", classify=classify, frequent=frequent, other=other, words=words)


_METERING: Final = {
    1: "average",
    2: "center_weighted",
    3: "spot",
    4: "multi_spot",
    5: "pattern",
    6: "partial",
    255: OTHER,
}
# Codes above 3, which some phones write, are not in the standard: missing, like all unknown ones.
_SCENES: Final = {0: "standard", 1: "landscape", 2: "portrait", 3: "night"}
_MAX_ISO: Final = 10_000_000
FOCAL_LENGTHS: Final[dict[FocalLengthKind, Source]] = {
    "actual": Source("FocalLength", 0.5, 5000),
    # The standard's 0, unknown, lies below the range.
    "35mm": Source("FocalLengthIn35mmFilm", 3, 10_000),
}
"""Where the focal length may come from: the lens' own, or that of equal view on 35 mm film."""

TAGS: Final[tuple[Tag, ...]] = (
    _ranked(
        "FNumber",
        "f-number",
        Source("FNumber", 0.5, 128),
        # A stored 0 is what lenses without contacts leave, not an f/1 lens.
        Source("ApertureValue", -2, 14, unknown=(0.0,), convert=_aperture_to_f_number),
    ),
    Tag(
        "Make",
        "categorical",
        classify=lambda raw: normalise_make(raw.get("Make")),
        frequent=6,
        other=True,
    ),
    _ranked(
        "ExposureTime",
        "s",
        Source("ExposureTime", 1e-6, 3600),
        Source("ShutterSpeedValue", -11, 19, convert=_shutter_speed_to_seconds),
    ),
    _ranked(
        "ISO",
        "ISO",
        # 65535 is the largest number the two-byte field holds: look at the wider ones. A camera
        # writes those that it has determined, so SensitivityType, which names them, is not needed.
        Source("PhotographicSensitivity", 1, _MAX_ISO, unknown=(65535.0,)),
        Source("ISOSpeed", 1, _MAX_ISO),
        Source("StandardOutputSensitivity", 1, _MAX_ISO),
        Source("RecommendedExposureIndex", 1, _MAX_ISO),
    ),
    _ranked("FocalLength", "mm", FOCAL_LENGTHS["actual"]),
    Tag(
        "Model",
        "categorical",
        classify=lambda raw: normalise_model(raw.get("Model"), raw.get("Make")),
        frequent=5,
        other=True,
    ),
    Tag(
        "Flash",
        "categorical",
        classify=_parse_flash,
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


_TABLES: Final = {
    kind: tuple(
        dataclasses.replace(tag, sources=(source,)) if tag.name == "FocalLength" else tag
        for tag in TAGS
    )
    for kind, source in FOCAL_LENGTHS.items()
}


def parse_tags(raw: RawExif, *, focal_length: FocalLengthKind = "actual") -> dict[str, str | float]:
    """Returns the valid values of a photo by tag name; missing tags are left out.

    Args:
      raw: Raw values by EXIF name.
      focal_length: "actual": the tag FocalLength is the lens' own focal length; "35mm": that of
        equal view on 35 mm film. Neither stands in for the other: they differ by the crop factor.

    Raises:
      UserError: `focal_length` is neither.
    """
    if focal_length not in _TABLES:
        raise UserError(f"focal_length: {focal_length!r} is not {' or '.join(_TABLES)}")
    values = ((tag.name, tag.parse(raw)) for tag in _TABLES[focal_length])
    return {name: value for name, value in values if value is not None}
