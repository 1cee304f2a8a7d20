"""What a kind of covariance owns: everything that the rest of the package asks of it.

Shapes: N rows, D columns, K components, R directions of a low rank. A scatter holds second moments
of weighted rows in the kind's own shape; taken about the means before the M-step, so that nothing
large is subtracted from something large.
"""

import abc
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jax import Array, lax

Shape = tuple[int, ...]
# Linear maps of rows: any, one factor a column, one factor for all.
Maps = Literal["any", "columns", "uniform"]
Estimate = tuple["Covariances", Array, Array]


class Sums(NamedTuple):
    """What covariances are estimated from.

    Attributes:
        scatter: about the new means.
        counts: weights of the components, positive, [K].
        fourth: fourth moments of the distances from the means, [K]; used with shrinkage only.
        regulariser: added, see `Covariances.keeps`.
        rank: R.
        shrinkage: name of one of the `METHODS`.
    """

    scatter: Array
    counts: Array
    fourth: Array
    regulariser: Array
    rank: int = 0
    shrinkage: str = "none"


class Covariances(abc.ABC):
    """Covariances of a mixture: a pytree whose fields are the arrays that are stored.

    Attributes:
        name: of the kind, the `covariance_type` of a fit.
        keeps: the maps of rows that leave a mixture of this kind. The working coordinates of EM
            differ from the data's by one of them, and what regularises is a matrix [D, D], a
            diagonal [D], or a multiple [] of the identity.
        has_rank: whether `rank` means something.
        shrinks: whether shrinkage means something.
        shared: whether all components have one covariance.
        own_matrices: whether a component of no more rows than columns is singular.
    """

    name: ClassVar[str]
    keeps: ClassVar[Maps]
    has_rank: ClassVar[bool] = False
    shrinks: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    own_matrices: ClassVar[bool] = False

    # Shapes

    @staticmethod
    @abc.abstractmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the arrays; those `found` in a file say what only they can, as a rank."""

    @staticmethod
    @abc.abstractmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """Free parameters."""

    @property
    def rank(self) -> int:
        """R."""
        return 0

    # Density and samples

    @abc.abstractmethod
    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances of rows from means, [N, K]."""

    @abc.abstractmethod
    def log_determinants(self, columns: int) -> Array:
        """Logarithms of the determinants of the covariances, [K] or [1] if shared."""

    @abc.abstractmethod
    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D] of covariance `labels_N` from rows of independent unit variance."""

    # E-step and M-step

    @staticmethod
    @abc.abstractmethod
    def scatter(x_ND: Array, weights_NK: Array, means_KD: Array, tile: int) -> Array:
        """Scatter of rows about the means, weighted by (weighted) responsibilities."""

    @classmethod
    @abc.abstractmethod
    def estimate(cls, sums: Sums) -> Estimate:
        """Covariances, the jitter that factorising needed [K] (0 as a rule), shrinkage [K]."""

    # Working coordinates, on the host

    @abc.abstractmethod
    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> "Covariances":
        """Covariances of x from those of z = (x / scale) @ upper, float64."""

    # scikit-learn

    @property
    @abc.abstractmethod
    def matrices(self) -> Array:
        """The covariances, in scikit-learn's shape."""

    def in_sklearn(self) -> "Covariances":
        """The same covariances in a kind that scikit-learn has, with `precisions_cholesky`."""
        return self


def over_components(function: Callable[..., Array], *arrays: Array) -> Array:
    """Maps over the first axes, one component at a time: K times less memory than all at once."""
    return lax.map(lambda slices: function(*slices), arrays)
