"""Some directions with variances of their own, the same variance in all others."""

from collections.abc import Mapping

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array

from exif_jax.gmm.covariances.base import Covariances, Estimate, Shape, Sums
from exif_jax.gmm.covariances.full import Full
from exif_jax.gmm.linalg import dot, positive


@flax.struct.dataclass
class LowRank(Covariances):
    """Covariances of a mixture of probabilistic principal component analysers.

    Attributes:
        directions: [K, D, R], orthonormal columns.
        variances: [K, R], along them.
        noise: [K], variance along all other directions.

    References:
        Tipping & Bishop, "Mixtures of probabilistic principal component analysers", Neural
        Computation 11 (1999).
    """

    directions: Array
    variances: Array
    noise: Array

    name = "low_rank"
    keeps = "uniform"
    has_rank = True

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the rank that the variances have."""
        # Whatever else they are, comparing shapes will tell.
        rank = (*found.get("variances", ()), 0, 0)[1]
        return {
            "directions": (components, columns, rank),
            "variances": (components, rank),
            "noise": (components,),
        }

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """As Tipping & Bishop count."""
        return components * (columns * rank - rank * (rank - 1) // 2 + 1)

    @property
    def rank(self) -> int:
        """R."""
        return self.variances.shape[-1]

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Scaled as a whole."""
        square = np.square(scale_D[0])
        return LowRank(self.directions, self.variances * square, self.noise * square)

    def in_sklearn(self) -> Covariances:
        """Full ones."""
        lower = jnp.linalg.cholesky(self.matrices)
        return Full(jnp.linalg.inv(lower).mT)

    def squared_norms(self, centred_ND: Array) -> Array:
        """Along the directions, and across."""
        along = dot(centred_ND, self.directions)
        # Not by Pythagoras: where little is left over, the difference would be noise.
        across = jnp.square(centred_ND - dot(along, self.directions.T)).sum(axis=1)
        return (jnp.square(along) / self.variances[None]).sum(axis=1) + across / self.noise

    def log_determinant(self, columns: int) -> Array:
        """Along the directions, and across."""
        return jnp.log(self.variances).sum() + (columns - self.rank) * jnp.log(self.noise)

    def matrix(self) -> Array:
        """[D, D]."""
        scaled = self.directions * (self.variances - self.noise)[None]
        identity = jnp.eye(len(scaled), dtype=scaled.dtype)
        return dot(scaled, self.directions.T) + self.noise * identity

    scatter_of_one = staticmethod(Full.scatter_of_one)

    @classmethod
    def estimate_one(cls, sums: Sums) -> Estimate:
        """Maximum-likelihood probabilistic PCA (Tipping & Bishop, eq. 13-16)."""
        covariance, rank = sums.scatter / sums.counts, sums.rank
        largest, vectors = jnp.linalg.eigh(covariance)
        directions = vectors[:, -rank:]
        # Variances from the directions, not from the decomposition, whose errors are relative to
        # the largest of them.
        products = dot(covariance, directions) * directions
        rest = (jnp.diagonal(covariance) - products.sum(axis=1)).sum()
        noise = rest / (len(covariance) - rank) + sums.regulariser
        noise, jitter = positive(noise, largest[-1])
        variances = jnp.maximum(products.sum(axis=0) + sums.regulariser, noise)
        return cls(directions, variances, noise), jitter, jnp.zeros_like(jitter)
