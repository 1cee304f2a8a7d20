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


@dataclasses.dataclass(frozen=True)
class Moments:
    """Weighted moments of rows, float64.

    Attributes:
        rows: of positive weight.
        weight: their sum of weights.
        mean: [D].
        scatter: sum of weight (x - mean)(x - mean)^T, [D, D]; its diagonal [D] if that is all that
            was asked for.
    """

    rows: int
    weight: float
    mean: np.ndarray
    scatter: np.ndarray

    def merge(self, other: "Moments") -> "Moments":
        """Moments of the rows of both (Chan, Golub & LeVeque 1983)."""
        weight = self.weight + other.weight
        difference = other.mean - self.mean
        between = self.weight * other.weight / weight
        square = np.outer(difference, difference) if self.scatter.ndim == 2 else difference**2
        return Moments(
            self.rows + other.rows,
            weight,
            self.mean + difference * (other.weight / weight),
            self.scatter + other.scatter + between * square,
        )


def moments_of(
    x: np.ndarray, weights: np.ndarray, matrix: bool, before: Moments | None = None
) -> Moments | None:
    """Moments of rows [N, D] with weights [N] and those before; None if all weights are zero."""
    result = before
    for start in range(0, len(x), _BLOCK):
        block, w = x[start : start + _BLOCK], weights[start : start + _BLOCK]
        used = w > 0
        if not used.any():
            continue
        block, w = np.asarray(block[used], np.float64), np.asarray(w[used], np.float64)
        mean = w @ block / w.sum()
        centred = (block - mean) * np.sqrt(w)[:, None]
        scatter = centred.T @ centred if matrix else np.square(centred).sum(axis=0)
        part = Moments(len(block), float(w.sum()), mean, scatter)
        result = part if result is None else result.merge(part)
    return result


def of_all_processes(moments: Moments | None, mesh: Mesh) -> Moments:
    """Moments of the rows of every process of the mesh, from each one's own.

    Raises:
        ValueError: no process has a row of positive weight.
    """
    every = gather({} if moments is None else vars(moments), mesh)
    parts = [
        Moments(int(p["rows"]), float(p["weight"]), p["mean"], p["scatter"]) for p in every if p
    ]
    if not parts:
        raise ValueError("every row is masked: no row has a weight greater than zero")
    return functools.reduce(Moments.merge, parts)


def needs_matrix(structure: Structure) -> bool:
    """Whether the frame of such covariances whitens, for which all second moments are needed."""
    return structure.keeps == "any"


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
        variances = diagonal / moments.weight
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
        if not needs_matrix(structure):
            match structure.kind.keeps:
                case "any":
                    regulariser = np.diag(regulariser)
                case "uniform":
                    regulariser = regulariser[0]
            return cls(moments.mean, scale, None, regulariser)
        covariance = moments.scatter / moments.weight / np.outer(scale, scale)
        lower = _cholesky(covariance + np.diag(regulariser))
        upper = np.linalg.inv(lower).T
        upper = np.triu(upper)
        return cls(moments.mean, scale, upper, upper.T @ (regulariser[:, None] * upper))

    @property
    def log_scale(self) -> float:
        """Log |dz/dx|: what a log-density in z needs to become one in x, in nats."""
        stretch = 0.0 if self.upper is None else float(np.log(np.diagonal(self.upper)).sum())
        return stretch - float(np.log(self.scale).sum())

    @property
    def fingerprint(self) -> str:
        """Changes with the data and the regularisation."""
        parts = [a for a in (self.mean, self.scale, self.upper, self.regulariser) if a is not None]
        return hashlib.sha256(b"".join(a.tobytes() for a in parts)).hexdigest()[:16]

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
