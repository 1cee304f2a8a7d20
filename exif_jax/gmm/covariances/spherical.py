"""The same variance in every direction."""

from collections.abc import Mapping
from typing import ClassVar

import flax.struct
import jax.numpy as jnp
import numpy as np

from exif_jax.gmm.covariances.base import Covariances, Estimate, Maps, Shape, Sums
from exif_jax.gmm.covariances.diagonal import Diagonal
from exif_jax.gmm.linalg import positive


@flax.struct.dataclass
class Spherical(Diagonal):
    """A multiple of the identity in every component.

    Attributes:
        precisions_cholesky: [K], reciprocal standard deviations.
    """

    name = "spherical"
    keeps: ClassVar[Maps] = "uniform"

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the deviations."""
        return {"precisions_cholesky": (components,)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """K variances."""
        return components

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Scaled as a whole."""
        return type(self)(self.precisions_cholesky / scale_D[0])

    @classmethod
    def estimate_one(cls, sums: Sums) -> Estimate:
        """A deviation that is not zero."""
        variance = (sums.scatter / sums.counts).mean() + sums.regulariser
        safe, jitter = positive(variance, variance)
        return cls(1 / jnp.sqrt(safe)), jitter, jnp.zeros_like(sums.counts)
