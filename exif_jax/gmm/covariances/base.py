"""What a kind of covariance owns: everything that the rest of the package asks of it.

Shapes: N rows, D columns, K components, R directions of a low rank. A scatter holds second moments
of weighted rows in the kind's own shape; taken about the means before the M-step, so that nothing
large is subtracted from something large.
"""

import abc
from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

Shape = tuple[int, ...]
# Linear maps of rows: any, one factor a column, one factor for all.
Maps = Literal["any", "columns", "uniform"]
Estimate = tuple["Covariances", Array, Array]


class Sums(NamedTuple):
    """What covariances are estimated from, of all components or of one.

    Attributes:
        scatter: about the new means.
        counts: weights of the components, positive, [K].
        fourth: fourth moments of the distances from the means, [K]; used with shrinkage only.
        regulariser: added, see `Covariances.keeps`.
        rank: R.
        shrinkage: one of the `SHRINKAGES`.
    """

    scatter: Array
    counts: Array
    fourth: Array
    regulariser: Array
    rank: int = 0
    shrinkage: str = "none"


class Covariances(abc.ABC):
    """Covariances of a mixture: a pytree whose fields are the arrays that are stored.

    Their first axis is that of the components, unless these share one covariance. A kind says what
    one covariance does; this class does it for all.

    Attributes:
        name: of the kind, the `covariance_type` of a fit.
        keeps: the maps of rows that leave a mixture of this kind. The working coordinates of EM
            differ from the data's by one of them, and what regularises is a matrix [D, D], a
            diagonal [D], or a multiple [] of the identity.
        has_rank: whether `rank` means something.
        shrinks: whether shrinkage means something.
        shared: whether all components have one covariance.
    """

    name: ClassVar[str]
    keeps: ClassVar[Maps]
    has_rank: ClassVar[bool] = False
    shrinks: ClassVar[bool] = False
    shared: ClassVar[bool] = False

    @staticmethod
    @abc.abstractmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the arrays; those `found` in a file say what only they can, as a rank."""

    @staticmethod
    @abc.abstractmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """Free parameters of all covariances."""

    @property
    def rank(self) -> int:
        """R."""
        return 0

    @abc.abstractmethod
    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> "Covariances":
        """Covariances of x from those of z = (x / scale) @ upper, float64 on the host."""

    def in_sklearn(self) -> "Covariances":
        """The same covariances in a kind that scikit-learn has, with `precisions_cholesky`."""
        return self

    # One covariance

    @abc.abstractmethod
    def squared_norms(self, centred_ND: Array) -> Array:
        """Squared Mahalanobis distances of rows from zero, [N]."""

    @abc.abstractmethod
    def log_determinant(self, columns: int) -> Array:
        """Logarithm of the determinant, []."""

    @abc.abstractmethod
    def matrix(self) -> Array:
        """In scikit-learn's shape: [D, D], variances [D] or a variance []."""

    @staticmethod
    @abc.abstractmethod
    def scatter_of_one(x_ND: Array, weights_N: Array, mean_D: Array, tile: int) -> Array:
        """Scatter of weighted rows about a mean; `tile` as in `linalg.scatter`."""

    @classmethod
    @abc.abstractmethod
    def estimate_one(cls, sums: Sums) -> Estimate:
        """A covariance, the jitter that it needed (0 as a rule), the share of shrinkage."""

    # Those of all components

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances of rows from means, [N, K]."""

        def from_mean(part: tuple[Array, Covariances]) -> Array:
            mean, own = part
            return (self if self.shared else own).squared_norms(x_ND - mean[None])

        # One component at a time: K times less memory than all at once.
        return lax.map(from_mean, (means_KD, None if self.shared else self)).T

    def log_determinants(self, columns: int) -> Array:
        """Logarithms of the determinants, [K], or [1] if shared."""
        if self.shared:
            return self.log_determinant(columns)[None]
        return jax.vmap(lambda own: own.log_determinant(columns))(self)

    @property
    def matrices(self) -> Array:
        """The covariances, in scikit-learn's shape."""
        return self.matrix() if self.shared else jax.vmap(lambda own: own.matrix())(self)

    @classmethod
    def scatter(cls, x_ND: Array, weights_NK: Array, means_KD: Array, tile: int) -> Array:
        """Scatter of rows about the means, weighted by (weighted) responsibilities."""

        def of_one(part: tuple[Array, Array]) -> Array:
            weights, mean = part
            return cls.scatter_of_one(x_ND, weights, mean, tile)

        parts: Array = lax.map(of_one, (weights_NK.T, means_KD))
        return parts.sum(axis=0) if cls.shared else parts

    @classmethod
    def estimate(cls, sums: Sums) -> Estimate:
        """Covariances, the jitter that each needed [K], the shares of shrinkage [K]."""
        if not cls.shared:

            def of_one(part: tuple[Array, Array, Array]) -> Estimate:
                scatter, count, fourth = part
                return cls.estimate_one(sums._replace(scatter=scatter, counts=count, fourth=fourth))

            found: Estimate = lax.map(of_one, (sums.scatter, sums.counts, sums.fourth))
            return found
        one = sums._replace(counts=sums.counts.sum(), fourth=sums.fourth.sum())
        covariance, *numbers = cls.estimate_one(one)
        jitter, share = (number + jnp.zeros_like(sums.counts) for number in numbers)
        return covariance, jitter, share
