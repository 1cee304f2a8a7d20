"""Parameters of the estimator: what scikit-learn's takes, and its words for what it does not."""

import json
from decimal import Decimal

import jax
import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.model_selection import GridSearchCV

from exif_jax import gmm
from exif_jax.gmm import GaussianMixtureEstimator, em
from exif_jax.gmm.covariances import Structure
from exif_jax.training.mapping import data_mesh

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def one_device_by_default(monkeypatch, one_device):
    """Compiles sooner."""
    monkeypatch.setattr(
        em, "data_mesh", lambda *devices: data_mesh(*devices or [jax.devices()[:1]])
    )


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(40, 2)), rng.normal(5, 1, size=(40, 2))])


PLAIN = {"n_components": 2, "tol": 1e-3, "reg_covar": 1e-6, "max_iter": 4, "n_init": 1}
START = [[0.0, 0.0], [5.0, 5.0]]


def fitted(rows, **parameters):
    return GaussianMixtureEstimator(**{**PLAIN, "random_state": 0, **parameters}).fit(rows)


@pytest.fixture(scope="module")
def expected(rows):
    return {None: fitted(rows), "means": fitted(rows, means_init=np.array(START))}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", np.int64(2)),
        ("n_components", np.arange(3)[2]),
        ("n_components", np.uint8(2)),
        ("n_components", np.int32(2)),
        ("tol", np.float32(1e-3)),
        ("tol", np.float64(1e-3)),
        ("tol", np.float16(1e-3)),
        ("reg_covar", np.float64(1e-6)),
        ("max_iter", np.int16(4)),
        ("n_init", np.int64(1)),
        ("n_init", True),  # as scikit-learn's, for which True is 1
        ("covariance_type", np.str_("full")),
        ("shrinkage", np.str_("none")),
        ("random_state", np.int64(0)),
        ("random_state", np.uint32(0)),
        ("means_init", START),
        ("means_init", tuple(map(tuple, START))),
        ("means_init", np.array(START, np.float32)),
        ("means_init", np.array(START, int)),
    ],
)
def test_every_kind_of_number_is_as_good(rows, expected, name, value):
    model = fitted(rows, **{name: value})
    assert model.get_params()[name] is value
    wanted = expected["means" if name == "means_init" else None]
    np.testing.assert_allclose(model.means_, wanted.means_, rtol=1e-9)


def test_a_generator_of_random_numbers(rows):
    assert fitted(rows, random_state=np.random.RandomState(1)).means_.shape == (2, 2)


def test_a_rank_of_numpy(rows):
    three = np.concatenate([rows, rows[:, :1] ** 2], axis=1)
    model = fitted(three, covariance_type="low_rank", rank=np.int64(1), n_components=1)
    assert model.mixture_.structure == Structure("low_rank", 1)


WRONG = {
    "n_components": [0, -1, 2.0, "2", None, np.float64(2), np.bool_(True), [2], np.int64(0)],
    "tol": [np.inf, -1e-3, "small", None, np.float32(-1), np.bool_(True), 1j, Decimal("0.001")],
    "reg_covar": [-1, "x", np.float64(-1), [1e-6]],
    "max_iter": [-1, 1.5, None, "10", np.bool_(False)],
    "n_init": [0, 1.0, None, np.int64(-2)],
    "covariance_type": ["round", None, 3, ["full"]],
    "means_init": [3, "kmeans"],
    "random_state": [-1, "seed", 1.5],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_what_scikit_learn_refuses_is_refused_in_its_words(rows, name, value):
    with pytest.raises(ValueError) as theirs:
        SklearnMixture(**{"random_state": 0, name: value}).fit(rows)
    with pytest.raises(ValueError) as ours:
        GaussianMixtureEstimator(**{"random_state": 0, name: value}).fit(rows)
    start = f"The {name!r} parameter of "
    said, wanted = str(ours.value), str(theirs.value)
    assert said.startswith(start) and wanted.startswith(start)
    if name not in ("covariance_type", "reg_covar"):  # of which we know more kinds, and None
        assert said == wanted.replace("GaussianMixture", "GaussianMixtureEstimator")


@pytest.mark.parametrize(
    ("name", "value"), [("rank", 0), ("rank", 1.0), ("shrinkage", "much"), ("shrinkage", None)]
)
def test_our_own_parameters_are_checked_likewise(rows, name, value):
    with pytest.raises(ValueError, match=f"The {name!r} parameter of GaussianMixtureEstimator"):
        GaussianMixtureEstimator(**{name: value}).fit(rows)


def test_means_of_another_shape(rows):
    with pytest.raises(ValueError, match=r"should have the shape of \(2, 2\), but got \(1, 2\)"):
        fitted(rows, means_init=START[:1])
    with pytest.raises(ValueError, match="NaN"):
        fitted(rows, means_init=[[np.nan, 0.0], [5.0, 5.0]])


def test_no_iterations(rows, recwarn):
    assert fitted(rows, max_iter=0).n_iter_ == 0
    assert not [w for w in recwarn if issubclass(w.category, ConvergenceWarning)]


def test_a_grid_search_over_numpys_numbers(rows):
    grid = {"n_components": np.arange(1, 3), "tol": np.logspace(-3, -2, 2, dtype=np.float32)}
    search = GridSearchCV(GaussianMixtureEstimator(max_iter=4, random_state=0), grid, cv=2)
    shuffled = np.random.default_rng(0).permutation(rows)
    assert search.fit(shuffled).best_params_["n_components"] == 2


@pytest.mark.parametrize("n_samples", [-1, 0, np.int64(-3), False])
def test_no_samples_are_refused_in_scikit_learns_words(expected, n_samples):
    with pytest.raises(ValueError, match=r"Invalid value for 'n_samples': .* at least one sample"):
        expected[None].sample(n_samples)


@pytest.mark.parametrize("n_samples", [1.5, "3", None, np.float64(2)])
def test_no_whole_number_of_samples(expected, n_samples):
    with pytest.raises(TypeError, match="integer"):
        expected[None].sample(n_samples)


def test_numbers_of_numpy_name_a_checkpoint_and_a_candidate(rows, tmp_path):
    """What is underneath takes them too: in JSON, and as the same fit."""
    x, key = rows.astype(np.float32), jax.random.key(0)
    options = {"max_iters": np.int64(2), "n_init": np.int8(1), "tol": np.float32(0.0)}
    fit = gmm.fit(key, x, np.int64(2), "full", checkpoint=tmp_path / "a", **options)
    again = gmm.fit(key, x, 2, "full", checkpoint=tmp_path / "a", max_iters=2, n_init=1, tol=0)
    np.testing.assert_array_equal(fit.gmm.means, again.gmm.means)
    table = gmm.compare(key, x, [Structure()], np.arange(1, 2), **options)
    assert json.loads(json.dumps(table[0].to_json()))["num_components"] == 1
