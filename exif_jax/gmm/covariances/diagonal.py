"""Independent columns."""

from collections.abc import Mapping
from typing import ClassVar

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from exif_jax.gmm.covariances.base import (
    Covariances,
    Estimate,
    Maps,
    Shape,
    Sums,
    over_components,
)
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

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """[N, K]."""
        return over_components(
            lambda mean, scale: jnp.square(
                (x_ND - mean[None]) * jnp.broadcast_to(scale, mean.shape)[None]
            ).sum(axis=1),
            means_KD,
            self.precisions_cholesky,
        ).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        return -2 * jnp.log(self.precisions_cholesky).sum(axis=1)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        return noise_ND / jnp.asarray(self.precisions_cholesky)[labels_N].reshape(len(noise_ND), -1)

    @staticmethod
    def scatter(x_ND: Array, weights_NK: Array, means_KD: Array, tile: int) -> Array:
        """[K, D]."""
        return over_components(
            lambda weights, mean: dot(weights, jnp.square(x_ND - mean[None])),
            weights_NK.T,
            means_KD,
        )

    @classmethod
    def estimate(cls, sums: Sums) -> Estimate:
        """Deviations, none of them zero."""
        variances = sums.scatter / sums.counts[:, None] + sums.regulariser[None]
        safe, jitter = positive(variances, variances.mean(axis=1, keepdims=True))
        return cls(1 / jnp.sqrt(safe)), jitter.max(axis=1), jnp.zeros_like(sums.counts)

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Scaled column by column."""
        return type(self)(self.precisions_cholesky / scale_D)

    @property
    def matrices(self) -> Array:
        """Variances [K, D]."""
        return self.precisions_cholesky**-2
