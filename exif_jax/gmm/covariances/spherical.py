"""The same variance in every direction."""

from collections.abc import Mapping

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from exif_jax.gmm.covariances.base import Covariances, Estimate, Shape, Sums
from exif_jax.gmm.covariances.diagonal import Diagonal
from exif_jax.gmm.linalg import positive


@flax.struct.dataclass
class Spherical(Diagonal):
    """A multiple of the identity in every component.

    Attributes:
        precisions_cholesky: [K], reciprocal standard deviations.
    """

    name = "spherical"
    keeps = "uniform"

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the deviations."""
        return {"precisions_cholesky": (components,)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """K variances."""
        return components

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        return -2 * columns * jnp.log(self.precisions_cholesky)

    @classmethod
    def estimate(cls, sums: Sums) -> Estimate:
        """Deviations, none of them zero."""
        variances = (sums.scatter / sums.counts[:, None]).mean(axis=1) + sums.regulariser
        safe, jitter = positive(variances, variances)
        return cls(1 / jnp.sqrt(safe)), jitter, jnp.zeros_like(sums.counts)

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Scaled as a whole."""
        return type(self)(self.precisions_cholesky / scale_D[0])
