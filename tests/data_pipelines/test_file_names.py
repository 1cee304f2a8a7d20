from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.capture_times import ClockTime, parse_time
from data_pipelines.file_names import NO_PLACE, place_in_series, time_in, time_or_named


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("DCIM/IMG_20230102_101112.jpg", "2023:01:02 10:11:12"),
        ("20230102_101112.jpg", "2023:01:02 10:11:12"),
        ("20230102_101112(0).jpg", "2023:01:02 10:11:12"),
        ("IMG_20230102_101112345.jpg", "2023:01:02 10:11:12.345"),
        ("PXL_20230102_101112345.MP.jpg", "2023:01:02 10:11:12.345Z"),
        ("00001IMG_00001_BURST20230102101112345_COVER.jpg", "2023:01:02 10:11:12.345"),
        ("WP_20230102_10_11_12_Pro.jpg", "2023:01:02 10:11:12"),
        ("2023-01-02 10.11.12.jpg", "2023:01:02 10:11:12"),
        ("2023-01-02_10.11.12.jpg", "2023:01:02 10:11:12"),
        ("Screenshot_20230102-101112_Fennec_F-Droid.png", "2023:01:02 10:11:12"),
        ("2023-01-02T10:11:12.heic", "2023:01:02 10:11:12"),
        ("photo_2023-01-02_10-11-12.jpg", "2023:01:02 10:11:12"),
        ("signal-2023-01-02-101112.jpeg", "2023:01:02 10:11:12"),
        ("Photo 2023-01-02 at 10.11.12.png", "2023:01:02 10:11:12"),
    ],
)
def test_phones_and_programs_write_the_time_into_the_name(name: str, time: str) -> None:
    assert time_in(name) == parse_time(time)
    assert time_or_named(None, "Canon", name) == parse_time(time)
    assert time_or_named(None, "", name) is None
    assert time_or_named(ClockTime(5.0), "Canon", name) == ClockTime(5.0)


@pytest.mark.parametrize(
    "name",
    [
        *("IMG_1234.JPG", "20230102_101112/IMG_1.JPG", "IMG-20230102-WA0012.jpg", "20230102.jpg"),
        *("IMG_20230101_A.jpg", "22-04-06 15-21-03 2160.jpg"),  # the day may come first, too
        *("IMG_20231302_101112.jpg", "IMG_20230230_101112.jpg", "12320230102_101112.jpg", "", "/"),
    ],
)
def test_other_names_tell_no_time(name: str) -> None:
    assert time_in(name) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/IMG_1234.JPG", "a/IMG_1235.JPG"),
        ("IMG_1234.JPG", "img_1235.heic"),
        ("DSC01234.JPG", "DSC01235.JPG"),
        ("DSC09999.JPG", "DSC10000.JPG"),
        ("P1020345.jpg", "P1020346.jpg"),
        ("100_0099.jpg", "100_0100.jpg"),
        ("photo 1.jpg", "photo 2.jpg"),
        ("IMG-20230102-WA0012.jpg", "IMG-20230102-WA0013.jpg"),
        ("IMG_1234 (1).jpg", "IMG_1235 - Copy (2).jpg"),
        ("IMG_1234-edited.jpg", "IMG_1235.jpg"),
        ("1.jpg", "2.jpg"),
    ],
)
def test_files_in_a_row_have_places_in_a_row(first: str, second: str) -> None:
    assert place_in_series(second) - place_in_series(first) == 1


def test_other_series_are_far_apart() -> None:
    names = ["a/IMG_1234.JPG", "b/IMG_1235.JPG", "a/DSC_1235.JPG", "a/IMG_E1235.JPG", "a/1235.JPG"]
    places = sorted(map(place_in_series, names))
    assert all(b - a > 10**9 for a, b in pairwise(places))
    assert place_in_series("portrait.jpg") == place_in_series("1234/.jpg") == NO_PLACE


@given(st.text())
def test_any_name_has_a_place_in_a_record(name: str) -> None:
    time_in(name)
    assert -1 <= place_in_series(name) < 2**63


def test_names_of_any_length_are_read_at_once() -> None:
    for part in (" ", "1", "1a", "(1)", "_copy", "2023"):
        name = part * 2**16 + "x_0007 (1).jpg"
        assert place_in_series(name.replace("7", "8")) - place_in_series(name) == 1
        time_in(name)
