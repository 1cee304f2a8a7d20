"""Times of capture, as cameras, phones and editors write them.

The standard's form is `2012:12:01 10:37:28`. Files have dashes, slashes or dots for the colons, ISO
8601 with fractions and zones, blanks for leading zeros, no seconds, the day before the year, clocks
of twelve hours, or NULs around it all. Only differences between photos of one camera are ever used,
so a clock that is wrong does no harm.
"""

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any, Final

FIELDS: Final = (
    ("DateTimeOriginal", "SubSecTimeOriginal", "OffsetTimeOriginal"),
    ("DateTimeDigitized", "SubSecTimeDigitized", "OffsetTimeDigitized"),
    ("DateTime", "SubSecTime", "OffsetTime"),
)
"""EXIF names of a time, its fraction of a second and its zone; the first time known counts."""

_MAX_TEXT: Final = 64
_FIRST_YEAR: Final = 1900  # before it, a date stands for nothing
# Computers count time from these midnights, and phones of one maker of chips write that noon where
# they have no time (https://github.com/photoprism/photoprism/issues/3229): a photo of just then has
# none. All such photos of a camera would be one burst.
_DEFAULTS: Final = (
    *((1904, 1, 1, 0), (1970, 1, 1, 0), (1980, 1, 1, 0)),
    (2002, 12, 8, 12 * 3600),
)
_FURTHEST_ZONE: Final = 14 * 3600
_DAY: Final = 86400

# Some writers take two bytes for each character, and mark the order of these before the first.
_WIDE = re.compile(r"(?:\d\0){4}")
_MARKS: Final = "\xff\xfe\ufeff\ufffd \t\n"
_SEPARATOR = re.compile(r"\s*([-:/.,])\s*")
_DATE = re.compile(
    r"(?P<y>\d{4})[-:/._](?P<m>\d{1,2})[-:/._](?P<d>\d{1,2})(?!\d)"
    r"|(?P<first>\d{1,2})[-:/.](?P<second>\d{1,2})[-:/.](?P<last>\d{4})(?!\d)"
    r"|(?P<compact>\d{8})(?=(?:\d{4}|\d{6})?(?!\d))"
)
_CLOCK = re.compile(
    r"[T\s_:,;@-]*"
    r"(?:(?P<hour>\d{1,2})(?P<c>[-:.])(?P<minute>\d{1,2})"
    r"(?:(?P=c)(?P<second>\d{1,2})(?:[.,:](?P<fraction>\d{1,12}))?)?"
    r"|(?P<compact>\d{4}(?:\d\d)?)(?:[.,](?P<part>\d{1,12}))?)(?!\d)"
    r"(?:\s*(?P<half>[ap])\.?m\b\.?)?",
    re.IGNORECASE,
)
_ZONE = re.compile(
    r"\s*(?P<zero>Z\b|UTC|GMT)?\s*(?:(?P<sign>[+\-\u2212])(?P<h>\d{1,2}):?(?P<m>\d\d)?(?!\d))?",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class ClockTime:
    """When a photo was taken.

    Attributes:
        seconds: by the camera's clock, from an arbitrary origin, with its fraction.
        zone: seconds by which that clock is ahead of UTC, None if unknown.
    """

    seconds: float
    zone: float | None = None


def capture_time(raw: Mapping[str, Any]) -> ClockTime | None:
    """Returns the time of capture in raw EXIF values by name, None if there is none; no raise."""
    for name, fraction, zone in FIELDS:
        if (time := parse_time(raw.get(name))) is not None:
            return _completed(time, raw.get(fraction), raw.get(zone, raw.get("OffsetTime")))
    return None


def parse_time(value: object) -> ClockTime | None:
    """Reads a printed time; blanks, zeros and impossible dates, which mean unknown, give None.

    A date without a time is its midnight. Hour 24 is hour 0 of the same day: phones write it, see
    https://github.com/Piwigo/Piwigo/issues/1017. Of `1/2/2012` the day is taken to come first; it
    is the same for all photos of a camera, and no more matters.
    """
    text = _SEPARATOR.sub(r"\1", _text(value))
    if (date := _DATE.match(text)) is None:
        return None
    clock = _CLOCK.match(text, date.end())
    if clock is None and any(c.isdigit() for c in text[date.end() :]):
        return None
    day, seconds = _day(date), 0.0 if clock is None else _seconds(clock)
    if day is None or seconds is None or (day, seconds) in _DEFAULT_TIMES:
        return None
    return ClockTime(day * _DAY + seconds, clock and parse_zone(text[clock.end() :]))


def parse_fraction(value: object) -> float | None:
    """Reads the digits after the decimal point of a second; None if there are none."""
    text = _text(value)
    return float(f"0.{text}") if re.fullmatch(r"\d{1,12}", text) else None


def parse_zone(value: object) -> float | None:
    """Reads how many seconds a clock is ahead of UTC; None if a text begins with no zone."""
    match = _ZONE.match(_text(value))
    if match is None or not (match["zero"] or match["sign"]):
        return None
    seconds = int(match["h"] or 0) * 3600 + int(match["m"] or 0) * 60
    if seconds > _FURTHEST_ZONE:
        return None
    return float(seconds if match["sign"] == "+" else -seconds)


def _text(value: object) -> str:
    """Returns a bounded text; some writers part date and time by a NUL, all end with one."""
    if isinstance(value, bytes):
        value = value[:_MAX_TEXT].decode("utf-8", "replace")
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12:
        value = str(value)  # a fraction of a second that a program printed as a number
    if not isinstance(value, str):
        return ""
    text = value[:_MAX_TEXT]
    if _WIDE.search(text):
        return text.replace("\0", "").strip(_MARKS)
    return text.replace("\0", " ").strip()


def _day(date: re.Match[str]) -> int | None:
    """Days from 1970 of a match of `_DATE`, None if the calendar has no such day."""
    if text := date["compact"]:
        year, month, day = int(text[:4]), int(text[4:6]), int(text[6:])
    elif date["y"]:
        year, month, day = (int(date[name]) for name in "ymd")
    else:
        day, month, year = (int(date[name]) for name in ("first", "second", "last"))
        if month > 12:
            day, month = month, day
    try:
        return _days(year, month, day) if year >= _FIRST_YEAR else None
    except ValueError:
        return None


def _days(year: int, month: int, day: int) -> int:
    return datetime.date(year, month, day).toordinal() - datetime.date(1970, 1, 1).toordinal()


_DEFAULT_TIMES: Final = frozenset((_days(*date), seconds) for *date, seconds in _DEFAULTS)


def _seconds(clock: re.Match[str]) -> float | None:
    """Seconds since midnight of a match of `_CLOCK`, None if no clock shows them."""
    digits = clock["compact"] or ""
    hour, minute, second = (
        (int(digits[:2]), int(digits[2:4]), int(digits[4:] or 0))
        if digits
        else (int(clock["hour"]), int(clock["minute"]), int(clock["second"] or 0))
    )
    if hour > 24 or minute > 59 or second > 60:  # a leap second is the 60th
        return None
    if half := clock["half"]:
        hour = hour % 12 + (12 if half in "pP" else 0)
    fraction = parse_fraction(clock["fraction"] or clock["part"]) or 0.0
    return hour % 24 * 3600 + minute * 60 + second + fraction


def _completed(time: ClockTime, fraction: object, zone: object) -> ClockTime:
    """Adds what other fields say, unless the time's own text says it."""
    more = (parse_fraction(fraction) or 0.0) if time.seconds.is_integer() else 0.0
    return ClockTime(time.seconds + more, time.zone if time.zone is not None else parse_zone(zone))
