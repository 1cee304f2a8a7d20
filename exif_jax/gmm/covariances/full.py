"""Any covariance, one a component."""

from collections.abc import Mapping

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from exif_jax.gmm import linalg
from exif_jax.gmm.covariances.base import Covariances, Estimate, Shape, Sums
from exif_jax.gmm.covariances.shrinkage import ledoit_wolf


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

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the factors."""
        return {"precisions_cholesky": (components, columns, columns)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """Of K symmetric matrices."""
        return components * columns * (columns + 1) // 2

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """A product of triangular factors."""
        factor = np.asarray(self.precisions_cholesky)
        factor = factor if upper_DD is None else upper_DD @ factor
        return type(self)(factor / scale_D[:, None])

    def squared_norms(self, centred_ND: Array) -> Array:
        """Of rows times the factor."""
        return linalg.squared_norms(centred_ND, self.precisions_cholesky)

    def log_determinant(self, columns: int) -> Array:
        """From the diagonal of the factor."""
        return -2 * jnp.log(jnp.diagonal(self.precisions_cholesky)).sum()

    def matrix(self) -> Array:
        """[D, D]."""
        inverse = linalg.inverse_transpose(self.precisions_cholesky.T)  # U^-1: upper
        return linalg.dot(inverse.T, inverse)

    @staticmethod
    def scatter_of_one(x_ND: Array, weights_N: Array, mean_D: Array, tile: int) -> Array:
        """[D, D]."""
        return linalg.scatter(x_ND, weights_N, mean_D, tile)

    @classmethod
    def estimate_one(cls, sums: Sums) -> Estimate:
        """The factor of the inverse covariance."""
        covariance = sums.scatter / sums.counts
        share = jnp.zeros_like(sums.counts)
        if sums.shrinkage == "ledoit_wolf":
            covariance, share = ledoit_wolf(covariance, sums.fourth, sums.counts)
        lower, jitter = linalg.safe_cholesky(covariance + sums.regulariser)
        return cls(linalg.inverse_transpose(lower)), jitter, share
