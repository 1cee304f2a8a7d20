import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.capture_times import ClockTime, capture_time, parse_time

HOUR = 3600.0


def at(text: str, zone: float | None = None) -> ClockTime:
    """A time in the form of ISO 8601, by the clock, and the zone."""
    moment = datetime.datetime.fromisoformat(text) - datetime.datetime(1970, 1, 1)
    return ClockTime(moment.total_seconds(), zone)


PLAIN = at("2012-12-01 10:37:28")
EXACT = at("2012-12-01 10:37:28.125")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2012:12:01 10:37:28", PLAIN),
        ("2012-12-01 10:37:28", PLAIN),
        ("2012/12/01 10:37:28", PLAIN),
        ("2012.12.01 10.37.28", PLAIN),
        ("2012:12:01:10:37:28", PLAIN),
        ("2012-12-01T10:37:28", PLAIN),
        ("2012-12-01t10:37:28z", at("2012-12-01 10:37:28", 0.0)),
        ("20121201_103728", PLAIN),
        ("20121201T103728Z", at("2012-12-01 10:37:28", 0.0)),
        ("20121201103728", PLAIN),
        ("01.12.2012 10:37:28", PLAIN),
        ("1/12/2012, 10:37:28 AM", PLAIN),
        ("12/31/2012 10:37 pm", at("2012-12-31 22:37:00")),
        ("2012:12:01 12:05:06 a.m.", at("2012-12-01 00:05:06")),
        ("2001: 1: 5  9: 5: 7", at("2001-01-05 09:05:07")),
        ("2012:12:01 10:37:28.125", EXACT),
        ("2012-12-01T10:37:28,125", EXACT),
        ("2012:12:01 10:37:28:125", EXACT),
        ("2012-12-01T10:37:28.125+02:00", at("2012-12-01 10:37:28.125", 2 * HOUR)),
        ("2012:12:01 10:37:28-0930", at("2012-12-01 10:37:28", -9.5 * HOUR)),
        ("2012:12:01 10:37:28 +5:45", at("2012-12-01 10:37:28", 5.75 * HOUR)),
        ("2012-12-01 10:37-05", at("2012-12-01 10:37:00", -5 * HOUR)),
        ("2012:12:01 10:37:28 UTC", at("2012-12-01 10:37:28", 0.0)),
        ("2012:12:01 10:37:28 GMT+2", at("2012-12-01 10:37:28", 2 * HOUR)),
        ("2012:12:01 10:37:28+25:00", PLAIN),  # there is no such zone
        ("2012:12:01 10:37", at("2012-12-01 10:37:00")),
        ("2012:12:01 10:37:60", at("2012-12-01 10:38:00")),
        ("2012:12:01 24:05:12", at("2012-12-01 00:05:12")),
        ("2012:12:01", at("2012-12-01 00:00:00")),
        ("2012:12:01   :  :  ", at("2012-12-01 00:00:00")),
        ("  2012:12:01 10:37:28   ", PLAIN),
        ("2012:12:01 10:37:28\0\0\0", PLAIN),
        ("\0\0 2012:12:01\x0010:37:28\0", PLAIN),
        ("2012:12:01 10:37:28\0\xff\x02", PLAIN),
        (b"2012-12-01 10:37:28\0", PLAIN),
        ("2012:12:01 10:37:28\0".encode("utf-16"), PLAIN),
        ("2012:12:01 10:37:28".encode("utf-16-be").decode("latin-1"), PLAIN),
        ("2000:02:29 10:00:00", at("2000-02-29 10:00:00")),
    ],
)
def test_all_forms_are_read(text: object, expected: ClockTime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "\0", "yesterday", "    :  :     :  :  ", "0000:00:00 00:00:00", "0000-00-00"),
        *("0001-01-01T00:00:00", "1970:01:01 00:00:00", "1904:01:01 00:00:00"),  # unset clocks
        *("1980:01:01 00:00:00", "2002:12:08 12:00:00", "2002-12-08T12:00:00.000+02:00"),
        *("20022:05:01 10:00:00", "00:47:40+02:00"),
        *("2012:13:01 10:37:28", "2012:00:01 10:37:28", "2011:02:29 10:37:28", "31/31/2012"),
        *("2012:12:01 25:00:00", "2012:12:01 10:60:00", "2012:12:01 10:37:61", "99999999"),
        *("12:12:01 10:37:28", "2012:12:01 10", "2012", 2012, None, 1.5, True, ("2012:12:01",)),
    ],
)
def test_what_is_no_time_gives_none(text: object) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "SubSecTimeOriginal": "125"}, EXACT),
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "SubSecTimeOriginal": b"125  \0"}, EXACT),
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "SubSecTimeOriginal": 125}, EXACT),
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "SubSecTimeOriginal": "  "}, PLAIN),
        ({"DateTimeOriginal": "2012:12:01 10:37:28.125", "SubSecTimeOriginal": "99"}, EXACT),
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "SubSecTimeDigitized": "125"}, PLAIN),
        (
            {"DateTimeOriginal": "2012:12:01 10:37:28", "OffsetTimeOriginal": "+02:00\0"},
            at("2012-12-01 10:37:28", 2 * HOUR),
        ),
        (
            {"DateTimeOriginal": "2012:12:01 10:37:28", "OffsetTime": "-07:00"},
            at("2012-12-01 10:37:28", -7 * HOUR),
        ),
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "OffsetTimeOriginal": "   :  "}, PLAIN),
        (
            {"DateTimeOriginal": "2012:12:01 10:37:28Z", "OffsetTimeOriginal": "+02:00"},
            at("2012-12-01 10:37:28", 0.0),
        ),
        ({"DateTimeOriginal": "0000:00:00", "DateTimeDigitized": "2012:12:01 10:37:28"}, PLAIN),
        ({"DateTime": "2012-12-01 10:37:28", "SubSecTime": "125"}, EXACT),
        ({"DateTimeOriginal": "2012:12:01 10:37:28", "DateTime": "2020:01:01 00:00:01"}, PLAIN),
        ({"SubSecTimeOriginal": "125"}, None),
    ],
)
def test_fractions_and_zones_have_fields_of_their_own(
    raw: dict[str, Any], expected: ClockTime | None
) -> None:
    assert capture_time(raw) == expected


PARTS = st.sampled_from([*"0123456789:-/. TZ+\0", "2012", "12", "am", "UTC", "24:", "\u0663", "²"])


@given(st.one_of(st.text(), st.binary(), st.lists(PARTS, max_size=20).map("".join)))
def test_any_text_is_read_or_not_but_never_raises(text: str | bytes) -> None:
    time = parse_time(text)
    assert time is None or time.seconds < 1e12
    capture_time({"DateTimeOriginal": "2012:12:01", "SubSecTimeOriginal": text, "OffsetTime": text})


@pytest.mark.parametrize(
    "text", ["1980:01:01 00:00:01", "2002:12:08 12:00:01", "2050:12:31 00:00:00"]
)
def test_a_clock_that_was_set_wrong_still_tells_photos_apart(text: str) -> None:
    assert parse_time(text) is not None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # A program that edited the photo elsewhere writes its own zone into OffsetTime.
        ({"OffsetTime": "+08:00", "OffsetTimeOriginal": "+01:00"}, HOUR),
        ({"OffsetTime": "+02:00"}, 2 * HOUR),
        ({"OffsetTimeOriginal": "-05:30"}, -5.5 * HOUR),
        ({}, None),
    ],
)
def test_the_zone_is_that_of_the_capture(raw: dict[str, str], expected: float | None) -> None:
    time = capture_time({"DateTimeOriginal": "2012:12:01 10:37:28", **raw})
    assert time is not None and time.zone == expected


def test_an_unset_time_makes_way_for_the_next_field() -> None:
    raw = {"DateTimeOriginal": "2002:12:08 12:00:00", "DateTimeDigitized": "2012:12:01 10:37:28"}
    assert capture_time(raw) == PLAIN
