"""How work is divided over processes; what they bring together is tested with real ones."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from exif_jax.training import shares

COUNTS = st.integers(0, 200)
PROCESSES = st.integers(1, 70)


@pytest.mark.parametrize("divide", [shares.share, shares.section])
@given(count=COUNTS, processes=PROCESSES)
def test_every_position_is_of_one_process_and_all_have_as_many(divide, count, processes):
    parts = [divide(count, process, processes) for process in range(processes)]
    assert sorted(i for part in parts for i in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(count=COUNTS, processes=PROCESSES)
def test_sections_follow_each_other(count, processes):
    parts = [shares.section(count, process, processes) for process in range(processes)]
    assert [i for part in parts for i in part] == list(range(count))


@given(data=st.data(), count=COUNTS, processes=PROCESSES)
def test_what_all_found_is_brought_into_order(data, count, processes):
    """Of the positions that a process has, it may have found something at some alone."""
    found = data.draw(st.sets(st.integers(0, count - 1))) if count else set()
    parts = [
        [i for i in shares.share(count, process, processes) if i in found]
        for process in range(processes)
    ]

    def gathered(own):
        # Who has nothing knows no width.
        return [
            {
                "0": np.array(part, int),
                "1": np.zeros((0, 0)) if not part else np.outer(part, [1, 2]),
            }
            for part in parts
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "gather", gathered)
        positions, rows = shares.in_order(parts[0], np.zeros((len(parts[0]), 2)))
    assert positions.tolist() == sorted(found)
    if found:
        np.testing.assert_array_equal(rows, np.outer(positions, [1, 2]))


def test_one_process_has_all_and_waits_for_nobody():
    assert jax.process_count() == 1
    assert shares.share(5) == shares.section(5) == range(5)
    rows = np.arange(6.0).reshape(3, 2)
    positions, same = shares.in_order([0, 2, 5], rows)
    assert positions.tolist() == [0, 2, 5] and same.dtype == np.float64
    np.testing.assert_array_equal(same, rows)
    shares.meet()


def test_what_the_first_process_raises_is_raised():
    def fail():
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        shares.first_alone(fail)
    shares.raise_everywhere("")
    with pytest.raises(UserError, match="ä"):
        shares.raise_everywhere("ä")
