"""Splits keep groups whole."""

from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.splits import split_groups


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.floats(0, 1), st.integers(0, 99))
def test_groups_stay_whole_and_the_fraction_is_nearly_met(groups, fraction, seed):
    chosen = split_groups(groups, fraction, seed)
    by_group = {
        group: {c for g, c in zip(groups, chosen, strict=True) if g == group} for group in groups
    }
    assert all(len(choices) == 1 for choices in by_group.values())
    largest = max(groups.count(group) for group in groups)
    assert abs(sum(chosen) - fraction * len(groups)) <= largest
    assert chosen == split_groups(groups, fraction, seed)


def test_another_seed_chooses_others():
    groups = list(range(100))
    assert split_groups(groups, 0.3, 0) != split_groups(groups, 0.3, 1)
    assert sum(split_groups(groups, 0.3, 0)) == 30
