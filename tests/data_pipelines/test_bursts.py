import random

import pytest

from data_pipelines.bursts import group_bursts, hold_out
from data_pipelines.exif import CaptureKey


def key(camera: str, seconds: float | None, digest: str = "") -> CaptureKey:
    return CaptureKey(camera, seconds, digest)


def test_photos_chain_while_gaps_are_small() -> None:
    keys = [key("A", t) for t in (0.0, 50.0, 100.0, 161.0, 161.0)]
    assert group_bursts(keys, [5, 6, 7, 8, 9], 60.0) == [5, 5, 5, 8, 8]


def test_cameras_do_not_mix() -> None:
    assert group_bursts([key("A", 0.0), key("B", 0.0)], [1, 2], 60.0) == [1, 2]


def test_without_a_time_the_same_exif_or_the_same_file_is_one_group() -> None:
    keys = [key("A", None, "x"), key("A", None, "y"), key("A", None, "x")]
    assert group_bursts(keys, [3, 2, 1], 60.0) == [1, 2, 1]
    assert group_bursts([key("", None), key("", None), key("", None)], [4, 4, 5], 60.0) == [4, 4, 5]


def test_groups_do_not_depend_on_the_order_of_photos() -> None:
    photos = [(key("A", float(t)), t + 100) for t in (0, 10, 20, 300, 310, 1000)]
    ids = {i: key for key, i in photos}

    def groups(order: list[int]) -> dict[int, int]:
        return dict(zip(order, group_bursts([ids[i] for i in order], order, 60.0), strict=True))

    shuffled = random.Random(0).sample(sorted(ids), len(ids))
    assert groups(shuffled) == groups(sorted(ids))


def test_hold_out_keeps_units_whole_and_meets_the_fraction() -> None:
    units = [i // 3 for i in range(300)]
    held = hold_out(units, 0.1, seed=1)
    assert 24 <= sum(held) <= 36
    assert not {u for u, h in zip(units, held, strict=True) if h} & {
        u for u, h in zip(units, held, strict=True) if not h
    }
    assert held == hold_out(units, 0.1, seed=1)
    assert held != hold_out(units, 0.1, seed=2)


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_neither_side_is_empty(fraction: float) -> None:
    held = hold_out(["a", "a", "a", "b"], fraction, seed=0)
    assert len(set(held)) == 2


def test_nothing_is_held_out_of_nothing_or_of_one_unit() -> None:
    assert hold_out([1, 2, 3], 0.0, seed=0) == [False] * 3
    assert len(set(hold_out([1, 1], 0.1, seed=0))) == 1
