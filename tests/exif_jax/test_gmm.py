"""The mixture: scikit-learn's numbers, many devices as one, clear errors."""

import jax
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture as Reference

from exif_jax import gmm
from exif_jax.mapping import data_mesh


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def x():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(3, 4, 4))
    return np.concatenate(
        [
            rng.normal(size=(n, 4)) @ m + 2 * i
            for i, (n, m) in enumerate(zip((71, 52, 38), mixing, strict=True))
        ]
    )


@pytest.fixture(scope="module")
def start(x):
    labels = np.random.default_rng(1).integers(3, size=len(x))
    return np.eye(3)[labels]


class _Reference(Reference):
    """scikit-learn's mixture from given responsibilities."""

    def __init__(self, start, **options):
        super().__init__(start.shape[1], **options)
        self.start = start

    def _initialize_parameters(self, X, *_, **__):
        self._initialize(X, self.start)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("iterations", [1, 5, 300])
def test_same_as_scikit_learn_from_the_same_start(x, start, iterations):
    ours = gmm.fit(
        jax.random.key(0), x, 3, max_iterations=iterations, tolerance=1e-6, responsibilities=start
    )
    theirs = _Reference(start, max_iter=iterations, tol=1e-6).fit(x)
    assert ours.converged == theirs.converged_
    assert len(ours.history) == theirs.n_iter_
    np.testing.assert_allclose(ours.history[-1], theirs.lower_bound_, rtol=1e-10)
    np.testing.assert_allclose(ours.log_likelihood, theirs.score(x), rtol=1e-10)
    np.testing.assert_allclose(ours.gmm.weights, theirs.weights_, rtol=1e-8)
    np.testing.assert_allclose(ours.gmm.means, theirs.means_, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(ours.gmm.covariances, theirs.covariances_, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        gmm.log_density(ours.gmm, x), theirs.score_samples(x), rtol=1e-8, atol=1e-8
    )


def test_eight_devices_and_one_give_the_same_mixture(x, start):
    assert len(x) % 8  # the last shard is padded
    one, eight = (
        gmm.fit(jax.random.key(0), x, 3, responsibilities=start, mesh=data_mesh(devices))
        for devices in (jax.devices()[:1], jax.devices())
    )
    for a, b in zip(jax.tree.leaves(one.gmm), jax.tree.leaves(eight.gmm), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(one.history, eight.history, rtol=1e-12)


def test_em_in_pieces_is_em_in_one(x, start):
    whole, history = gmm.run_em(gmm.initial_state(x, start), x, 6, tolerance=0.0)
    state, pieces = gmm.initial_state(x, start), []
    for _ in range(3):
        state, piece = gmm.run_em(state, x, 2, tolerance=0.0)
        pieces.append(piece)
    np.testing.assert_array_equal(np.concatenate(pieces), history)
    np.testing.assert_array_equal(state.gmm.means, whole.gmm.means)


def test_likelihood_never_falls_from_a_kmeans_start(x):
    fit = gmm.fit(jax.random.key(3), x, 4, tolerance=1e-9)
    assert (np.diff(fit.history) > -1e-9).all()
    assert fit.log_likelihood >= fit.history[-1] - 1e-9


def test_kmeans_start_finds_separate_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    x = np.repeat(centres, 20, axis=0) + rng.normal(size=(60, 2))
    labels = gmm.kmeans_responsibilities(jax.random.key(0), x, 3).argmax(axis=1)
    assert {tuple(np.unique(part)) for part in labels.reshape(3, 20)} == {(0,), (1,), (2,)}


def test_single_precision_data_give_a_single_precision_mixture(x, start):
    fit = gmm.fit(jax.random.key(0), x.astype(np.float32), 3, responsibilities=start)
    assert {leaf.dtype for leaf in jax.tree.leaves(fit.gmm)} == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.array([[1.0, np.nan], [0.0, 0.0]])}, "first is row 0"),
        ({"x": np.zeros(3)}, r"\[rows, columns\]"),
        ({"num_components": 4}, "at least as many rows"),
        ({"x": np.zeros((3, 2), int)}, "must be floats"),
        ({"covariance_type": "round"}, "round"),
        ({"x": np.ones((9, 2)), "reg_covar": 0.0}, "singular"),
    ],
)
def test_bad_data_are_refused_with_one_message(change, message):
    arguments = {"x": np.zeros((3, 2)), "num_components": 2} | change
    with pytest.raises(ValueError, match=message):
        gmm.fit(jax.random.key(0), **arguments)


def test_double_precision_must_be_enabled(x, start):
    with jax.enable_x64(False):
        fit = gmm.fit(jax.random.key(0), x, 3, responsibilities=start)
        assert fit.gmm.means.dtype == np.float32
        assert np.isfinite(fit.log_likelihood)
