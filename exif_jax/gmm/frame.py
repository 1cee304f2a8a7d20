"""Working coordinates: the data centred, scaled and, for general covariances, whitened.

EM in these coordinates is EM in the original ones (the models are equivariant), but its matrices
are well conditioned: that is what makes float32 safe. The moments that define them are summed in
float64 on the host, in one pass over the data, which also checks it.
"""

import dataclasses
import functools
import hashlib
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.rows import gather

RELATIVE_REGULARISATION = 1e-6
_MOST_TRIES = 20  # tenfold steps of jitter
_BLOCK = 8192  # rows copied to float64 at once
# Of moments, in standard deviations: one row among a billion matters more. What whitens follows
# from them by an inverse, which makes a thousand times as much of it.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Moments:
    """Moments of rows, float64.

    Attributes:
        rows: number of them.
        mean: [D].
        scatter: sum of (x - mean)(x - mean)^T, [D, D]; its diagonal [D] if that is all that was
            asked for.
    """

    rows: int
    mean: np.ndarray
    scatter: np.ndarray

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the rows of both (Chan, Golub & LeVeque 1983)."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        rows = self.rows + other.rows
        difference = other.mean - self.mean
        between = self.rows * other.rows / rows
        square = np.outer(difference, difference) if self.scatter.ndim == 2 else difference**2
        mean = self.mean + difference * (other.rows / rows)
        return Moments(rows, mean, self.scatter + other.scatter + between * square)

    def over_processes(self, mesh: Mesh) -> "Moments":
        """Moments of the rows of every process of the mesh."""
        every = gather(vars(self), mesh)
        parts = [Moments(int(part["rows"]), part["mean"], part["scatter"]) for part in every]
        return functools.reduce(Moments.merge, parts)


def moments_of(x: np.ndarray, matrix: bool, before: Moments | None = None) -> Moments:
    """Moments of rows [N, D] and those before; blocks follow each other as if all were one x."""
    if before is None and not len(x):
        zeros = np.zeros(x.shape[1])
        return Moments(0, zeros, np.diag(zeros) if matrix else zeros)
    for start in range(0, len(x), _BLOCK):
        block = np.asarray(x[start : start + _BLOCK], np.float64)
        mean = np.ones(len(block)) @ block / len(block)
        centred = block - mean
        scatter = centred.T @ centred if matrix else np.square(centred).sum(axis=0)
        part = Moments(len(block), mean, scatter)
        before = part if before is None else before.merge(part)
    assert before is not None
    return before


@dataclasses.dataclass(frozen=True)
class Frame:
    """z = ((x - mean) / scale) @ upper.

    Attributes:
        mean: [D], float64.
        scale: [D], positive.
        upper: [D, D], upper triangular, or None for the identity.
        regulariser: what `reg_covar` is in these coordinates, [D, D], [D] or [].
    """

    mean: np.ndarray
    scale: np.ndarray
    upper: np.ndarray | None
    regulariser: np.ndarray

    @classmethod
    def of(cls, moments: Moments, structure: Structure, reg_covar: float | None) -> "Frame":
        """The frame for data of these moments.

        Columns are scaled each on its own where the model does not change by that, all alike where
        it would, and whitened where even that leaves it as it is.
        """
        diagonal = moments.scatter.diagonal() if moments.scatter.ndim == 2 else moments.scatter
        variances = diagonal / moments.rows
        # Rounding alone gives constant columns a variance; they are left as they are.
        constant = variances <= np.square(16 * np.finfo(np.float64).eps * np.abs(moments.mean))
        deviations = np.sqrt(np.where(constant, 0, variances))
        if structure.keeps == "uniform":
            deviations = np.full_like(deviations, np.sqrt(np.square(deviations).mean()))
        scale = np.where(deviations > 0, deviations, 1)
        if reg_covar is None:
            regulariser = np.full_like(scale, RELATIVE_REGULARISATION)
        else:
            regulariser = reg_covar / np.square(scale)
        if structure.keeps != "any":
            match structure.kind.keeps:
                case "any":
                    regulariser = np.diag(regulariser)
                case "uniform":
                    regulariser = regulariser[0]
            return cls(moments.mean, scale, None, regulariser)
        covariance = moments.scatter / moments.rows / np.outer(scale, scale)
        lower = _cholesky(covariance + np.diag(regulariser))
        upper = np.triu(np.linalg.inv(lower).T)
        return cls(moments.mean, scale, upper, upper.T @ (regulariser[:, None] * upper))

    @property
    def log_scale(self) -> float:
        """Log |dz/dx|: what a log-density in z needs to become one in x, in nats."""
        stretch = 0.0 if self.upper is None else float(np.log(np.diagonal(self.upper)).sum())
        return stretch - float(np.log(self.scale).sum())

    @property
    def _moments(self) -> tuple[np.ndarray, ...]:
        return self.mean, self.scale, self.regulariser

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name, for storage."""
        return {name: a for name, a in vars(self).items() if a is not None}

    @property
    def fingerprint(self) -> str:
        """Changes with the data and the regularisation."""
        parts = [a for a in (self.mean, self.scale, self.upper, self.regulariser) if a is not None]
        return hashlib.sha256(b"".join(a.tobytes() for a in parts)).hexdigest()[:16]

    def is_near(self, other: "Frame") -> bool:
        """Whether both are of the same data and regularisation, but for rounding.

        Moments are summed in another order by another number of processes.
        """
        if any(a.shape != b.shape for a, b in zip(self._moments, other._moments, strict=True)):
            return False
        shift = np.abs(self.mean - other.mean) / other.scale
        stretch = np.abs(self.scale / other.scale - 1)
        regulariser = np.abs(self.regulariser - other.regulariser).max()
        return bool(
            max(shift.max(), stretch.max()) < _ROUNDING
            and regulariser <= 1e3 * _ROUNDING * np.abs(other.regulariser).max()
        )

    def centred(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """(x - mean) / scale, the difference taken in float64; `upper` is left to the device."""
        result = np.empty(x.shape, dtype)
        for start in range(0, len(x), _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block] = (np.asarray(x[block], np.float64) - self.mean) / self.scale
        return result

    def outward(self, gmm: GaussianMixture) -> GaussianMixture:
        """The mixture of x whose image is the given mixture of z; computed in float64."""
        dtype = gmm.means.dtype
        means = np.asarray(gmm.means, np.float64)
        if self.upper is not None:
            means = np.linalg.solve(self.upper.T, means.T).T
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), gmm.covariance)
        covariance = wide.outward(self.scale, self.upper)
        centres: Any = self.mean + self.scale * means
        outer = GaussianMixture(gmm.weights, centres, covariance)
        narrow: GaussianMixture = jax.tree.map(lambda a: a.astype(dtype), outer)
        return narrow


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower factor; where the data leave directions empty, they get a share of rounding noise."""
    noise = 0.0
    for _ in range(_MOST_TRIES):
        try:
            return np.linalg.cholesky(matrix + noise * np.eye(len(matrix)))
        except np.linalg.LinAlgError:
            noise = max(10 * noise, len(matrix) * float(np.finfo(np.float64).eps))
    raise ValueError("the covariance of the data cannot be factorised: are values near overflow?")
