"""The table of EXIF targets that the extractor learns from, and how their values are read.

One row of `TAGS` says everything about a target: its name, whether photos are ranked by it or
classified, where in EXIF it comes from, how the raw value becomes a value in canonical units
(seconds, f-number, millimetres, ISO, EV), which range is plausible, and how classes are grouped.
What depends on the kind of a tag is in its class, and nowhere else on the host's side.

Enumerations, bit fields, units and the codes for "unknown" follow the EXIF standard (CIPA
DC-008, version 3.0). Nothing here raises on any raw value: what is not plausible is missing.

BrightnessValue has no substitute, though APEX would give one: Bv = Av + Tv - Sv + bias, with
Sv = log2(ISO / 3.125). On 637 photos of 64 camera models that state it, this differs from it by
0.60 EV in the median and 3.8 EV at the 90th percentile, and only 43% are within 0.5 EV. Some makers
write exactly this sum (Google 0.00 in the median), others a scale of their own (Apple 0.60, Huawei
2.9), so that values from the sum and plain ones could not be ranked together.
"""

import abc
import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Literal, NamedTuple

import numpy as np
from etils import epy

from data_pipelines.camera_names import normalise_make, normalise_model
from data_pipelines.columns import Numbers, Texts
from data_pipelines.errors import UserError

with epy.lazy_imports():  # seconds, and who only reads EXIF does without
    import tensorflow_datasets as tfds

Value = str | float
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


@dataclasses.dataclass(frozen=True)
class Source:
    """One EXIF field that gives a ranked tag.

    Attributes:
        field: EXIF name of the field.
        low: smallest plausible raw value; it also keeps `convert` from overflowing.
        high: largest plausible raw value.
        unknown: raw values that stand for "not known" although they lie in the range.
        unknown_numerator: numerator of a rational that stands for "not known".
        convert: from the field's unit to the tag's.
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
class Tag(abc.ABC):
    """One row of the table.

    Attributes:
        name: of the target, as in reports and records.
        fields: EXIF names of the fields that it is read from.
        parse: raw EXIF -> the tag's value, None if missing; never raises.
        unit: of its values; empty for words.
        kind: "ranked" (photos are ordered by it) or "categorical".
        missing: stands in records for a value that a photo lacks.
        dtype: of an array of values.
        column: what gathers the values of many photos.
    """

    name: str
    fields: tuple[str, ...]
    parse: Callable[[RawExif], Value | None]
    unit: str = ""
    kind: ClassVar[str]
    missing: ClassVar[Value]
    dtype: ClassVar[type]
    column: ClassVar[type[Numbers | Texts]]

    def classes(
        self, counts: Mapping[str, int], min_count: int, max_classes: int | None
    ) -> tuple[str, ...]:
        """Names of the classes to learn, none for numbers; see `targets.build_targets`.

        Args:
            counts: how many training photos have each text value.
            min_count: photos from which on a word of an open vocabulary has a class of its own.
            max_classes: at most so many words of an open vocabulary do; None: the table's number.
        """
        return ()

    @abc.abstractmethod
    def feature(self) -> Any:
        """What tensorflow-datasets stores a value as."""

    @abc.abstractmethod
    def from_example(self, feature: Any) -> Value:
        """Reads a value from a feature of a tf.Example; `missing` where the feature is empty."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankedTag(Tag):
    """A number that orders photos.

    Attributes:
        sources: EXIF fields: the first that gives a plausible value counts.
    """

    sources: tuple[Source, ...]
    kind = "ranked"
    missing = math.nan
    dtype = np.float32
    column = Numbers

    def feature(self) -> Any:
        """See `Tag`."""
        return np.float32

    def from_example(self, feature: Any) -> float:
        """See `Tag`."""
        return next(iter(feature.float_list.value), math.nan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CategoricalTag(Tag):
    """A word that sorts photos into classes.

    Attributes:
        frequent: number of frequent classes that get a class of their own.
        other: whether a last class, "other", holds the remaining values.
        words: every word that `parse` can give if the enumeration is closed, in the standard's
            order; empty for the open vocabularies of makes and models.
    """

    frequent: int
    other: bool = False
    words: tuple[str, ...] = ()
    kind = "categorical"
    missing = ""
    dtype = object
    column = Texts

    def classes(
        self, counts: Mapping[str, int], min_count: int, max_classes: int | None
    ) -> tuple[str, ...]:
        """The most frequent words first, "other" last; a closed enumeration is always complete."""
        most = self.frequent
        words = [*self.words, *sorted(counts.keys() - set(self.words))]
        if not self.words:
            most = max_classes or most
            words = [word for word in words if counts[word] >= min_count]
        # Stable sort: equal counts stay in the standard's order, or by name.
        words = sorted(
            (word for word in words if word != OTHER), key=lambda word: -counts.get(word, 0)
        )
        return tuple(words[:most]) + ((OTHER,) if self.other else ())

    def feature(self) -> Any:
        """See `Tag`."""
        return tfds.features.Text()

    def from_example(self, feature: Any) -> str:
        """See `Tag`."""
        return "".join(value.decode() for value in feature.bytes_list.value)


def _ranked(name: str, unit: str, *sources: Source) -> RankedTag:
    def parse(raw: RawExif) -> float | None:
        return next((v for source in sources if (v := source.read(raw)) is not None), None)

    fields = tuple(source.field for source in sources)
    return RankedTag(name, fields, parse, unit, sources=sources)


def _enumerated(name: str, names: Mapping[int, str], frequent: int, other: bool) -> CategoricalTag:
    """A tag with the words of some codes; other codes are missing."""

    def parse(raw: RawExif) -> str | None:
        number = to_number(raw.get(name))
        return names.get(int(number)) if number is not None and number.is_integer() else None

    words = tuple(word for word in names.values() if word != OTHER)
    return CategoricalTag(name, (name,), parse, frequent=frequent, other=other, words=words)


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
        # APEX Av. A stored 0 is what lenses without contacts leave, not an f/1 lens.
        Source("ApertureValue", -2, 14, unknown=(0.0,), convert=lambda av: 2.0 ** (av / 2)),
    ),
    CategoricalTag(
        "Make", ("Make",), lambda raw: normalise_make(raw.get("Make")), frequent=6, other=True
    ),
    _ranked(
        "ExposureTime",
        "s",
        Source("ExposureTime", 1e-6, 3600),
        Source("ShutterSpeedValue", -11, 19, convert=lambda tv: 2.0**-tv),  # APEX Tv
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
    CategoricalTag(
        "Model",
        ("Model", "Make"),
        lambda raw: normalise_model(raw.get("Model"), raw.get("Make")),
        frequent=5,
        other=True,
    ),
    CategoricalTag(
        "Flash",
        ("Flash",),
        _parse_flash,
        frequent=4,
        words=("not_fired", "fired", "auto_not_fired", "no_flash_function"),
    ),
    _ranked("MaxApertureValue", "EV", Source("MaxApertureValue", -2, 14, unknown=(0.0,))),
    _ranked("ExposureBiasValue", "EV", Source("ExposureBiasValue", -10, 10)),
    _enumerated("MeteringMode", _METERING, frequent=5, other=True),
    _enumerated(
        "ExposureMode", {0: "auto", 1: "manual", 2: "auto_bracket"}, frequent=3, other=True
    ),
    _enumerated("WhiteBalance", {0: "auto", 1: "manual"}, frequent=2, other=False),
    _ranked(
        "BrightnessValue",
        "EV",
        # The standard's FFFFFFFF over anything, read as the signed number it is.
        Source("BrightnessValue", -20, 20, unknown_numerator=-1),
    ),
    _enumerated("SceneCaptureType", _SCENES, frequent=4, other=True),
)
"""The targets. Which of them are ranked is our choice."""

TAG_BY_NAME: Final[dict[str, Tag]] = {tag.name: tag for tag in TAGS}
_TABLES: Final = {
    kind: tuple(
        _ranked(tag.name, tag.unit, source) if tag.name == "FocalLength" else tag for tag in TAGS
    )
    for kind, source in FOCAL_LENGTHS.items()
}


def parse_tags(raw: RawExif, *, focal_length: FocalLengthKind = "actual") -> dict[str, Value]:
    """Returns the valid values of a photo by tag name; missing tags are left out.

    The tag FocalLength is the one of `FOCAL_LENGTHS` that is asked for. Neither stands in for the
    other, as they differ by the crop factor.

    Raises:
        UserError: `focal_length` is neither.
    """
    if focal_length not in _TABLES:
        raise UserError(f"focal_length: {focal_length!r} is not {' or '.join(_TABLES)}")
    values = ((tag.name, tag.parse(raw)) for tag in _TABLES[focal_length])
    return {name: value for name, value in values if value is not None}
