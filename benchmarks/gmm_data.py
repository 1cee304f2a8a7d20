"""What the benchmark of mixtures fits: simulated data, and scikit-learn from a given start."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

COMPONENTS = 5
REFERENCE = "scikit-learn float64"
MOST_ROWS = 100_000  # for scikit-learn and for float64
REG_COVAR = 1e-6  # scikit-learn's default; the columns' mean variance is one
WRONG = 0.1  # share of rows that start in a wrong component
_DISTANCE = 0.7  # of the centres, against noise of one, in every latent direction
_DECADES = 3  # over which the latent directions' deviations spread
_CHUNK = 8192  # rows drawn at once


def _chunks(rows: int, columns: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Simulated rows [n, columns], float64, and their components [n]; more rows only add to them.

    Five far components, so that responsibilities are nearly one-hot, seen through a random matrix
    that makes the columns correlated and ill-conditioned, like the features of a network.
    """
    rng = np.random.default_rng(0)
    centres = _DISTANCE * rng.normal(size=(COMPONENTS, columns))
    deviations = 10 ** rng.uniform(-_DECADES, 0, size=columns)
    mixing = rng.normal(size=(columns, columns)) * deviations
    mixing /= np.sqrt(columns * (1 + _DISTANCE**2) * np.square(mixing).mean())
    for number, start in enumerate(range(0, rows, _CHUNK)):
        rng = np.random.default_rng([1, number])
        labels = rng.integers(COMPONENTS, size=_CHUNK)
        x = (rng.normal(size=(_CHUNK, columns)) + centres[labels]) @ mixing.T
        yield x[: rows - start], labels[: rows - start]


def _fill(x: np.ndarray) -> np.ndarray:
    """Writes simulated rows into an array, one chunk in memory at a time; their components."""
    labels, done = np.empty(len(x), int), 0
    for part, of_part in _chunks(*x.shape):
        end = done + len(part)
        x[done:end], labels[done:end], done = part, of_part, end
    return labels


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

    def quiet_fit(self, x: np.ndarray) -> "SklearnMixture":
        """Fits; says nothing if the iterations end before convergence."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.fit(x)
        return self


def precisions(rows: int) -> tuple[str, ...]:
    """Of our programs, for so many rows."""
    double = rows <= MOST_ROWS and jax.default_backend() != "tpu"
    return ("float64", "float32") if double else ("float32",)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """JAX as a user of this precision has it."""
    with jax.enable_x64(dtype == "float64"):
        yield
