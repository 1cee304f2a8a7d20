"""M-step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax import gmm
from exif_jax.gmm.covariances import COVARIANCE_TYPES, Structure
from exif_jax.gmm.maximisation import MOST_RESEEDS, maximise
from exif_jax.gmm.statistics import of_rows

ALL = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def structure(kind):
    return Structure(kind, 2 if kind == "low_rank" else 0)


@functools.cache
def e_step(kind):
    return jax.jit(functools.partial(of_rows, structure(kind), tile=0))


@functools.cache
def m_step(kind):
    return jax.jit(functools.partial(maximise, structure(kind)))


def regulariser(kind):
    shape = {"full": (4, 4), "tied": (4, 4), "diag": (4,)}.get(kind, ())
    return jnp.zeros(shape)


@ALL
def test_the_m_step_is_the_weighted_estimate(kind, random_mixture, dense, rows):
    mixture = random_mixture(kind)
    x, weights = rows
    found = e_step(kind)(mixture, x, weights)
    state = m_step(kind)(found, mixture.means, jnp.zeros(3, int), regulariser(kind))
    new = state.gmm
    shares = np.asarray(gmm.responsibilities(mixture, x)) * np.asarray(weights)[:, None]
    counts = shares.sum(axis=0)
    means = shares.T @ np.asarray(x) / counts[:, None]
    np.testing.assert_allclose(new.weights, counts / counts.sum(), rtol=1e-9)
    np.testing.assert_allclose(new.means, means, rtol=1e-9, atol=1e-9)
    centred = np.asarray(x)[:, None] - means
    traces = np.einsum("nk,nkd,nkd->k", shares, centred, centred) / counts
    own = np.trace(dense(new), axis1=1, axis2=2)
    # Every kind keeps the total variance, each component's own or the pooled one.
    if kind == "tied":
        traces = np.full(3, counts @ traces / counts.sum())
    np.testing.assert_allclose(own, traces, rtol=1e-8)
    assert not state.reseeded.any()
    assert not state.converged and state.iteration == 0


@ALL
def test_one_empty_component_an_iteration_starts_again(kind, random_mixture, rows):
    mixture = random_mixture(kind)
    mixture = mixture.replace(weights=np.array([1.0, 1e-300, 1e-300]))
    x, weights = rows
    found = e_step(kind)(mixture, x, weights)
    state = m_step(kind)(found, mixture.means, jnp.zeros(3, int), regulariser(kind))
    new = state.gmm
    np.testing.assert_array_equal(state.reseeded, [0, 1, 0])
    np.testing.assert_array_equal(new.means[1], found.worst_row)
    np.testing.assert_array_equal(new.means[2], mixture.means[2])
    np.testing.assert_allclose(new.weights.sum(), 1, rtol=1e-12)
    assert new.weights[1] == pytest.approx(0.25) and 0 < new.weights[2] < 1e-200
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
    tired = jnp.array([0, MOST_RESEEDS, 0])
    reseeded = m_step(kind)(found, mixture.means, tired, regulariser(kind)).reseeded
    np.testing.assert_array_equal(reseeded, [0, MOST_RESEEDS, 1])
