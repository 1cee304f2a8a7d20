"""Any covariance, one a component."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from exif_jax.gmm import linalg
from exif_jax.gmm.covariances.base import (
    Covariances,
    Estimate,
    Shape,
    Sums,
    over_components,
)
from exif_jax.gmm.covariances.shrinkage import METHODS


@flax.struct.dataclass
class Full(Covariances):
    """One covariance a component.

    Attributes:
        precisions_cholesky: [K, D, D], upper triangular U with inverse covariance U U^T.
    """

    precisions_cholesky: Array

    name = "full"
    keeps = "any"
    shrinks = True
    own_matrices = True

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the factors."""
        return {"precisions_cholesky": (components, columns, columns)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """K symmetric matrices."""
        return components * columns * (columns + 1) // 2

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """[N, K]."""
        return over_components(
            lambda mean, upper: linalg.squared_norms(x_ND - mean[None], upper),
            means_KD,
            self.precisions_cholesky,
        ).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        diagonals = jnp.diagonal(self.precisions_cholesky, axis1=1, axis2=2)
        return -2 * jnp.log(diagonals).sum(axis=1)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        factors = jax.vmap(linalg.inverse_transpose)(self.precisions_cholesky.mT)  # U^-1: upper
        return jnp.einsum("nd,nde->ne", noise_ND, factors[labels_N])

    @staticmethod
    def scatter(x_ND: Array, weights_NK: Array, means_KD: Array, tile: int) -> Array:
        """[K, D, D]."""
        return over_components(
            lambda weights, mean: linalg.scatter(x_ND, weights, mean, tile), weights_NK.T, means_KD
        )

    @classmethod
    def estimate(cls, sums: Sums) -> Estimate:
        """Factors of every covariance."""
        upper, jitter, share = lax.map(
            lambda part: factored(sums, *part), (sums.scatter, sums.counts, sums.fourth)
        )
        return cls(upper), jitter, share

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Factors of the rows, too, are products of triangular ones."""
        factor = np.asarray(self.precisions_cholesky)
        factor = factor if upper_DD is None else upper_DD @ factor
        return type(self)(factor / scale_D[:, None])

    @property
    def matrices(self) -> Array:
        """[K, D, D]."""
        inverse = jax.vmap(linalg.inverse_transpose)(self.precisions_cholesky.mT)
        return linalg.dot(inverse.mT, inverse)


def factored(
    sums: Sums, scatter_DD: Array, count: Array, fourth: Array
) -> tuple[Array, Array, Array]:
    """Factor of the inverse of one covariance, its jitter and its share of shrinkage."""
    covariance, share = METHODS[sums.shrinkage](scatter_DD / count, fourth, count)
    lower, jitter = linalg.safe_cholesky(covariance + sums.regulariser)
    return linalg.inverse_transpose(lower), jitter, share
