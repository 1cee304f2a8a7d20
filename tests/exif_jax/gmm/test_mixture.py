"""Densities, gradients and storage of a mixture."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from exif_jax import gmm
from exif_jax.gmm.covariances import COVARIANCE_TYPES

ALL = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def expected_log_joint(mixture, matrices, x):
    parts = zip(mixture.weights, mixture.means, matrices, strict=True)
    return np.stack(
        [np.log(w) + multivariate_normal(mean, matrix).logpdf(x) for w, mean, matrix in parts],
        axis=1,
    )


@ALL
def test_density_is_scipys(kind, random_mixture, dense, x):
    mixture = random_mixture(kind)
    joint = expected_log_joint(mixture, dense(mixture), x)
    density = logsumexp(joint, axis=1)
    np.testing.assert_allclose(gmm.log_density(mixture, x), density, rtol=1e-10)
    np.testing.assert_allclose(
        gmm.responsibilities(mixture, x), np.exp(joint - density[:, None]), rtol=1e-8, atol=1e-14
    )


@ALL
def test_density_is_differentiable_in_rows_and_parameters(kind, random_mixture, x):
    mixture = jax.tree.map(jnp.asarray, random_mixture(kind))
    rows = jnp.asarray(x[:3])
    check_grads(jax.jit(gmm.log_density), (mixture, rows), order=1, modes=["rev"], eps=1e-5)


@ALL
def test_gradients_map_over_rows(kind, random_mixture, x):
    mixture, rows = random_mixture(kind), jnp.asarray(x[:16])
    single = jax.grad(lambda row: gmm.log_density(mixture, row[None])[0])
    together = jax.grad(lambda rows: gmm.log_density(mixture, rows).sum())(rows)
    np.testing.assert_allclose(jax.jit(jax.vmap(single))(rows), together, rtol=1e-9, atol=1e-12)


def test_densities_map_over_mixtures(random_mixture, x):
    mixtures = [random_mixture("full", seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *mixtures)
    mapped = jax.jit(jax.vmap(gmm.log_density, in_axes=(0, None)))(stacked, x[:16])
    expected = [gmm.log_density(mixture, x[:16]) for mixture in mixtures]
    np.testing.assert_allclose(mapped, np.stack(expected), rtol=1e-12)


@ALL
def test_many_rows_are_done_in_chunks(kind, random_mixture):
    mixture = random_mixture(kind)
    rows = 3 * np.random.default_rng(0).normal(size=(4096 + 161, 4))
    whole = gmm.log_density(mixture, rows)
    for part in (slice(0, 161), slice(2000, 2161), slice(4096, None)):
        np.testing.assert_allclose(whole[part], gmm.log_density(mixture, rows[part]), rtol=1e-12)


def test_chunks_have_gradients(random_mixture):
    mixture = random_mixture("full")
    rows = 3 * np.random.default_rng(0).normal(size=(4096 + 161, 4))
    gradient = jax.grad(lambda rows: gmm.log_density(mixture, rows).sum())
    whole = gradient(rows)
    for part in (slice(0, 161), slice(4096, None)):
        np.testing.assert_allclose(whole[part], gradient(rows[part]), rtol=1e-9, atol=1e-12)


def test_no_component_is_too_far_to_have_a_density(random_mixture):
    mixture = random_mixture("full")
    far = np.full((1, 4), 1e6)
    value, gradient = jax.value_and_grad(lambda row: gmm.log_density(mixture, row)[0])(far)
    assert np.isfinite(value) and value < -1e9
    assert np.isfinite(gradient).all() and gradient.any()
    np.testing.assert_allclose(gmm.responsibilities(mixture, far).sum(), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(np.zeros((5, 3)), r"\[rows, 4\]"), (np.zeros(4), r"\[rows, 4\]"), (np.zeros((1, 5, 4)), "5")],
)
@pytest.mark.parametrize("function", [gmm.log_density, gmm.responsibilities])
def test_rows_of_another_width_are_refused(function, rows, message, random_mixture):
    with pytest.raises(ValueError, match=message):
        function(random_mixture("full"), rows)


@ALL
def test_arrays_there_and_back(kind, random_mixture):
    mixture = random_mixture(kind)
    again = gmm.GaussianMixture.from_arrays(mixture.to_arrays(), kind)
    assert again.structure == mixture.structure
    jax.tree.map(np.testing.assert_array_equal, again, mixture)


@pytest.mark.parametrize(
    ("stored", "asked"), [*itertools.permutations(["full", "tied", "diag"], 2)]
)
def test_arrays_of_another_kind_are_refused(stored, asked, random_mixture):
    with pytest.raises(ValueError, match=f"no mixture of kind '{asked}'"):
        gmm.GaussianMixture.from_arrays(random_mixture(stored).to_arrays(), asked)


@pytest.mark.parametrize("change", [{"weights": np.ones(2)}, {"more": np.ones(2)}, {"means": None}])
def test_arrays_that_do_not_belong_together_are_refused(change, random_mixture):
    arrays = random_mixture("full").to_arrays() | change
    arrays = {name: a for name, a in arrays.items() if a is not None}
    with pytest.raises(ValueError, match="no mixture of kind"):
        gmm.GaussianMixture.from_arrays(arrays, "full")


def test_single_precision_mixtures_are_computed_in_single_precision(random_mixture, x):
    mixture = jax.tree.map(lambda a: a.astype(np.float32), random_mixture("full"))
    density = gmm.log_density(mixture, x)
    assert density.dtype == jnp.float32
    np.testing.assert_allclose(density, gmm.log_density(random_mixture("full"), x), rtol=1e-4)
