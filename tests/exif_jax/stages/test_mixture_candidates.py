"""Candidates that the configuration names."""

import pytest

from data_pipelines.errors import UserError
from exif_jax.stages.mixture_candidates import candidate_numbers


def test_candidates_are_sorted_numbers():
    assert candidate_numbers("num_components", "5") == [5]
    assert candidate_numbers("num_components", "5, 1,2,2") == [1, 2, 5]
    assert candidate_numbers("num_components", "2-4,8") == [2, 3, 4, 8]


@pytest.mark.parametrize("text", ["", "few", "1,,2", "1.5", "0", "-1,2", "4-2", "0-3", "1-"])
def test_other_candidates_are_refused(text):
    with pytest.raises(UserError, match=r"config\.num_components"):
        candidate_numbers("num_components", text)
