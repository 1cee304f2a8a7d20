"""The mixture as a scikit-learn estimator."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from exif_jax import gmm
from exif_jax.gmm import GaussianMixtureEstimator, em
from exif_jax.gmm.covariances import COVARIANCE_TYPES
from exif_jax.training.mapping import data_mesh

ROOT = Path(__file__).resolve().parents[3]
SKLEARNS = ["full", "tied", "diag", "spherical"]


@pytest.fixture(autouse=True)
def double_precision():
    """The estimator sees to that itself."""
    with jax.enable_x64(False):
        yield


@pytest.fixture(autouse=True)
def one_device_by_default(monkeypatch, one_device):
    """Compiles sooner."""
    monkeypatch.setattr(
        em, "data_mesh", lambda *devices: data_mesh(*devices or [jax.devices()[:1]])
    )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks([GaussianMixtureEstimator()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", SKLEARNS)
def test_a_drop_in_for_scikit_learns(kind, x, centres):
    options = {"covariance_type": kind, "means_init": centres, "tol": 1e-8, "max_iter": 1000}
    ours = GaussianMixtureEstimator(3, **options, random_state=0).fit(x)
    theirs = SklearnMixture(3, **options, random_state=0).fit(x)
    best = max(ours.lower_bound_, theirs.lower_bound_)
    # Starts differ in the covariances; where both reach the same optimum the numbers agree.
    assert ours.lower_bound_ > best - 0.1
    assert ours.converged_ and ours.n_iter_ > 1
    assert ours.covariances_.shape == theirs.covariances_.shape
    assert ours.means_.shape == theirs.means_.shape == (3, 4)
    assert ours.weights_.sum() == pytest.approx(1)
    assert ours.means_.dtype == np.float64
    converted = gmm.to_sklearn(ours.mixture_)
    np.testing.assert_allclose(ours.score_samples(x), converted.score_samples(x), rtol=1e-9)
    np.testing.assert_allclose(ours.predict_proba(x), converted.predict_proba(x), atol=1e-9)
    np.testing.assert_array_equal(ours.predict(x), converted.predict(x))
    assert ours.score(x) == pytest.approx(converted.score(x), rel=1e-9)
    assert ours.score(x) == pytest.approx(ours.lower_bound_, rel=1e-9)
    assert ours.bic(x) == pytest.approx(converted.bic(x), rel=1e-9)
    assert ours.aic(x) == pytest.approx(converted.aic(x), rel=1e-9)


def test_precision_is_that_of_the_data(x):
    single = GaussianMixtureEstimator(3, random_state=0).fit(x.astype(np.float32))
    assert single.means_.dtype == np.float32
    assert single.score_samples(x.astype(np.float32)).dtype == np.float32


def test_it_can_be_cloned_and_put_into_a_pipeline(x):
    model = GaussianMixtureEstimator(3, covariance_type="low_rank", rank=2, random_state=1)
    assert clone(model).get_params() == model.get_params()
    pipeline = make_pipeline(StandardScaler(), model).fit(x)
    scaled = StandardScaler().fit_transform(x)
    np.testing.assert_allclose(pipeline.score_samples(x), model.score_samples(scaled), rtol=1e-9)
    labels = clone(model).fit_predict(scaled)
    np.testing.assert_array_equal(labels, model.predict(scaled))


def test_samples(x):
    model = GaussianMixtureEstimator(3, random_state=0).fit(x)
    rows, labels = model.sample(500)
    assert rows.shape == (500, 4) and rows.dtype == np.float64
    assert abs((labels == model.weights_.argmax()).mean() - model.weights_.max()) < 0.12
    # Those of one component look like that component.
    assert (model.predict(rows) == labels).mean() > 0.8
    with pytest.raises(NotFittedError):
        GaussianMixtureEstimator().sample()


def test_too_few_iterations_are_warned_of(x):
    with pytest.warns(ConvergenceWarning, match="did not converge in 1 iterations"):
        model = GaussianMixtureEstimator(3, max_iter=1, random_state=0).fit(x)
    assert not model.converged_ and model.n_iter_ == 1


@pytest.mark.parametrize("kind", SKLEARNS)
def test_scikit_learns_there_and_back(kind, x):
    theirs = SklearnMixture(3, covariance_type=kind, random_state=0).fit(x)
    mixture = gmm.from_sklearn(theirs)
    again = gmm.to_sklearn(mixture)
    names = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")
    for name in names:
        ours, expected = getattr(again, name), getattr(theirs, name)
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(again.score_samples(x), theirs.score_samples(x), rtol=1e-10)
    with jax.enable_x64(True):
        np.testing.assert_allclose(gmm.log_density(mixture, x), theirs.score_samples(x), rtol=1e-9)
    rows, _ = again.sample(10)
    assert rows.shape == (10, 4)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_ours_to_scikit_learns_and_back(kind, random_mixture, dense, x):
    mixture = random_mixture(kind)
    model = gmm.to_sklearn(mixture)
    back = gmm.from_sklearn(model)
    np.testing.assert_allclose(dense(back), dense(mixture), rtol=1e-9, atol=1e-10)
    with jax.enable_x64(True):
        ours = gmm.log_density(mixture, x)
    np.testing.assert_allclose(model.score_samples(x), ours, rtol=1e-9)


def test_a_model_that_is_not_fitted_is_refused():
    with pytest.raises(NotFittedError):
        gmm.from_sklearn(SklearnMixture())


def test_the_package_loads_neither_scikit_learn_nor_matplotlib_until_asked():
    code = (
        "import sys; from exif_jax import gmm; "
        "assert not {'sklearn', 'matplotlib'} & sys.modules.keys(); "
        "gmm.to_sklearn; assert 'sklearn' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
