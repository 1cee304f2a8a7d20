"""Printed EXIF values -> values as EXIF stores them.

exiftool, Flickr and metadata-extractor (which wrote YFCC100M's list) print the same fields in
their own words. Whatever is printed, a reader here gives a number, a text that
`data_pipelines.tags.to_number` reads, or None where nothing is known. Nothing raises.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from data_pipelines.capture_times import FIELDS as TIME_FIELDS
from data_pipelines.capture_times import parse_fraction, parse_time, parse_zone
from data_pipelines.exif import CAMERA_FIELDS, MAIN_FIELDS
from data_pipelines.tags import TAG_BY_NAME, to_number

Value = int | float | str
Reader = Callable[[object], Value | None]

_MAX_TEXT: Final = 200
_MAX_NUMBER: Final = 1e15  # no EXIF number is larger

_NUMBER = re.compile(
    r"(?:f/?|iso)?\s*([+-]?\d{1,20}(?:\.\d{1,40})?(?:/\d{1,20})?)\s*(?:mm|sec|s|ev|pixels)?\.?",
    re.IGNORECASE,
)
_FRACTION_IN_BRACKETS = re.compile(r"[\d.]+\s*s(?:ec)?\.?\s*\((\d{1,12}/\d{1,12})\)", re.IGNORECASE)
_SEVERAL = re.compile(r"(\d{1,20})(?:[,\s]+\d{1,20}){1,15}")
_UNKNOWN_CODE = re.compile(r"unknown \((0x[0-9a-f]{1,4}|\d{1,5})\)", re.IGNORECASE)


def without_controls(text: str) -> str:
    """Returns a bounded text without control characters and halves of characters."""
    return "".join(c if c.isprintable() else " " for c in text[:_MAX_TEXT]).strip()


def read_text(value: object) -> Value | None:
    """Reads a name; a number is a name too (software "1.0" comes as a number)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = read_number(value)
        return None if number is None else str(number)
    return (without_controls(value) or None) if isinstance(value, str) else None


def _if_known(parse: Callable[[object], object]) -> Reader:
    """Returns the reader of a text, or a number, that stays as it is if `parse` reads it."""

    def read(value: object) -> Value | None:
        known = isinstance(value, str | int) and parse(value) is not None
        return without_controls(str(value)) if known else None

    return read


def read_number(value: object) -> Value | None:
    """Reads a number with or without its unit; the text stays if `to_number` reads it."""
    if isinstance(value, list | tuple):
        return read_number(value[0]) if value and not isinstance(value[0], list | tuple) else None
    if isinstance(value, str):
        text = value.strip()
        match = _FRACTION_IN_BRACKETS.fullmatch(text) or _NUMBER.fullmatch(text)
        if match is None:
            return None
        text = match[1].removeprefix("+")
        if "/" in text or to_number(text) is not None:
            return text if to_number(text) is not None else None
        value = float(text)  # more decimals than to_number takes
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) <= _MAX_NUMBER else None  # NaN compares false


def read_sensitivity(value: object) -> Value | None:
    """Reads an ISO number, the first of several ("100, 0")."""
    if isinstance(value, str):
        several = _SEVERAL.fullmatch(value.strip())
        value = several[1] if several else value
    return read_number(value)


def _apex(to_apex: Callable[[float], float], mark: str) -> tuple[Reader, Reader]:
    """Returns two readers of a field that stores `to_apex` of a number.

    To the first that number is printed; to the second what is stored, unless the text matches
    `mark`.
    """

    def convert(value: object) -> Value | None:
        number = to_number(read_number(value))
        # Six decimals undo the rounding of the way there and back.
        return round(to_apex(number), 6) if number is not None and number > 0 else None

    def read(value: object) -> Value | None:
        marked = isinstance(value, str) and re.search(mark, value, re.IGNORECASE)
        return convert(value) if marked else read_number(value)

    return convert, read


# Av = 2 log2 N, or "f/2.8", "F2.8"; Tv = -log2 t, or "1/60 sec".
_F_NUMBER, _APERTURE = _apex(lambda number: 2 * math.log2(number), r"\A\s*f")
_SECONDS, _SPEED = _apex(lambda seconds: -math.log2(seconds), r"s(?:ec)?\b")


def normalise(word: str) -> str:
    """Returns the letters and digits of a word, in lower case."""
    return "".join(c for c in word.lower() if c.isascii() and c.isalnum())


# Printed words, normalised -> EXIF code. The first word of a code is exiftool's, those after it
# are metadata-extractor's, Flickr's and the standard's own.
_WORDS: Final[Mapping[str, Mapping[int, tuple[str, ...]]]] = {
    "MeteringMode": {
        0: ("unknown",),
        1: ("average",),
        2: ("centerweightedaverage", "centerweighted"),
        3: ("spot",),
        4: ("multispot",),
        5: ("multisegment", "pattern", "matrix", "evaluative"),
        6: ("partial",),
        255: ("other",),
    },
    "ExposureMode": {
        0: ("auto", "autoexposure"),
        1: ("manual", "manualexposure"),
        2: ("autobracket",),
    },
    "WhiteBalance": {0: ("auto", "autowhitebalance"), 1: ("manual", "manualwhitebalance")},
    "SceneCaptureType": {
        0: ("standard",),
        1: ("landscape",),
        2: ("portrait",),
        3: ("night", "nightscene"),
    },
    "FileSource": {
        1: ("filmscanner",),
        2: ("reflectionprintscanner",),
        3: ("digitalcamera", "digitalstillcameradsc", "digitalstillcamera", "dsc"),
    },
}

# Phrase of a printed flash value -> its bits: 0 fired, 1-2 return, 3-4 mode, 5 none, 6 red-eye.
_FLASH_PHRASES: Final[Mapping[str, int]] = {
    "noflash": 0,
    "fired": 0x01,
    "flashfired": 0x01,
    "didnotfire": 0,
    "flashdidnotfire": 0,
    "on": 0x08,
    "off": 0x10,
    "auto": 0x18,
    "automode": 0x18,
    "noflashfunction": 0x20,
    "redeyereduction": 0x40,
    "redeyereductionmode": 0x40,
    # Light can return only from a flash that fired.
    "returndetected": 0x07,
    "returnlightdetected": 0x07,
    "strobereturnlightdetected": 0x07,
    "returnnotdetected": 0x05,
    "returnlightnotdetected": 0x05,
    "strobereturnlightnotdetected": 0x05,
}


def read_code(field: str) -> Reader:
    """Returns the reader of an enumerated field: a number, "Unknown (n)" or a word of it."""
    words = {word: code for code, names in _WORDS[field].items() for word in names}

    def read(value: object) -> Value | None:
        code = _number_code(value)
        return code if code is not None or not isinstance(value, str) else words.get(_word(value))

    return read


def read_flash(value: object) -> Value | None:
    """Reads the bit field from a number or from phrases such as "On, Return detected"."""
    code = _number_code(value)
    if code is not None or not isinstance(value, str):
        return code
    phrases = {_word(phrase) for phrase in value.split(",")}
    if phrases <= {"on", "off", "auto"}:
        return None  # a setting of the flash, not what it did
    if {"flashdidnotfire", "auto"} <= phrases:
        return None  # metadata-extractor says so of forced off and of auto alike
    resting = not phrases.isdisjoint({"didnotfire", "flashdidnotfire", "noflashfunction"})
    bits = 0
    for phrase in phrases:
        if phrase in ("compulsoryflashmode", "compulsoryflashsuppression"):
            bits |= 0x10 if resting else 0x08
        elif phrase in _FLASH_PHRASES:
            bits |= _FLASH_PHRASES[phrase]
        else:
            return None
    if resting:
        return bits & ~0x01
    # exiftool leaves "Fired" out after "On".
    return bits | 0x01 if "on" in phrases else bits


def _word(text: str) -> str:
    return normalise(text[:_MAX_TEXT])


def _number_code(value: object) -> int | None:
    if isinstance(value, str) and (unknown := _UNKNOWN_CODE.fullmatch(value.strip())):
        return int(unknown[1], 16 if "x" in unknown[1].lower() else 10)
    number = to_number(value)
    if number is None or not number.is_integer() or not 0 <= number <= 0xFFFF:
        return None
    return int(number)


_COMMON: Final[dict[str, Reader]] = {
    **dict.fromkeys((MAIN_FIELDS | CAMERA_FIELDS).values(), read_number),
    **dict.fromkeys(("Make", "Model", "Software"), read_text),
    **{name: _if_known(parse_time) for name, _, _ in TIME_FIELDS},
    **{name: _if_known(parse_fraction) for _, name, _ in TIME_FIELDS},
    **{name: _if_known(parse_zone) for _, _, name in TIME_FIELDS},
    **dict.fromkeys(TAG_BY_NAME["ISO"].fields, read_sensitivity),
    **{field: read_code(field) for field in _WORDS},
    "Flash": read_flash,
}
PHOTOGRAPHIC: Final[Mapping[str, Reader]] = _COMMON | {
    "ApertureValue": _F_NUMBER,
    "MaxApertureValue": _F_NUMBER,
    "ShutterSpeedValue": _SECONDS,
}
"""Readers by EXIF name, where APEX values were turned to f-numbers and seconds (exiftool)."""
APEX: Final[Mapping[str, Reader]] = _COMMON | {
    "ApertureValue": _APERTURE,
    "MaxApertureValue": _APERTURE,
    "ShutterSpeedValue": _SPEED,
}
"""Readers by EXIF name, where APEX values are as stored unless their text says otherwise."""
FIELDS: Final = frozenset(PHOTOGRAPHIC)
"""All that an entry may hold. Place, people, serial numbers and notes are never read."""
