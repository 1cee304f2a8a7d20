"""Any covariance, the same for all components."""

from collections.abc import Mapping

import flax.struct
import jax.numpy as jnp
from jax import Array, lax

from exif_jax.gmm import linalg
from exif_jax.gmm.covariances.base import Shape
from exif_jax.gmm.covariances.full import Full


@flax.struct.dataclass
class Tied(Full):
    """One covariance for all components.

    Attributes:
        precisions_cholesky: [D, D], upper triangular.
    """

    name = "tied"
    shared = True
    own_matrices = False

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the factor."""
        return {"precisions_cholesky": (columns, columns)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """Of one symmetric matrix."""
        return columns * (columns + 1) // 2

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """[N, K], from one product instead of K."""
        # About one of the means: far from the origin the differences would lose digits.
        y_ND = linalg.times_upper(x_ND - means_KD[:1], self.precisions_cholesky)
        centres_KD = linalg.times_upper(means_KD - means_KD[:1], self.precisions_cholesky)
        return lax.map(lambda c: jnp.square(y_ND - c[None]).sum(axis=1), centres_KD).T

    @classmethod
    def scatter(cls, x_ND: Array, weights_NK: Array, means_KD: Array, tile: int) -> Array:
        """[D, D]: about each row's own expected mean, then a K x K correction."""
        totals = weights_NK.sum(axis=1)
        shares_NK = weights_NK / jnp.where(totals > 0, totals, 1)[:, None]
        origin = jnp.zeros_like(means_KD[0])
        about_own = linalg.scatter(x_ND - linalg.dot(shares_NK, means_KD), totals, origin, 0)
        correction = -linalg.dot(weights_NK.T, shares_NK)
        # The diagonal by itself: r (1 - r) keeps the digits that sum(r) - sum(r^2) would lose.
        own = (weights_NK * (1 - shares_NK)).sum(axis=0)
        correction = jnp.where(jnp.eye(len(own), dtype=bool), own[None], correction)
        return about_own + linalg.dot(means_KD.T, linalg.dot(correction, means_KD))
