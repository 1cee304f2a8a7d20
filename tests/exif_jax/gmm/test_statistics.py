"""E-step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax import gmm
from exif_jax.gmm import statistics as s
from exif_jax.gmm.covariances import COVARIANCE_TYPES, Structure
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, shard

ALL = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def structure(kind):
    return Structure(kind, 2 if kind == "low_rank" else 0)


@functools.cache
def e_step(kind, tile=0):
    return jax.jit(functools.partial(s.of_rows, structure(kind), tile=tile))


def assert_same(a, b, rtol=1e-9):
    a, b = (vars(x) | {"log_likelihood": x.log_likelihood.sum()} for x in (a, b))
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-9, err_msg=name)


@ALL
def test_the_e_step_by_definition(kind, random_mixture, rows):
    mixture = random_mixture(kind)
    x, weights = rows
    found = e_step(kind)(mixture, x, weights)
    responsibilities = np.asarray(gmm.responsibilities(mixture, x)) * np.asarray(weights)[:, None]
    densities = np.asarray(gmm.log_density(mixture, x))
    np.testing.assert_allclose(found.counts, responsibilities.sum(axis=0), rtol=1e-10)
    centred = np.asarray(x)[:, None] - mixture.means
    np.testing.assert_allclose(
        found.sums, np.einsum("nk,nkd->kd", responsibilities, centred), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_allclose(found.log_likelihood.sum(), weights @ densities, rtol=1e-10)
    np.testing.assert_allclose(found.mean_log_likelihood, weights @ densities / weights.sum())
    assert found.rows == (weights > 0).sum()
    seen = np.where(weights > 0, densities, np.inf)
    np.testing.assert_allclose(found.worst_density, seen.min(), rtol=1e-10)
    np.testing.assert_array_equal(found.worst_row, x[seen.argmin()])


@ALL
def test_tiles_change_nothing(kind, random_mixture, rows):
    mixture = random_mixture(kind, spread=20)
    assert_same(e_step(kind, tile=16)(mixture, *rows), e_step(kind)(mixture, *rows))


@ALL
def test_statistics_of_parts_add_up(kind, random_mixture, rows):
    mixture = random_mixture(kind)
    x, weights = rows
    whole = e_step(kind)(mixture, x, weights)
    nothing = jax.tree.map(jnp.zeros_like, whole)
    masks = (np.arange(128) < 40, np.arange(128) >= 40)
    parts = [e_step(kind)(mixture, x, weights * mask) for mask in masks]
    assert_same(nothing.merge(parts[0]).merge(parts[1]), whole)
    assert_same(parts[1].merge(nothing).merge(parts[0]), whole)


def test_devices_without_rows_do_not_count(random_mixture, rows):
    x, weights = rows
    weights = weights.at[16:].set(0)  # the last seven of eight devices hold padding only
    mesh, step = data_mesh(), functools.partial(s.of_rows, Structure(), tile=0)
    mapped = over_devices(
        lambda mixture, *rows: step(mixture, *rows).over_devices(),
        mesh,
        (REPLICATED, SHARDED, SHARDED),
        REPLICATED,
    )
    mixture = random_mixture("full")
    placed = shard((np.asarray(x), np.asarray(weights)), mesh)
    assert_same(mapped(mixture, *placed), e_step("full")(mixture, x, weights))


def test_compensated_sums_keep_what_float32_loses():
    values = np.random.default_rng(0).uniform(1, 2, size=20000).astype(np.float32)
    pairs = jnp.stack([values, jnp.zeros_like(values)], axis=1)
    zero = jnp.zeros(2, jnp.float32)
    pair = jax.lax.scan(lambda sum, pair: (s.compensated(sum, pair), None), zero, pairs)[0]
    naive = jax.lax.scan(lambda sum, value: (sum + value, None), jnp.float32(0), values)[0]
    exact = values.astype(np.float64).sum()
    errors = [abs(np.asarray(a, np.float64).sum() - exact) for a in (pair, naive)]
    assert errors[0] < 1e-8 * exact < errors[1] / 10
