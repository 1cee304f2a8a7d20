import random

from data_pipelines.bursts import burst_groups
from data_pipelines.exif import CaptureKey


def key(camera: str, seconds: float | None, digest: str = "") -> CaptureKey:
    return CaptureKey(camera, seconds, digest)


def groups_of(keys: list[CaptureKey], ids: list[int]) -> list[int]:
    columns = zip(*((key.camera, key.seconds, key.digest) for key in keys), strict=True)
    found: list[int] = burst_groups(*columns, ids, 60.0).tolist()
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
