"""The kinds of covariance of a mixture: densities, statistics and M-step of each.

Shapes: N rows, D columns, K components, R directions of a low rank. Statistics are taken about the
means before the M-step (`means_KD`), so that nothing large is subtracted from something large.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array, lax

from exif_jax.gmm.linalg import (
    dot,
    inverse_transpose,
    safe_cholesky,
    scatter,
    squared_norms,
    times_upper,
)

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "low_rank")
SHRINKAGES = ("none", "ledoit_wolf")


@dataclass(frozen=True)
class Structure:
    """What the covariances of a mixture look like.

    Attributes:
        covariance_type: `full`: any, one a component; `tied`: any, shared; `diag`: diagonal;
            `spherical`: a multiple of the identity; `low_rank`: `rank` free directions and the same
            variance in all others (mixture of probabilistic principal component analysers).
        rank: R, of `low_rank` only.
        shrinkage: `none`, or `ledoit_wolf` towards a multiple of the identity (`full`, `tied`).
    """

    covariance_type: str = "full"
    rank: int = 0
    shrinkage: str = "none"

    def check(self, columns: int) -> None:
        """Raises a ValueError unless the structure exists for so many columns."""
        if self.covariance_type not in COVARIANCE_TYPES:
            raise ValueError(
                f"covariance_type {self.covariance_type!r} is not known: choose "
                f"{', '.join(COVARIANCE_TYPES)}"
            )
        if self.shrinkage not in SHRINKAGES:
            raise ValueError(f"shrinkage {self.shrinkage!r} is not known: choose none, ledoit_wolf")
        if self.shrinkage != "none" and self.covariance_type not in ("full", "tied"):
            raise ValueError(f"shrinkage is for full and tied, not {self.covariance_type}")
        if self.covariance_type == "low_rank" and not 1 <= self.rank < columns:
            raise ValueError(
                f"rank {self.rank} of low_rank covariances must lie between 1 and {columns - 1}, "
                "one less than the columns"
            )

    def num_parameters(self, components: int, columns: int) -> int:
        """Free parameters of a mixture: weights, means and covariances."""
        free = {
            "full": components * columns * (columns + 1) // 2,
            "tied": columns * (columns + 1) // 2,
            "diag": components * columns,
            "spherical": components,
            "low_rank": components * (columns * self.rank - self.rank * (self.rank - 1) // 2 + 1),
        }
        return components - 1 + components * columns + free[self.covariance_type]


class Covariances(Protocol):
    """What the rest of the package asks of the covariances of a mixture."""

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances of rows from means, [N, K]."""

    def log_determinants(self, columns: int) -> Array:
        """Logarithms of the determinants of the covariances, [K] or [1] if shared."""

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D] of covariance `labels_N` from rows of independent unit variance."""

    @property
    def matrices(self) -> Array:
        """The covariances, in scikit-learn's shape."""


def _over_components(function: Callable[..., Array], *arrays: Array) -> Array:
    """Maps over the first axes, one component at a time: K times less memory than all at once."""
    return lax.map(lambda slices: function(*slices), arrays)


@flax.struct.dataclass
class Full:
    """One covariance a component.

    Attributes:
        precisions_cholesky: [K, D, D], upper triangular U with inverse covariance U U^T.
    """

    precisions_cholesky: Array

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances, [N, K]."""
        return _over_components(
            lambda mean, upper: squared_norms(x_ND - mean[None], upper),
            means_KD,
            self.precisions_cholesky,
        ).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        diagonals = jnp.diagonal(self.precisions_cholesky, axis1=1, axis2=2)
        return -2 * jnp.log(diagonals).sum(axis=1)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        factors = jax.vmap(inverse_transpose)(self.precisions_cholesky.mT)  # U^-1: upper
        return jnp.einsum("nd,nde->ne", noise_ND, factors[labels_N])

    @property
    def matrices(self) -> Array:
        """[K, D, D]."""
        inverse = jax.vmap(inverse_transpose)(self.precisions_cholesky.mT)
        return dot(inverse.mT, inverse)


@flax.struct.dataclass
class Tied:
    """One covariance for all components.

    Attributes:
        precisions_cholesky: [D, D], upper triangular.
    """

    precisions_cholesky: Array

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances, [N, K]."""
        # About one of the means: far from the origin the differences would lose digits.
        y_ND = times_upper(x_ND - means_KD[:1], self.precisions_cholesky)
        centres_KD = times_upper(means_KD - means_KD[:1], self.precisions_cholesky)
        return _over_components(lambda c: jnp.square(y_ND - c[None]).sum(axis=1), centres_KD).T

    def log_determinants(self, columns: int) -> Array:
        """[1]."""
        return -2 * jnp.log(jnp.diagonal(self.precisions_cholesky)).sum(keepdims=True)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        return dot(noise_ND, inverse_transpose(self.precisions_cholesky.T))

    @property
    def matrices(self) -> Array:
        """[D, D]."""
        inverse = inverse_transpose(self.precisions_cholesky.T)
        return dot(inverse.T, inverse)


@flax.struct.dataclass
class Diagonal:
    """Independent columns.

    Attributes:
        precisions_cholesky: [K, D], reciprocal standard deviations.
    """

    precisions_cholesky: Array

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances, [N, K]."""
        return _over_components(
            lambda mean, scale: jnp.square((x_ND - mean[None]) * scale[None]).sum(axis=1),
            means_KD,
            self.precisions_cholesky,
        ).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        return -2 * jnp.log(self.precisions_cholesky).sum(axis=1)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        return noise_ND / self.precisions_cholesky[labels_N]

    @property
    def matrices(self) -> Array:
        """Variances [K, D]."""
        return self.precisions_cholesky**-2


@flax.struct.dataclass
class Spherical:
    """The same variance in every direction.

    Attributes:
        precisions_cholesky: [K], reciprocal standard deviations.
    """

    precisions_cholesky: Array

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances, [N, K]."""
        return _over_components(
            lambda mean, scale: jnp.square((x_ND - mean[None]) * scale).sum(axis=1),
            means_KD,
            self.precisions_cholesky,
        ).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        return -2 * columns * jnp.log(self.precisions_cholesky)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        return noise_ND / self.precisions_cholesky[labels_N, None]

    @property
    def matrices(self) -> Array:
        """Variances [K]."""
        return self.precisions_cholesky**-2


@flax.struct.dataclass
class LowRank:
    """Some directions with variances of their own, the same variance in all others.

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

    def squared_distances(self, means_KD: Array, x_ND: Array) -> Array:
        """Squared Mahalanobis distances, [N, K]."""

        def one(mean: Array, directions: Array, variances: Array, noise: Array) -> Array:
            centred = x_ND - mean[None]
            along = dot(centred, directions)
            # Not by Pythagoras: where little is left over, the difference would be noise.
            across = centred - dot(along, directions.T)
            return (jnp.square(along) / variances[None]).sum(axis=1) + jnp.square(across).sum(
                axis=1
            ) / noise

        return _over_components(one, means_KD, self.directions, self.variances, self.noise).T

    def log_determinants(self, columns: int) -> Array:
        """[K]."""
        others = columns - self.variances.shape[1]
        return jnp.log(self.variances).sum(axis=1) + others * jnp.log(self.noise)

    def sample(self, noise_ND: Array, labels_N: Array) -> Array:
        """Rows [N, D]."""
        directions, sigma = self.directions[labels_N], jnp.sqrt(self.noise)[labels_N, None]
        along = jnp.einsum("nd,ndr->nr", noise_ND, directions)
        more = along * (jnp.sqrt(self.variances)[labels_N] - sigma)
        return noise_ND * sigma + jnp.einsum("nr,ndr->nd", more, directions)

    @property
    def matrices(self) -> Array:
        """[K, D, D]."""
        scaled = self.directions * (self.variances - self.noise[:, None])[:, None, :]
        identity = jnp.eye(self.directions.shape[1], dtype=self.noise.dtype)
        return dot(scaled, self.directions.mT) + self.noise[:, None, None] * identity[None]


def scatters(
    structure: Structure, x_ND: Array, weights_NK: Array, means_KD: Array, tile: int
) -> Array:
    """Second moments of rows about the means, weighted by (weighted) responsibilities.

    Returns:
        [K, D, D] for `full` and `low_rank`, [D, D] summed over components for `tied`, [K, D] for
        `diag` and `spherical`.
    """
    match structure.covariance_type:
        case "full" | "low_rank":
            return _over_components(
                lambda weights, mean: scatter(x_ND, weights, mean, tile), weights_NK.T, means_KD
            )
        case "tied":
            # One product instead of K: about each row's own expected mean, then a K x K correction.
            totals = weights_NK.sum(axis=1)
            shares_NK = weights_NK / jnp.where(totals > 0, totals, 1)[:, None]
            origin = jnp.zeros_like(means_KD[0])
            about_own = scatter(x_ND - dot(shares_NK, means_KD), totals, origin, 0)
            correction = -dot(weights_NK.T, shares_NK)
            # The diagonal by itself: r (1 - r) keeps the digits that sum(r) - sum(r^2) would lose.
            own = (weights_NK * (1 - shares_NK)).sum(axis=0)
            correction = jnp.where(jnp.eye(len(own), dtype=bool), own[None], correction)
            return about_own + dot(means_KD.T, dot(correction, means_KD))
        case _:
            return _over_components(
                lambda weights, mean: dot(weights, jnp.square(x_ND - mean[None])),
                weights_NK.T,
                means_KD,
            )


def fourth_moments(x_ND: Array, weights_NK: Array, means_KD: Array) -> Array:
    """Weighted sums of the fourth powers of the distances from the means, [K]."""
    return _over_components(
        lambda weights, mean: dot(weights, jnp.square(jnp.square(x_ND - mean[None]).sum(axis=1))),
        weights_NK.T,
        means_KD,
    )


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


def from_scatters(
    structure: Structure,
    scatter: Array,
    counts_K: Array,
    fourth_K: Array,
    regulariser: Array,
) -> tuple[Covariances, Array, Array]:
    """Covariances from second moments about the new means.

    Args:
        structure: says which.
        scatter: as `scatters` gives, about the new means.
        counts_K: weights of the components, positive.
        fourth_K: fourth moments; used with shrinkage only.
        regulariser: added: [D, D] for `full` and `tied`, [D] for `diag`, [] for the others.

    Returns:
        The covariances, the jitter that factorising needed [K] (0 as a rule), and the shares of
        shrinkage [K].
    """
    shrinks = structure.shrinkage == "ledoit_wolf"
    nothing = jnp.zeros_like(counts_K)

    def factor(scatter: Array, count: Array, fourth: Array) -> tuple[Array, Array, Array]:
        covariance, share = scatter / count, jnp.zeros_like(count)
        if shrinks:
            covariance, share = ledoit_wolf(covariance, fourth, count)
        lower, jitter = safe_cholesky(covariance + regulariser)
        return inverse_transpose(lower), jitter, share

    match structure.covariance_type:
        case "full":
            upper, jitter, share = lax.map(lambda c: factor(*c), (scatter, counts_K, fourth_K))
            return Full(upper), jitter, share
        case "tied":
            upper, jitter, share = factor(scatter, counts_K.sum(), fourth_K.sum())
            return Tied(upper), jitter + nothing, share + nothing
        case "diag":
            variances = scatter / counts_K[:, None] + regulariser[None]
            safe, jitter = _positive(variances, variances.mean(axis=1, keepdims=True))
            return Diagonal(1 / jnp.sqrt(safe)), jitter.max(axis=1), nothing
        case "spherical":
            variances = (scatter / counts_K[:, None]).mean(axis=1) + regulariser
            safe, jitter = _positive(variances, variances)
            return Spherical(1 / jnp.sqrt(safe)), jitter, nothing
        case _:
            return _low_rank(scatter / counts_K[:, None, None], structure.rank, regulariser)


def _low_rank(
    covariances_KDD: Array, rank: int, regulariser: Array
) -> tuple[LowRank, Array, Array]:
    """Maximum-likelihood probabilistic PCA of every covariance (Tipping & Bishop, eq. 13-16)."""
    columns = covariances_KDD.shape[1]

    def one(covariance: Array) -> tuple[LowRank, Array, Array]:
        largest, vectors = jnp.linalg.eigh(covariance)
        directions = vectors[:, -rank:]
        # Variances from the directions, not from the decomposition, whose errors are relative to
        # the largest of them.
        products = dot(covariance, directions) * directions
        noise = (jnp.diagonal(covariance) - products.sum(axis=1)).sum() / (columns - rank)
        noise, jitter = _positive(noise + regulariser, largest[-1])
        variances = jnp.maximum(products.sum(axis=0) + regulariser, noise)
        return LowRank(directions, variances, noise), jitter, jnp.zeros_like(jitter)

    result: tuple[LowRank, Array, Array] = lax.map(one, covariances_KDD)
    return result


def _positive(variances: Array, scale: Array) -> tuple[Array, Array]:
    """Variances that are not rounding noise relative to `scale`, and what was added to them."""
    floor = 10 * jnp.finfo(variances.dtype).eps * jnp.maximum(scale, jnp.finfo(scale.dtype).tiny)
    floor = jnp.maximum(floor, jnp.finfo(variances.dtype).tiny)
    safe = jnp.maximum(variances, floor)
    return safe, safe - variances
