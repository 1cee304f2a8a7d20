"""What the benchmark of mixtures fits: simulated data, and scikit-learn from a given start."""

import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

# Some fits are of so few iterations that none converges.
warnings.filterwarnings("ignore", category=ConvergenceWarning)

COMPONENTS = 5
REFERENCE = "scikit-learn float64"
REG_COVAR = 1e-6  # scikit-learn's default; the columns' mean variance is one
WRONG = 0.1  # share of rows that start in a wrong component
_DISTANCE = 0.7  # of the centres, against noise of one, in every latent direction
_DECADES = 3  # over which the latent directions' deviations spread
_CHUNK = 8192  # rows drawn at once


def _fill(x: np.ndarray) -> np.ndarray:
    """Writes simulated rows [n, columns], one chunk in memory at a time; returns their components.

    Five far components, so that responsibilities are nearly one-hot, seen through a random matrix
    that makes the columns correlated and ill-conditioned, like the features of a network. More rows
    only add to fewer.
    """
    rng, columns = np.random.default_rng(0), x.shape[1]
    centres = _DISTANCE * rng.normal(size=(COMPONENTS, columns))
    deviations = 10 ** rng.uniform(-_DECADES, 0, size=columns)
    mixing = rng.normal(size=(columns, columns)) * deviations
    mixing /= np.sqrt(columns * (1 + _DISTANCE**2) * np.square(mixing).mean())
    components = []
    for number, start in enumerate(range(0, len(x), _CHUNK)):
        rng = np.random.default_rng([1, number])
        labels = rng.integers(COMPONENTS, size=_CHUNK)
        rows = (rng.normal(size=(_CHUNK, columns)) + centres[labels]) @ mixing.T
        x[start : start + _CHUNK] = rows[: len(x) - start]
        components.append(labels)
    return np.concatenate(components)[: len(x)]


def simulate(rows: int, columns: int, dtype: Any = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Simulated rows [N, D] and responsibilities to start from, one-hot [N, K]."""
    x = np.empty((rows, columns), dtype)
    labels = _fill(x)
    rng = np.random.default_rng(2)
    other = (labels + rng.integers(1, COMPONENTS, size=rows)) % COMPONENTS
    return x, np.eye(COMPONENTS)[np.where(rng.random(rows) < WRONG, other, labels)]


def write_simulated(path: Path, rows: int, columns: int) -> None:
    """The same rows as a float32 file of NumPy's."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (rows, columns))
    _fill(file)
    file.flush()


class SklearnMixture(GaussianMixture):
    """scikit-learn's mixture, started from responsibilities."""

    @classmethod
    def from_start(cls, responsibilities: np.ndarray, **options: Any) -> "SklearnMixture":
        """Not yet fitted."""
        model = cls(COMPONENTS, reg_covar=REG_COVAR, **options)
        model.responsibilities = responsibilities
        return model

    def _initialize_parameters(self, X: np.ndarray, random_state: Any, xp: Any = None) -> None:
        self._initialize(X, self.responsibilities.astype(X.dtype), xp=xp)


def precisions() -> tuple[str, ...]:
    """Of our programs."""
    return ("float32",) if jax.default_backend() == "tpu" else ("float64", "float32")
