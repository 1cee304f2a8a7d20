"""Independent columns."""

from collections.abc import Mapping
from typing import ClassVar

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from exif_jax.gmm.covariances.base import Covariances, Estimate, Maps, Shape, Sums
from exif_jax.gmm.linalg import dot, positive


@flax.struct.dataclass
class Diagonal(Covariances):
    """Independent columns, each with a variance of its own in every component.

    Attributes:
        precisions_cholesky: [K, D], reciprocal standard deviations.
    """

    precisions_cholesky: Array

    name = "diag"
    keeps: ClassVar[Maps] = "columns"

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the deviations."""
        return {"precisions_cholesky": (components, columns)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """K rows of variances."""
        return components * columns

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Scaled column by column."""
        return type(self)(self.precisions_cholesky / scale_D)

    def _row(self, columns: int) -> Array:
        return jnp.broadcast_to(self.precisions_cholesky, (1, columns))

    def squared_norms(self, centred_ND: Array) -> Array:
        """Of standardised rows."""
        return jnp.square(centred_ND * self._row(centred_ND.shape[1])).sum(axis=1)

    def log_determinant(self, columns: int) -> Array:
        """From all deviations."""
        return -2 * jnp.log(self._row(columns)).sum()

    def matrix(self) -> Array:
        """Variances [D]."""
        return self.precisions_cholesky**-2

    @staticmethod
    def scatter_of_one(x_ND: Array, weights_N: Array, mean_D: Array, tile: int) -> Array:
        """[D]."""
        return dot(weights_N, jnp.square(x_ND - mean_D[None]))

    @classmethod
    def estimate_one(cls, sums: Sums) -> Estimate:
        """Deviations, none of them zero."""
        variances = sums.scatter / sums.counts + sums.regulariser
        safe, jitter = positive(variances, variances.mean())
        return cls(1 / jnp.sqrt(safe)), jitter.max(), jnp.zeros_like(sums.counts)
