"""Each kind of covariance: distances, statistics, M-step, shrinkage."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA

from exif_jax.gmm import covariances
from exif_jax.gmm.covariances import COVARIANCE_TYPES, Structure
from exif_jax.gmm.mixture import GaussianMixture


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_distances_and_determinants_are_those_of_the_dense_matrices(kind, random_mixture, dense, x):
    mixture = random_mixture(kind)
    matrices = dense(mixture)
    squares = mixture.covariance.squared_distances(jnp.asarray(mixture.means), jnp.asarray(x))
    for k, (mean, matrix) in enumerate(zip(mixture.means, matrices, strict=True)):
        expected = cdist(x, mean[None], "mahalanobis", VI=np.linalg.inv(matrix))[:, 0] ** 2
        np.testing.assert_allclose(squares[:, k], expected, rtol=1e-9)
    logs = np.broadcast_to(mixture.covariance.log_determinants(4), 3)
    np.testing.assert_allclose(logs, np.linalg.slogdet(matrices).logabsdet, rtol=1e-9)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_second_moments_about_the_means(kind, x):
    rng = np.random.default_rng(0)
    weights, means = rng.dirichlet(np.ones(3), len(x)), rng.normal(size=(3, 4))
    weights *= rng.uniform(0, 2, size=(len(x), 1))
    ours = covariances.scatters(
        Structure(kind, 2), jnp.asarray(x), jnp.asarray(weights), jnp.asarray(means), 0
    )
    centred = x[:, None] - means[None]
    expected = np.einsum("nk,nkd,nke->kde", weights, centred, centred)
    if kind == "tied":
        expected = expected.sum(axis=0)
    elif kind in ("diag", "spherical"):
        expected = expected.diagonal(axis1=1, axis2=2)
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-9)


def test_tied_moments_keep_their_digits_where_clusters_are_far_apart():
    """In float32, with clusters ten thousand standard deviations from each other."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    means = np.array([[0.0, 0.0], [1e4, -1e4], [-1e4, 2e4]])
    noise = rng.normal(size=(300, 2))
    x = (means[labels] + noise).astype(np.float32)
    ours = covariances.scatters(
        Structure("tied"),
        jnp.asarray(x),
        jnp.asarray(np.eye(3)[labels], jnp.float32),
        jnp.asarray(means, jnp.float32),
        0,
    )
    wide = np.asarray(x, np.float64) - means[labels]
    np.testing.assert_allclose(ours, wide.T @ wide, rtol=1e-4, atol=0.1)


def test_one_low_rank_component_is_probabilistic_pca(fit, x):
    result = fit(x, 1, "low_rank", rank=2, reg_covar=0.0, max_iters=0)
    pca = PCA(4).fit(x)
    biased = pca.explained_variance_ * (len(x) - 1) / len(x)
    covariance = result.gmm.covariance
    np.testing.assert_allclose(np.sort(covariance.variances[0])[::-1], biased[:2], rtol=1e-10)
    np.testing.assert_allclose(covariance.noise, biased[2:].mean(), rtol=1e-10)
    ours, theirs = covariance.directions[0], pca.components_[:2].T
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-9)
    np.testing.assert_allclose(result.gmm.means[0], pca.mean_, rtol=1e-9)


@pytest.mark.parametrize("rows", [6, 12, 200])
def test_ledoit_wolf_is_scikit_learns(rows):
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 20)) @ rng.normal(size=(20, 20))
    centred = x - x.mean(axis=0)
    ours, share = covariances.ledoit_wolf(
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
    for shrinkage, singular in (("none", True), ("ledoit_wolf", False)):
        structure = Structure("full", shrinkage=shrinkage)
        _, jitter, share = covariances.from_scatters(structure, *map(jnp.asarray, arguments))
        assert (jitter[0] > 0, share[0] > 0.1) == (singular, not singular)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_free_parameters_are_counted(kind, random_mixture):
    """Numbers that can be chosen freely: the rank of the map from them to the mixture."""
    expected = {
        "full": 3 * 10,
        "tied": 10,
        "diag": 12,
        "spherical": 3,
        # Two orthonormal directions of 4 (2 x 4 - 3 numbers), their variances and the noise, less
        # nothing: Tipping & Bishop count D R + 1 - R (R - 1) / 2.
        "low_rank": 3 * (4 * 2 + 1 - 1),
    }[kind]
    assert random_mixture(kind).num_parameters == expected + 3 * 4 + 2


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_from_scatters_divides_and_regularises(kind, dense):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 30, 4)) @ rng.normal(size=(2, 4, 4))
    scatter = x.swapaxes(1, 2) @ x
    counts, regulariser = np.array([30.0, 30.0]), 0.5
    given = {"tied": scatter.sum(axis=0), "full": scatter, "low_rank": scatter}.get(
        kind, scatter.diagonal(axis1=1, axis2=2)
    )
    added = {"full": np.eye(4) * 0.5, "tied": np.eye(4) * 0.5, "diag": np.full(4, 0.5)}.get(
        kind, np.array(0.5)
    )
    covariance, jitter, share = covariances.from_scatters(
        Structure(kind, 2), *map(jnp.asarray, (given, counts, np.zeros(2), added))
    )
    assert not jitter.any() and not share.any()
    ours = dense(GaussianMixture(np.full(2, 0.5), np.zeros((2, 4)), covariance))
    matrices = scatter / 30
    match kind:
        case "tied":
            matrices = np.stack([matrices.mean(axis=0)] * 2)
        case "diag":
            matrices = matrices * np.eye(4)
        case "spherical":
            matrices = matrices.trace(axis1=1, axis2=2)[:, None, None] / 4 * np.eye(4)
        case "low_rank":
            values, vectors = np.linalg.eigh(matrices)
            values[:, :2] = values[:, :2].mean(axis=1, keepdims=True)
            matrices = (vectors * values[:, None, :]) @ vectors.swapaxes(1, 2)
    np.testing.assert_allclose(ours, matrices + regulariser * np.eye(4), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        (Structure("round"), "'round' is not known: choose full, tied"),
        (Structure("full", shrinkage="oas"), "'oas' is not known: choose none, ledoit_wolf"),
        (Structure("diag", shrinkage="ledoit_wolf"), "shrinkage is for full and tied, not diag"),
        (Structure("low_rank"), "rank 0 of low_rank covariances must lie between 1 and 3"),
        (Structure("low_rank", 4), "rank 4 of low_rank"),
    ],
)
def test_impossible_structures_are_refused(structure, message):
    with pytest.raises(ValueError, match=message):
        structure.check(4)
