"""Random weights in the layout of the released checkpoints, for the tests of their import."""

import numpy as np
import pytest

from exif_jax.models.released import TOKEN, _binary_table, _pretext_table
from exif_jax.models.srm import srm_kernels


def random_weights(table):
    rng = np.random.default_rng(0)
    filters = srm_kernels().transpose(2, 0, 1)[:, None]
    return {
        f"module.{key}": rng.normal(size=entry.shape).astype(np.float32) if entry.path else filters
        for key, entry in table.items()
    }


@pytest.fixture(scope="session")
def pretext_weights():
    """Released key -> array, of a pretext checkpoint."""
    return random_weights(_pretext_table())


@pytest.fixture(scope="session")
def binary_weights():
    """Released key -> array, of a binary checkpoint."""
    weights = random_weights(_binary_table())
    assert weights["module.fc.weight"].shape == (2, TOKEN)
    return weights
