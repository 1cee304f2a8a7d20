"""Covariances from few rows, pulled towards a multiple of the identity."""

import jax.numpy as jnp
from jax import Array, lax

from exif_jax.gmm.linalg import dot

SHRINKAGES = ("none", "ledoit_wolf")


def ledoit_wolf(covariance_DD: Array, fourth: Array, count: Array) -> tuple[Array, Array]:
    """Covariance shrunk towards the mean variance times the identity, and by which share.

    Args:
        covariance_DD: biased covariance of `count` rows.
        fourth: sum over the rows of the fourth power of the distance from the mean.
        count: rows, or the sum of their weights.

    References:
        Ledoit & Wolf, "A well-conditioned estimator for large-dimensional covariance matrices",
        Journal of Multivariate Analysis 88 (2004).
    """
    columns = len(covariance_DD)
    mean = jnp.trace(covariance_DD) / columns
    square = jnp.square(covariance_DD).sum()
    spread = square - columns * jnp.square(mean)
    noise = fourth / jnp.square(count) - square / count
    share = jnp.where(spread > 0, jnp.clip(noise / jnp.where(spread > 0, spread, 1), 0, 1), 1)
    identity = jnp.eye(columns, dtype=covariance_DD.dtype)
    return (1 - share) * covariance_DD + share * mean * identity, share


def fourth_moments(x_ND: Array, weights_NK: Array, means_KD: Array) -> Array:
    """Weighted sums of the fourth powers of the distances from the means, [K]."""

    def about(part: tuple[Array, Array]) -> Array:
        weights, mean = part
        return dot(weights, jnp.square(jnp.square(x_ND - mean[None]).sum(axis=1)))

    result: Array = lax.map(about, (weights_NK.T, means_KD))
    return result
