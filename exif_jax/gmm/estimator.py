"""The mixture as a scikit-learn estimator, and to and from scikit-learn's own."""

import operator
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar

import jax
import numpy as np
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from exif_jax.gmm.covariances import COVARIANCE_TYPES
from exif_jax.gmm.covariances.shrinkage import SHRINKAGES
from exif_jax.gmm.em import fit
from exif_jax.gmm.mixture import (
    GaussianMixture,
    information_criterion,
    log_density,
    responsibilities,
)


class GaussianMixtureEstimator(DensityMixin, BaseEstimator):
    """A drop-in for scikit-learn's `GaussianMixture`, on JAX's devices.

    float64 data (and integers) are computed in float64, float32 data in float32. Parameters take
    what scikit-learn's take, numbers of NumPy too, and are checked by its rules when it is fitted.

    Args:
        n_components: K.
        covariance_type: `full`, `tied`, `diag`, `spherical` or `low_rank`.
        rank: free directions of `low_rank`.
        shrinkage: `none` or `ledoit_wolf`.
        tol: EM has converged when the mean log-likelihood gains less.
        reg_covar: added to the diagonal of the covariances; None: relative to the data, see `fit`.
        max_iter: EM iterations of each start.
        n_init: starts.
        means_init: [K, D] to start from.
        random_state: seed.

    Attributes:
        mixture_: the fitted pytree.
        weights_, means_, covariances_: its arrays, shapes as scikit-learn's.
        converged_, n_iter_, lower_bound_: of EM; warnings_: what `fit` found doubtful.
    """

    # What scikit-learn checks parameters by; third parties' estimators declare theirs so, too.
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions(set(COVARIANCE_TYPES))],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [StrOptions(set(SHRINKAGES))],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="left"), None],
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "means_init": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        covariance_type: str = "full",
        rank: int = 1,
        shrinkage: str = "none",
        tol: float = 1e-3,
        reg_covar: float | None = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        means_init: Any = None,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.rank = rank
        self.shrinkage = shrinkage
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.means_init = means_init
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "GaussianMixtureEstimator":
        """Fits the mixture to rows X [N, D].

        Raises:
            ValueError: a parameter or the rows do not fit.
        """
        self._validate_params()
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        with jax.enable_x64(True):
            result = fit(
                jax.random.key(seed),
                X,
                self.n_components,
                self.covariance_type,
                rank=self.rank if self.covariance_type == "low_rank" else 0,
                shrinkage=self.shrinkage,
                means=self._means_to_start_from(X),
                n_init=self.n_init,
                max_iters=self.max_iter,
                tol=self.tol,
                reg_covar=self.reg_covar,
            )
            self.mixture_ = jax.tree.map(np.asarray, result.gmm)
            self.weights_, self.means_ = self.mixture_.weights, self.mixture_.means
            self.covariances_ = np.asarray(result.gmm.covariances)
        self.converged_, self.n_iter_ = result.converged, len(result.history)
        self.lower_bound_ = result.log_likelihood
        self.warnings_ = result.warnings
        if not result.converged and self.max_iter > 0:
            warnings.warn(
                f"EM did not converge in {self.max_iter} iterations: raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _means_to_start_from(self, X: np.ndarray) -> np.ndarray | None:
        if self.means_init is None:
            return None
        means = np.asarray(check_array(self.means_init, dtype=X.dtype, ensure_2d=False))
        shape = (self.n_components, X.shape[1])
        if means.shape != shape:
            raise ValueError(
                f"The parameter 'means_init' should have the shape of {shape}, but got "
                f"{means.shape}"
            )
        return means

    def _apply(self, function: Any, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        with jax.enable_x64(True):
            return np.asarray(function(self.mixture_, X))

    def score_samples(self, X: Any) -> np.ndarray:
        """Log-density of every row, [N]."""
        return self._apply(log_density, X)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log-density of the rows."""
        return float(self.score_samples(X).mean())

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each component given the row, [N, K]."""
        return self._apply(responsibilities, X)

    def predict(self, X: Any) -> np.ndarray:
        """Most probable component of every row, [N]."""
        result: np.ndarray = self.predict_proba(X).argmax(axis=1)
        return result

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fits, then predicts the same rows."""
        return self.fit(X).predict(X)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion; smaller is better."""
        return self._criterion("bic", X)

    def aic(self, X: Any) -> float:
        """Akaike's information criterion; smaller is better."""
        return self._criterion("aic", X)

    def _criterion(self, name: str, X: Any) -> float:
        densities = self.score_samples(X)
        return information_criterion(name, densities.sum(), self.mixture_, len(densities))

    def sample(self, n_samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Draws rows [n, D] and their components [n], as scikit-learn does.

        Raises:
            ValueError: none is asked for.
        """
        check_is_fitted(self)
        n_samples = operator.index(n_samples)
        if n_samples < 1:
            raise ValueError(
                f"Invalid value for 'n_samples': {n_samples}. The sampling requires at least one "
                "sample."
            )
        model = to_sklearn(self.mixture_).set_params(random_state=self.random_state)
        rows, labels = model.sample(n_samples)
        return rows, labels


def from_sklearn(model: SklearnMixture) -> GaussianMixture:
    """The mixture of a fitted `sklearn.mixture.GaussianMixture`, in its precision.

    Raises:
        NotFittedError: it is not fitted.
    """
    check_is_fitted(model)
    arrays = {
        "weights": model.weights_,
        "means": model.means_,
        "precisions_cholesky": model.precisions_cholesky_,
    }
    return GaussianMixture.from_arrays(arrays, model.covariance_type)


def to_sklearn(gmm: GaussianMixture) -> SklearnMixture:
    """A fitted `sklearn.mixture.GaussianMixture`; `low_rank` covariances become `full` ones."""
    with jax.enable_x64(True):
        gmm = jax.tree.map(lambda a: np.asarray(a, np.float64), gmm)
        covariances, own = np.asarray(gmm.covariances), gmm.covariance.in_sklearn()
    kind, factors = own.name, np.asarray(own.precisions_cholesky)  # type: ignore[attr-defined]
    model = SklearnMixture(len(gmm.weights), covariance_type=kind)
    model.weights_, model.means_ = np.asarray(gmm.weights), np.asarray(gmm.means)
    model.covariances_, model.precisions_cholesky_ = covariances, factors
    matrices = kind in ("full", "tied")
    model.precisions_ = np.asarray(factors @ factors.swapaxes(-1, -2) if matrices else factors**2)
    model.converged_, model.n_iter_, model.lower_bound_ = True, 0, float("nan")
    model.n_features_in_ = gmm.means.shape[1]
    return model
