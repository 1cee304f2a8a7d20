"""Fits in memory: scikit-learn's numbers, invariances, float32, bad data, empty components."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax
from scipy.stats import multivariate_normal, ortho_group
from sklearn.mixture import GaussianMixture as SklearnMixture

from exif_jax import gmm
from exif_jax.gmm.covariances import COVARIANCE_TYPES
from exif_jax.gmm.problem import warnings_of
from exif_jax.training.mapping import data_mesh

ALL = pytest.mark.parametrize("kind", COVARIANCE_TYPES)
SKLEARNS = pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])


def watch(*_):
    """With an observer every iteration is a call of its own, whatever the number: one program."""


def assert_same_mixture(a, b, rtol=1e-9, atol=1e-9):
    compare = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol)
    compare(a.weights, b.weights)
    compare(a.means, b.means)
    compare(a.covariances, b.covariances)


def finite(result):
    leaves = jax.tree.leaves(result.gmm)
    return np.isfinite(result.log_likelihood) and all(np.isfinite(leaf).all() for leaf in leaves)


# The same as scikit-learn


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("iterations", [1, 5, 300])
@SKLEARNS
def test_same_as_scikit_learn_from_the_same_start(kind, iterations, x, start, fit, scikit_learn):
    options = {"tol": 1e-6, "reg_covar": 1e-6}
    ours = fit(x, 3, kind, responsibilities=start, max_iters=iterations, observe=watch, **options)
    theirs = scikit_learn(x, start, kind, max_iter=iterations, **options)
    assert ours.converged == theirs.converged_
    assert len(ours.history) == theirs.n_iter_
    np.testing.assert_allclose(ours.history, theirs.lower_bounds_, rtol=1e-10)
    np.testing.assert_allclose(ours.log_likelihood, theirs.score(x), rtol=1e-9)
    theirs.weights, theirs.means, theirs.covariances = (
        theirs.weights_,
        theirs.means_,
        theirs.covariances_,
    )
    assert_same_mixture(ours.gmm, theirs, rtol=1e-8)
    np.testing.assert_allclose(gmm.log_density(ours.gmm, x), theirs.score_samples(x), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["full", "tied"])
def test_same_as_scikit_learn_in_many_columns(kind, fit, scikit_learn):
    """140 columns and 400 rows, in tiles: sorted by component, most are passed over."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    x = rng.normal(size=(400, 140)) @ rng.normal(size=(140, 140)) / 12 + 2 * labels[:, None]
    start = np.eye(2)[np.where(rng.random(400) < 0.1, 1 - labels, labels)]
    ours = fit(x, 2, kind, responsibilities=start, max_iters=5, reg_covar=1e-6, observe=watch)
    theirs = scikit_learn(x, start, kind, max_iter=5, reg_covar=1e-6)
    np.testing.assert_allclose(ours.history, theirs.lower_bounds_, rtol=1e-8)
    np.testing.assert_allclose(ours.gmm.weights, theirs.weights_, rtol=1e-8)
    np.testing.assert_allclose(ours.gmm.means, theirs.means_, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(ours.gmm.covariances, theirs.covariances_, rtol=1e-8, atol=1e-8)


def test_low_rank_iterations_are_those_of_probabilistic_pca(x, start, fit, dense):
    """Five iterations, written down again from the publication."""
    responsibilities = start
    for _ in range(6):
        counts = responsibilities.sum(axis=0)
        means = responsibilities.T @ x / counts[:, None]
        centred = x[:, None] - means
        scatter = np.einsum("nk,nkd,nke->kde", responsibilities, centred, centred)
        values, vectors = np.linalg.eigh(scatter / counts[:, None, None])
        values[:, :2] = values[:, :2].mean(axis=1, keepdims=True)
        matrices = (vectors * values[:, None, :]) @ vectors.swapaxes(1, 2)
        joint = [
            np.log(count / len(x)) + multivariate_normal(mean, matrix).logpdf(x)
            for count, mean, matrix in zip(counts, means, matrices, strict=True)
        ]
        responsibilities = softmax(np.stack(joint, axis=1), axis=1)
    options = {"max_iters": 5, "reg_covar": 0.0, "tol": 0.0, "observe": watch}
    ours = fit(x, 3, "low_rank", responsibilities=start, **options).gmm
    np.testing.assert_allclose(ours.means, means, rtol=1e-8)
    np.testing.assert_allclose(ours.weights, counts / len(x), rtol=1e-8)
    np.testing.assert_allclose(dense(ours), matrices, rtol=1e-8, atol=1e-9)


# Invariances


@ALL
@given(
    seed=st.integers(0, 999),
    separation=st.floats(0, 10),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
    scale=st.sampled_from([1e-3, 1.0, 1e5]),
)
@settings(max_examples=12)
def test_likelihood_never_falls(kind, fit, x, seed, separation, offset, scale):
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=len(x))
    rows = rng.normal(size=x.shape) @ rng.normal(size=(4, 4)) + separation * labels[:, None]
    responsibilities = rng.dirichlet(np.full(3, 0.5), size=len(x))
    result = fit(
        scale * (rows + offset), 3, kind, responsibilities=responsibilities, reg_covar=0.0, tol=1e-9
    )
    assume(not result.reseeded.any() and not result.jitter.any())
    rises = np.diff([*result.history, result.log_likelihood])
    assert rises.min() > -1e-9 * np.abs(result.history).max()


@ALL
@given(seed=st.integers(0, 999))
@settings(max_examples=8)
def test_affine_maps_of_the_rows_are_affine_maps_of_the_mixture(kind, fit, x, start, seed):
    """The maps under which each kind of covariance stays of its kind."""
    rng = np.random.default_rng(seed)
    rotation = ortho_group.rvs(4, random_state=rng)
    stretch = np.exp(rng.uniform(-3, 3, size=4))
    matrix = {
        "full": rotation * stretch @ ortho_group.rvs(4, random_state=rng),
        "diag": np.diag(stretch),
        "spherical": rotation * stretch[0],
    }
    matrix |= {"tied": matrix["full"], "low_rank": matrix["spherical"]}
    moved = x @ matrix[kind] + rng.normal(size=4) * 10
    options = {"responsibilities": start, "reg_covar": 0.0, "tol": 1e-6}
    here, there = fit(x, 3, kind, **options), fit(moved, 3, kind, **options)
    assert len(here.history) == len(there.history)
    shift = np.linalg.slogdet(matrix[kind]).logabsdet
    np.testing.assert_allclose(there.history + shift, here.history, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        gmm.responsibilities(there.gmm, moved), gmm.responsibilities(here.gmm, x), atol=1e-6
    )


@ALL
def test_the_order_of_rows_does_not_matter(kind, fit, x, start):
    order = np.random.default_rng(3).permutation(len(x))
    a = fit(x, 3, kind, responsibilities=start)
    b = fit(x[order], 3, kind, responsibilities=start[order])
    assert_same_mixture(a.gmm, b.gmm, rtol=1e-7)


@ALL
def test_the_order_of_components_does_not_matter(kind, fit, x, start):
    order = [2, 0, 1]
    a = fit(x, 3, kind, responsibilities=start)
    b = fit(x, 3, kind, responsibilities=start[:, order])
    np.testing.assert_allclose(b.history, a.history, rtol=1e-9)
    np.testing.assert_allclose(b.gmm.means, a.gmm.means[order], rtol=1e-7)
    np.testing.assert_allclose(b.gmm.weights, a.gmm.weights[order], rtol=1e-7)


# Devices and pieces


@ALL
def test_eight_devices_and_one_give_the_same_mixture(kind, fit, x, start):
    one = fit(x, 3, kind, responsibilities=start, observe=watch)
    eight = fit(x, 3, kind, responsibilities=start, observe=watch, mesh=data_mesh())
    np.testing.assert_allclose(one.history, eight.history, rtol=1e-10)
    assert_same_mixture(one.gmm, eight.gmm, rtol=1e-7)


@ALL
def test_em_in_pieces_is_em_in_one_go(kind, fit, x):
    seen = []
    whole = fit(x, 3, kind)
    pieces = fit(x, 3, kind, observe=lambda *call: seen.append(call))
    np.testing.assert_array_equal(whole.history, pieces.history)
    jax.tree.map(np.testing.assert_array_equal, whole.gmm, pieces.gmm)
    assert [call[0] for call in seen] == list(range(1, len(whole.history) + 1))
    np.testing.assert_array_equal([call[1] for call in seen], whole.history)
    jax.tree.map(np.testing.assert_array_equal, seen[-1][2], whole.gmm)
    # What was reported is the likelihood under the mixture before.
    before = np.asarray(gmm.log_density(seen[0][2], x)).mean()
    assert before == pytest.approx(whole.history[1], rel=1e-9)
    assert whole.converged and len(whole.history) < 200
    mean = np.asarray(gmm.log_density(whole.gmm, x)).mean()
    assert whole.log_likelihood == pytest.approx(mean, rel=1e-9)


# Starts


def test_the_key_decides(fit, x):
    a, b, c = (fit(x, key=key) for key in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a.gmm, b.gmm)
    assert not np.array_equal(a.gmm.means, c.gmm.means)


def test_the_likeliest_of_several_starts_is_kept(fit, x, one_device):
    key = jax.random.key(0)
    keys = [key, *(jax.random.fold_in(key, i) for i in (1, 2, 3))]
    singles = [gmm.fit(k, x, 6, "diag", mesh=one_device) for k in keys]
    values = [single.log_likelihood for single in singles]
    assert np.ptp(values) > 1e-3
    best = fit(x, 6, "diag", n_init=4)
    jax.tree.map(np.testing.assert_array_equal, best.gmm, singles[np.argmax(values)].gmm)


def test_em_starts_from_given_means(fit, x, centres):
    np.testing.assert_allclose(fit(x, means=centres, max_iters=0).gmm.means, centres, rtol=1e-9)


@pytest.mark.parametrize("kind", ["full", "low_rank"])
def test_a_mixture_is_recovered_from_its_samples(kind, fit, random_mixture, dense):
    truth = random_mixture(kind, spread=8.0)
    x = gmm.to_sklearn(truth).set_params(random_state=1).sample(4000)[0]
    result = fit(x, 3, kind, observe=watch)
    distances = np.linalg.norm(truth.means[:, None] - result.gmm.means, axis=2)
    order = linear_sum_assignment(distances)[1]
    np.testing.assert_allclose(np.asarray(result.gmm.weights)[order], truth.weights, atol=0.04)
    for k, matrix in zip(range(3), dense(truth), strict=True):
        deviations = np.sqrt(np.diagonal(matrix))
        rows = 4000 * truth.weights[k]
        error = (np.asarray(result.gmm.means)[order[k]] - truth.means[k]) / deviations
        assert np.abs(error).max() < 5 / np.sqrt(rows)
        error = (dense(result.gmm)[order[k]] - matrix) / np.outer(deviations, deviations)
        assert np.abs(error).max() < 5 * np.sqrt(2 / rows)
    assert result.warnings == ()


# Degenerate data


@pytest.mark.parametrize("reg_covar", [None, 0.0])
@ALL
def test_constant_columns_are_handled(kind, reg_covar, fit, x):
    rows = x.copy()
    rows[:, 1], rows[:, 3] = 0.1, -1e6
    result = fit(rows, 3, kind, reg_covar=reg_covar)
    assert finite(result)
    np.testing.assert_allclose(np.asarray(result.gmm.means)[:, [1, 3]], [[0.1, -1e6]] * 3)
    assert np.isfinite(gmm.log_density(result.gmm, rows)).all()


@pytest.mark.parametrize("reg_covar", [None, 0.0])
@ALL
def test_fewer_distinct_rows_than_components(kind, reg_covar, fit, x):
    rows = np.where(np.arange(len(x))[:, None] % 3 > 0, x[:1], x[1:2])
    result = fit(rows, 3, kind, reg_covar=reg_covar)
    assert finite(result)
    density = gmm.log_density(result.gmm, rows)
    assert np.isfinite(density).all()
    np.testing.assert_allclose(np.asarray(result.gmm.weights).sum(), 1, rtol=1e-9)


@ALL
def test_identical_rows_report_the_jitter(kind, fit, x):
    result = fit(np.repeat(x[:1], len(x), axis=0), 3, kind, reg_covar=0.0)
    assert finite(result)
    assert result.jitter.min() > 0
    for k in range(3):
        assert any(
            warning.startswith(f"component {k}: its covariance could not be factorised")
            for warning in result.warnings
        )


@ALL
def test_a_component_of_a_single_row(kind, fit, x, start):
    rows, responsibilities = x.copy(), start.copy()
    rows[7] = 1e3
    responsibilities[:, 2] = 0
    responsibilities[:, 0] = 1 - responsibilities[:, 1]
    responsibilities[7] = [0, 0, 1]
    result = fit(rows, 3, kind, responsibilities=responsibilities)
    assert finite(result)
    np.testing.assert_allclose(result.gmm.means[2], rows[7], rtol=1e-6)
    np.testing.assert_allclose(result.gmm.weights[2], 1 / len(x), rtol=1e-6)
    if kind == "full":
        assert any(w.startswith("component 2 holds 1.0 rows of 4") for w in result.warnings)


@ALL
def test_an_empty_component_starts_again_and_is_reported(kind, fit, x, centres):
    means = centres.copy()
    means[1] = 1e5
    result = fit(x, 3, kind, means=means)
    assert finite(result)
    assert result.reseeded[1] > 0
    np.testing.assert_array_equal(result.reseeded[[0, 2]], 0)
    times = result.reseeded[1]
    assert any(f"component 1 was empty and started again {times} t" in w for w in result.warnings)
    assert result.gmm.weights[1] * len(x) > 1


@ALL
def test_an_empty_start_is_reported(kind, fit, x, start):
    responsibilities = start.copy()
    responsibilities[:, 0] += responsibilities[:, 2]
    responsibilities[:, 2] = 0
    result = fit(x, 3, kind, responsibilities=responsibilities, max_iters=0)
    assert finite(result)
    assert any("component 2" in warning for warning in result.warnings)


def test_components_that_stay_empty_are_reported(fit, x):
    result = dataclasses.replace(fit(x, 3, "diag", max_iters=0), reseeded=np.array([0, 3, 3]))
    warnings = warnings_of(result, gmm.Structure("diag"), np.array([161, 0, 0]))
    assert not any("component 0" in warning for warning in warnings)
    for k in (1, 2):
        assert f"component {k} is empty: take fewer components" in warnings
        again = f"component {k} was empty and started again 3 times, the most that is done"
        assert again in warnings


def test_few_rows_for_many_parameters_are_reported(fit, x):
    result = fit(x[:20], 3, max_iters=0)
    assert result.rows_per_parameter == pytest.approx(20 * 4 / 44)
    assert any("20 rows are few: 1.8 numbers" in warning for warning in result.warnings)
    assert fit(x, 3, "spherical").warnings == ()


# Single precision


@pytest.fixture(scope="module")
def ill_conditioned():
    """Deviations from 1e-4 to 1e2, strongly correlated columns, far from zero; float32."""
    rng = np.random.default_rng(0)
    columns = 30
    common = rng.normal(size=(1500, 3)) @ rng.normal(size=(3, columns))
    x = common + 0.002 * rng.normal(size=(1500, columns))
    x[::2] += 0.5 * rng.normal(size=columns)
    scale = np.logspace(-4, 2, columns)
    return (scale * (x + 30)).astype(np.float32)


def test_float32_where_scikit_learn_gives_up(ill_conditioned, fit):
    x = ill_conditioned
    with pytest.raises(ValueError, match="ill-defined empirical covariance"):
        SklearnMixture(2, random_state=0, reg_covar=0.0).fit(x)
    double = fit(x.astype(np.float64), 2)
    with jax.enable_x64(False):
        single = fit(x, 2)
        ours = np.asarray(gmm.log_density(single.gmm, x))
    assert {leaf.dtype for leaf in jax.tree.leaves(single.gmm)} == {np.dtype("float32")}
    assert single.converged and not single.jitter.any()
    theirs = np.asarray(gmm.log_density(double.gmm, x.astype(np.float64)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    for quantile in (0.01, 0.05, 0.5):
        threshold = np.quantile(theirs, quantile)
        same = (ours < np.quantile(ours, quantile)) == (theirs < threshold)
        # Row and threshold may each be off by the tolerance; whatever is clear of both must agree.
        clear = np.abs(theirs - threshold) > 1e-3 * (np.abs(theirs) + np.abs(threshold))
        assert same[clear].all() and clear.mean() > 0.8


def test_double_precision_must_be_enabled(fit, x, start):
    options = {"responsibilities": start, "max_iters": 0}
    with jax.enable_x64(False):
        assert fit(x, **options).gmm.means.dtype == np.float32
    assert fit(x.astype(np.float32), **options).gmm.means.dtype == np.float32
    assert fit(x, **options).gmm.means.dtype == np.float64


# Bad input


def spoiled(x, row, value):
    x = x.copy()
    x[row, 1] = value
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x": lambda x: spoiled(x, 17, np.nan)},
            "1 rows hold NaN or infinity, the first is row 17",
        ),
        ({"x": lambda x: spoiled(x, 5, -np.inf)}, "the first is row 5"),
        ({"x": lambda x: x[:, 0]}, r"must be \[rows, columns\], not \(161,\)"),
        ({"x": lambda x: x[None]}, r"must be \[rows, columns\]"),
        ({"x": lambda x: x.astype(int)}, "must be floats, not int64"),
        ({"x": lambda x: x[:0]}, "must have rows"),
        ({"x": lambda x: x[:2]}, "3 components need at least as many rows, not 2"),
        ({"num_components": 0}, "0 components"),
        ({"kind": "round"}, "'round' is not known: choose full"),
        ({"kind": "low_rank", "rank": 4}, "rank 4 .* between 1 and 3"),
        ({"kind": "diag", "shrinkage": "ledoit_wolf"}, "shrinkage is for full and tied"),
        ({"shrinkage": "much"}, "'much' is not known"),
        ({"n_init": 0}, "n_init = 0 must be at least 1"),
        ({"max_iters": -1}, "max_iters = -1"),
        ({"tol": -1.0}, "tol = -1.0 must be finite and not negative"),
        ({"tol": np.nan}, "tol = nan"),
        ({"reg_covar": -1e-6}, "reg_covar = -1e-06"),
        (
            {"responsibilities": lambda x: np.ones((len(x), 2))},
            r"must be \[161, 3\], not \[161, 2\]",
        ),
        ({"responsibilities": lambda x: np.full((len(x), 3), np.nan)}, "hold NaN"),
        ({"means": lambda x: x[:2]}, r"means must be \[3, 4\], not \[2, 4\]"),
        ({"means": lambda x: np.full((3, 4), np.inf)}, "means hold NaN or infinity"),
    ],
)
def test_bad_input_is_refused_with_one_message(change, message, fit, x):
    change = {name: value(x) if callable(value) else value for name, value in change.items()}
    with pytest.raises(ValueError, match=message):
        fit(**({"x": x} | change))
