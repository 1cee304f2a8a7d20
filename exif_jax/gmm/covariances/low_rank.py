"""Some directions with variances of their own, the same variance in all others."""

from collections.abc import Mapping

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from exif_jax.gmm.covariances.base import (
    Covariances,
    Estimate,
    Shape,
    Sums,
    over_components,
)
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

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """[N, K]."""

        def one(mean: Array, directions: Array, variances: Array, noise: Array) -> Array:
            centred = x_ND - mean[None]
            along = dot(centred, directions)
            # Not by Pythagoras: where little is left over, the difference would be noise.
            across = centred - dot(along, directions.T)
            return (jnp.square(along) / variances[None]).sum(axis=1) + jnp.square(across).sum(
                axis=1
            ) / noise

        return over_components(one, means_KD, self.directions, self.variances, self.noise).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        others = columns - self.rank
        return jnp.log(self.variances).sum(axis=1) + others * jnp.log(self.noise)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        directions, sigma = self.directions[labels_N], jnp.sqrt(self.noise)[labels_N, None]
        along = jnp.einsum("nd,ndr->nr", noise_ND, directions)
        more = along * (jnp.sqrt(self.variances)[labels_N] - sigma)
        return noise_ND * sigma + jnp.einsum("nr,ndr->nd", more, directions)

    scatter = staticmethod(Full.scatter)

    @classmethod
    def estimate(cls, sums: Sums) -> Estimate:
        """Maximum-likelihood probabilistic PCA of every component (Tipping & Bishop, eq. 13-16)."""
        columns, rank = sums.scatter.shape[1], sums.rank

        def one(covariance: Array) -> Estimate:
            largest, vectors = jnp.linalg.eigh(covariance)
            directions = vectors[:, -rank:]
            # Variances from the directions, not from the decomposition, whose errors are relative
            # to the largest of them.
            products = dot(covariance, directions) * directions
            noise = (jnp.diagonal(covariance) - products.sum(axis=1)).sum() / (columns - rank)
            noise, jitter = positive(noise + sums.regulariser, largest[-1])
            variances = jnp.maximum(products.sum(axis=0) + sums.regulariser, noise)
            return cls(directions, variances, noise), jitter, jnp.zeros_like(jitter)

        found: Estimate = lax.map(one, sums.scatter / sums.counts[:, None, None])
        return found

    def outward(self, scale_D: np.ndarray, upper_DD: np.ndarray | None) -> Covariances:
        """Scaled as a whole."""
        square = np.square(scale_D[0])
        return LowRank(self.directions, self.variances * square, self.noise * square)

    @property
    def matrices(self) -> Array:
        """[K, D, D]."""
        scaled = self.directions * (self.variances - self.noise[:, None])[:, None, :]
        identity = jnp.eye(self.directions.shape[1], dtype=self.noise.dtype)
        return dot(scaled, self.directions.mT) + self.noise[:, None, None] * identity[None]

    def in_sklearn(self) -> Covariances:
        """Full ones."""
        lower = jnp.linalg.cholesky(self.matrices)
        return Full(jnp.linalg.inv(lower).mT)
