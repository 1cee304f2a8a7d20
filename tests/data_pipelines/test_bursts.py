import itertools
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.bursts import burst_groups

Key = tuple[str, float | None, str]


def key(camera: str, seconds: float | None, digest: str = "") -> Key:
    return camera, seconds, digest


def groups_of(keys: list[Key], ids: list[int], **more: Any) -> list[int]:
    found: list[int] = burst_groups(*zip(*keys, strict=True), ids, 60.0, **more).tolist()
    return found


def test_photos_chain_while_gaps_are_small() -> None:
    keys = [key("A", t) for t in (0.0, 50.0, 100.0, 161.0, 161.0)]
    assert groups_of(keys, [5, 6, 7, 8, 9]) == [5, 5, 5, 8, 8]


def test_cameras_do_not_mix() -> None:
    assert groups_of([key("A", 0.0), key("B", 0.0)], [1, 2]) == [1, 2]


def test_without_a_time_the_same_exif_or_the_same_file_is_one_group() -> None:
    keys = [key("A", None, "x"), key("A", None, "y"), key("A", None, "x")]
    assert groups_of(keys, [3, 2, 1]) == [1, 2, 1]
    assert groups_of([key("", None), key("", None), key("", None)], [4, 4, 5]) == [4, 4, 5]


def test_digests_and_cameras_may_be_numbers() -> None:
    nan = float("nan")
    assert burst_groups([0, 0, 0, 0], [nan] * 4, [7, 0, 7, 0], [4, 3, 2, 1], 60.0).tolist() == [
        *(2, 3, 2, 1)
    ]
    assert burst_groups([], [], [], [], 60.0).tolist() == []


def test_groups_do_not_depend_on_the_order_of_photos() -> None:
    photos = [(key("A", float(t)), t + 100) for t in (0, 10, 20, 300, 310, 1000)]
    ids = {i: key for key, i in photos}

    def groups(order: list[int]) -> dict[int, int]:
        return dict(zip(order, groups_of([ids[i] for i in order], order), strict=True))

    shuffled = random.Random(0).sample(sorted(ids), len(ids))
    assert groups(shuffled) == groups(sorted(ids))


def test_zones_decide_where_both_are_known() -> None:
    hour, nan = 3600.0, float("nan")
    keys = [key("A", 2 * hour), key("A", 30.0), key("A", 2 * hour + 1), key("A", 2 * hour + 2)]
    assert groups_of(keys, [1, 2, 3, 4], zone=[2 * hour, 0.0, 5 * hour, nan]) == [1, 1, 1, 1]
    # Without the one of no zone, which is near both by the clock, they are hours apart.
    assert groups_of(keys[:3], [1, 2, 3], zone=[2 * hour, 0.0, 5 * hour]) == [1, 1, 3]
    assert groups_of(keys, [1, 2, 3, 4]) == [1, 2, 1, 1]


def test_fractions_of_seconds_count() -> None:
    columns = [0] * 3, [0.0, 0.4, 1.0], [1] * 3, [1, 2, 3]
    assert burst_groups(*columns, 0.5).tolist() == [1, 1, 3]


def test_photos_without_a_time_follow_each_other_by_their_numbers() -> None:
    keys = [key("A", None, str(i)) for i in range(6)]
    places = [10, 11, 13, 12, 20, -1]
    assert groups_of(keys, [1, 2, 3, 4, 5, 6], place=places) == [1, 1, 1, 1, 5, 6]
    other = [*keys[:1], key("B", None, "b"), *keys[2:]]
    assert groups_of(other, [1, 2, 3, 4, 5, 6], place=places) == [1, 2, 3, 3, 5, 6]


def test_numbers_tie_a_photo_without_a_time_to_its_neighbours_and_no_others() -> None:
    keys = [key("A", 0.0), key("A", None, "x"), key("A", 9e9), key("A", 9e5), key("A", 5e5)]
    assert groups_of(keys, [1, 2, 3, 4, 5], place=[1, 2, 2, 3, 4]) == [1, 1, 1, 1, 5]
    assert groups_of(keys, [1, 2, 3, 4, 5], place=[1, 7, 2, 3, 4]) == [1, 2, 3, 4, 5]


def test_numbers_of_files_of_no_known_camera_say_nothing() -> None:
    assert groups_of([key("", None)] * 2, [1, 2], place=[1, 2]) == [1, 2]
    nan = float("nan")
    assert burst_groups([-1, -1], [nan] * 2, [0, 0], [1, 2], 60.0, place=[1, 2]).tolist() == [1, 2]


PHOTOS = st.lists(
    st.tuples(
        st.integers(-1, 1),  # camera
        st.one_of(st.none(), st.integers(0, 12)),  # ten seconds
        st.integers(0, 2),  # digest
        st.integers(0, 20),  # id
        st.sampled_from([None, 0, 1, 2]),  # half a minute ahead of UTC
        st.integers(-1, 12),  # place
    ),
    min_size=1,
    max_size=12,
)


def together(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """The rule for two photos, whatever others there are."""
    (camera, time, digest, number, zone, place), (_, later, other, _, east, next_place) = a, b
    if number == b[3]:
        return True
    if camera != b[0]:
        return False
    if time is not None and later is not None:
        zones = (zone, east) if zone is not None and east is not None else (0, 0)
        return abs(10 * (time - later) - 30 * (zones[0] - zones[1])) <= 20
    same_exif = time is None and later is None and digest == other != 0
    return same_exif or (min(camera, place, next_place) >= 0 and abs(place - next_place) <= 1)


@given(PHOTOS)
def test_groups_are_what_the_rule_for_two_connects(photos: list[tuple[Any, ...]]) -> None:
    expected = list(range(len(photos)))
    for _ in photos:
        for i, j in itertools.combinations(range(len(photos)), 2):
            if together(photos[i], photos[j]):
                expected[i] = expected[j] = min(expected[i], expected[j])
    camera, time, digest, ids, zone, place = zip(*photos, strict=True)
    seconds = [None if t is None else 10.0 * t for t in time]
    ahead = [None if z is None else 30.0 * z for z in zone]
    found = burst_groups(camera, seconds, digest, ids, 20.0, zone=ahead, place=place).tolist()
    for i, j in itertools.combinations(range(len(photos)), 2):
        assert (found[i] == found[j]) == (expected[i] == expected[j])
    assert all(
        group == min(i for g, i in zip(found, ids, strict=True) if g == group) for group in found
    )
