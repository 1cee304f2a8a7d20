"""Division of photos by use."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from data_pipelines.errors import UserError
from exif_jax.config import OneClassConfig
from exif_jax.stages.photo_parts import divide


@hypothesis.given(
    st.lists(st.integers(0, 30), min_size=30, max_size=60).filter(lambda g: len(set(g)) > 12),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_no_group_is_divided(groups, choosing, prepared, seed):
    held = {i for i, group in enumerate(groups) if group == groups[0]} if prepared else set()
    config = OneClassConfig(heldout_fraction=0.4, seed=seed)
    heldout = [i in held for i in range(len(groups))]
    parts = divide(groups, heldout, config, choosing)
    together = np.concatenate([parts.fit, parts.choose, parts.threshold])
    assert sorted(together) == list(range(len(groups)))
    assert bool(len(parts.choose)) == choosing
    if prepared:
        assert set(parts.threshold) == held
    of_part = [{groups[i] for i in part} for part in (parts.fit, parts.choose, parts.threshold)]
    assert sum(map(len, of_part)) == len(set(groups))


def test_too_few_photos_are_refused():
    with pytest.raises(UserError, match=r"1 photos are too few.*config\.heldout_fraction = 0\.3"):
        divide([0], [False], OneClassConfig(), False)
    with pytest.raises(UserError, match="too few"):
        divide([5] * 9, [False] * 9, OneClassConfig(), False)  # one burst
