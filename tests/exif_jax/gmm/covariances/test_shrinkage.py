"""Shrinkage of covariances."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from exif_jax.gmm.covariances import KINDS, shrinkage
from exif_jax.gmm.covariances.base import Sums


@pytest.mark.parametrize("rows", [6, 12, 200])
def test_ledoit_wolf_is_scikit_learns(rows):
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 20)) @ rng.normal(size=(20, 20))
    centred = x - x.mean(axis=0)
    ours, share = shrinkage.ledoit_wolf(
        jnp.asarray(centred.T @ centred / rows),
        jnp.asarray(np.square(np.square(centred).sum(axis=1)).sum()),
        jnp.asarray(float(rows)),
    )
    theirs, expected = ledoit_wolf(x)
    assert 0 < expected < 1
    np.testing.assert_allclose(share, expected, rtol=1e-9)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_one_shrunk_component_is_ledoit_wolf_of_standardised_columns(fit, x, kind):
    wide = x * [1.0, 1e3, 1e-3, 10.0]
    result = fit(wide, 1, kind, shrinkage="ledoit_wolf", reg_covar=0.0, max_iters=0)
    scale = wide.std(axis=0)
    theirs, share = ledoit_wolf((wide - wide.mean(axis=0)) / scale)
    np.testing.assert_allclose(result.shrinkage, share, rtol=1e-8)
    np.testing.assert_allclose(
        np.asarray(result.gmm.covariances).reshape(4, 4), theirs * np.outer(scale, scale), rtol=1e-8
    )


def test_shrinkage_gives_a_covariance_where_there_are_fewer_rows_than_columns():
    x = np.random.default_rng(0).normal(size=(12, 20))
    x -= x.mean(axis=0)
    fourth = np.square(np.square(x).sum(axis=1)).sum()
    arguments = [(x.T @ x)[None], np.array([12.0]), fourth[None], np.zeros((20, 20))]
    for method, singular in (("none", True), ("ledoit_wolf", False)):
        sums = Sums(*map(jnp.asarray, arguments), shrinkage=method)
        _, jitter, share = KINDS["full"].estimate(sums)
        assert (jitter[0] > 0, share[0] > 0.1) == (singular, not singular)
