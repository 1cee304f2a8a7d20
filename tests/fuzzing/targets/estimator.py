"""Parameters and rows of the mixture's estimator: numbers of every kind, also of NumPy."""

import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from sklearn.exceptions import NotFittedError

from exif_jax.gmm.estimator import GaussianMixtureEstimator
from tests.fuzzing.target import Case, FoundError, Target

ROWS: np.ndarray = np.random.default_rng(0).normal(size=(12, 3))
VALUES: dict[str, Any] = {
    **{str(x): x for x in (0, 1, 2, 3, -1, 13, 10**30, 0.0, 0.5, 1e-300, 1e300, True, False, None)},
    **{str(x): float(x) for x in ("nan", "inf", "-inf")},
    **{f"np.{type(x).__name__}({x})": x for x in (np.int64(2), np.uint8(1), np.float32(1e-3))},
    **{
        f"np.{type(x).__name__}({x})": x
        for x in (np.float64("nan"), np.bool_(True), np.str_("full"))
    },
    **{x: x for x in ("full", "tied", "diag", "spherical", "low_rank", "none", "ledoit_wolf", "")},
    **{"2/1": Fraction(2), "1j": 1j, "b": b"full", "[]": [], "{}": {}, "[1]": np.ones(1)},
    "means": ROWS[:2],
    "means of text": [["a", "b", "c"]],
    "means with nan": np.full((1, 3), np.nan),
    "RandomState": np.random.RandomState(0),
    "Generator": np.random.default_rng(0),
}
_ROWS: dict[str, Any] = {
    "healthy": ROWS,
    "one row": ROWS[:1],
    "none": ROWS[:0],
    "no columns": ROWS[:, :0],
    "one column": ROWS[:, :1],
    "nan": np.full((4, 3), np.nan),
    "inf": np.where(ROWS > 1, np.inf, ROWS),
    "huge": ROWS * 1e200,
    "tiny": ROWS * 1e-200,
    "equal": np.ones((6, 3)),
    "integers": ROWS.astype(np.int32),
    "float16": ROWS.astype(np.float16),
    "float32": ROWS.astype(np.float32),
    "flat": ROWS.ravel(),
    "texts": [["a", "b"], ["c", "d"]],
    "complex": ROWS + 1j,
    "lists": ROWS.tolist(),
    "ragged": [[1.0], [1.0, 2.0]],
}
_NAMES = tuple(GaussianMixtureEstimator._parameter_constraints)


def make(rng: Generator) -> Case:
    """One to three parameters, and rows that are mostly healthy."""
    names = rng.choice(_NAMES, int(rng.choice([1, 1, 2, 3])), replace=False).tolist()
    values = list(VALUES)
    case = {name: values[int(rng.integers(len(values)))].encode() for name in names}
    rows = list(_ROWS)[int(rng.integers(len(_ROWS)))] if rng.integers(2) else "healthy"
    return {**case, "rows": rows.encode()}


def run(case: Case, folder: Path) -> str:
    """Fits, scores and samples: either all of it, or a ValueError (or TypeError) that says why."""
    given = {k: VALUES[v.decode()] for k, v in case.items() if k != "rows"}
    rows = _ROWS.get(case.get("rows", b"").decode(), ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge, or that rows are few
        try:
            model = GaussianMixtureEstimator(**{"max_iter": 3, **given}).fit(rows)
        except (ValueError, TypeError) as error:
            if isinstance(error.__context__, Exception) and not str(error):
                raise
            if "array" not in str(error) and len(str(error)) > 1000:
                raise FoundError(f"a long message: {error}") from error
            return f"refused: {type(error).__name__}"
        try:
            scores = model.score_samples(rows)
            labels = model.predict(rows)
            model.bic(rows), model.aic(rows), model.sample(2)
        except NotFittedError as error:
            raise FoundError("fitted, and not fitted") from error
    if not np.isfinite(scores).all() or not np.isfinite(model.means_).all():
        raise FoundError("numbers: scores or means are not finite")
    assert labels.shape == (len(rows),)
    return "fitted"


TARGET = Target(make, run, cases=30)
