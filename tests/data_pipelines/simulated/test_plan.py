import datetime
import itertools

from data_pipelines.simulated.generators import FAMILIES
from data_pipelines.simulated.plan import make_plan


def test_plan_keeps_test_bodies_scenes_and_one_family_apart():
    orders = make_plan(photos=30, labelled=20, test=5, seed=1)
    assert len(orders) == 30 + 20 + 5 * len(FAMILIES)
    assert len({order.path for order in orders}) == len(orders)
    assert len({order.noise_seed for order in orders}) == len(orders)
    test = [order for order in orders if order.path.startswith("labelled/test")]
    other = [order for order in orders if order not in test]
    assert not {(o.camera, o.body) for o in test} & {(o.camera, o.body) for o in other}
    assert {o.partition for o in test} == {"test"} and {o.partition for o in other} == {"train"}
    held_out = {i for i, family in enumerate(FAMILIES) if family.held_out}
    train = [order for order in other if order.generated_path]
    assert len(held_out) == 1 and not held_out & {order.family for order in train}
    assert {order.family for order in test} == set(range(len(FAMILIES)))


def test_photos_are_spread_in_time_except_for_bursts():
    photos = make_plan(photos=300, labelled=0, test=0, seed=0)
    gaps = [b.taken - a.taken for a, b in itertools.pairwise(photos)]
    bursts = [gap == datetime.timedelta(seconds=1) for gap in gaps]
    assert 4 <= sum(bursts) <= 90
    apart = [gap for gap, burst in zip(gaps, bursts, strict=True) if not burst]
    assert min(apart) >= datetime.timedelta(minutes=10) and max(apart) > datetime.timedelta(days=1)
    for previous, photo, burst in zip(photos, photos[1:], bursts, strict=False):
        assert (previous.scene_seed == photo.scene_seed) == burst


def test_a_longer_plan_starts_with_the_shorter_one():
    assert make_plan(40, 0, 0, 0)[:20] == make_plan(20, 0, 0, 0)
