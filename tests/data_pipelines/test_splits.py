"""Splits keep groups whole."""

import pytest
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


def test_units_of_several_items_meet_the_fraction():
    units = [i // 3 for i in range(300)]
    assert 24 <= sum(split_groups(units, 0.1, seed=1)) <= 36


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_neither_side_is_empty(fraction):
    assert len(set(split_groups(["a", "a", "a", "b"], fraction, seed=0))) == 2


def test_nothing_is_chosen_of_nothing_or_of_one_unit():
    assert split_groups([1, 2, 3], 0.0, seed=0) == [False] * 3
    assert len(set(split_groups([1, 1], 0.1, seed=0))) == 1
