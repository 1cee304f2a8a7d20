"""Each kind of covariance: distances, statistics, M-step; a kind that is new."""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from exif_jax import gmm
from exif_jax.gmm.covariances import COVARIANCE_TYPES, KINDS, Covariances, Structure
from exif_jax.gmm.covariances.base import Sums
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
    ours = KINDS[kind].scatter(jnp.asarray(x), jnp.asarray(weights), jnp.asarray(means), 0)
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
    ours = KINDS["tied"].scatter(
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
def test_estimates_divide_and_regularise(kind, dense):
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
    sums = Sums(*map(jnp.asarray, (given, counts, np.zeros(2), added)), rank=2)
    covariance, jitter, share = KINDS[kind].estimate(sums)
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


@flax.struct.dataclass
class SharedVariance(Covariances):
    """A kind that is not ours: the same multiple of the identity in all components."""

    variance: jax.Array

    name = "shared_variance"
    keeps = "uniform"
    shared = True

    @staticmethod
    def shapes(components, columns, found):
        return {"variance": ()}

    @staticmethod
    def num_parameters(components, columns, rank):
        return 1

    def squared_norms(self, centred_ND):
        return jnp.square(centred_ND).sum(axis=1) / self.variance

    def log_determinant(self, columns):
        return columns * jnp.log(self.variance)

    def matrix(self):
        return self.variance

    @staticmethod
    def scatter_of_one(x_ND, weights_N, mean_D, tile):
        return weights_N @ jnp.square(x_ND - mean_D[None]).sum(axis=1)

    @classmethod
    def estimate_one(cls, sums):
        nothing = jnp.zeros_like(sums.counts)
        return cls(sums.scatter / sums.counts / 4 + sums.regulariser), nothing, nothing

    def outward(self, scale_D, upper_DD):
        return SharedVariance(self.variance * scale_D[0] ** 2)


def test_a_new_kind_is_one_class_and_one_line(monkeypatch, fit, fit_stream, x, tmp_path):
    """Fitted as spherical clusters of one size, streamed, saved, continued, compared, stored."""
    monkeypatch.setitem(KINDS, "shared_variance", SharedVariance)
    rows = x * 100 + 7
    assert fit(rows, 3, "shared_variance", max_iters=2, checkpoint=tmp_path).gmm.structure == (
        Structure("shared_variance")
    )
    whole = fit(rows, 3, "shared_variance", checkpoint=tmp_path)
    streamed = fit_stream(rows, 3, "shared_variance")
    np.testing.assert_allclose(streamed.gmm.means, whole.gmm.means, rtol=1e-8)
    assert np.diff(whole.history).min() > 0 and whole.gmm.num_parameters == 2 + 12 + 1
    means, weights = np.asarray(whole.gmm.means), np.asarray(gmm.responsibilities(whole.gmm, rows))
    variance = (weights * np.square(rows[:, None] - means).sum(axis=-1)).sum() / rows.size
    np.testing.assert_allclose(whole.gmm.covariances, variance, rtol=1e-2)  # converged to 1e-3
    again = GaussianMixture.from_arrays(whole.gmm.to_arrays(), "shared_variance")
    density = gmm.log_density(again, rows)
    assert float(density.mean()) == pytest.approx(whole.log_likelihood, rel=1e-9)
    (row,) = gmm.compare(jax.random.key(0), rows, [Structure("shared_variance")], [3])
    assert row.error is None and row.covariance_type == "shared_variance"
