"""E-step: sufficient statistics of rows."""

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.scipy.special import logsumexp

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.covariances.shrinkage import fourth_moments
from exif_jax.gmm.linalg import dot
from exif_jax.gmm.mixture import GaussianMixture, log_joint
from exif_jax.training.mapping import AXIS


@flax.struct.dataclass
class Statistics:
    """What EM needs to know of rows; sums of two sets of rows are added by `merge`.

    Attributes:
        counts: sums of responsibilities, [K].
        sums: responsibilities times (x - means of the mixture), [K, D].
        scatter: second moments about the means of the mixture, see `Covariances`.
        fourth: fourth moments of the distances from them, [K]; zero without shrinkage.
        log_likelihood: sum of log-densities, [2]: the sum and its rounding error.
        rows: number of rows, [].
        worst_density: lowest log-density of a row, [].
        worst_row: that row, [D].
    """

    counts: Array
    sums: Array
    scatter: Array
    fourth: Array
    log_likelihood: Array
    rows: Array
    worst_density: Array
    worst_row: Array

    def merge(self, other: "Statistics") -> "Statistics":
        """Statistics of the rows of both; all zeros stand for no rows."""
        added = jax.tree.map(jnp.add, self, other)
        worse = (other.worst_density < self.worst_density) | (self.rows == 0)
        worse &= other.rows > 0
        return added.replace(
            log_likelihood=compensated(self.log_likelihood, other.log_likelihood),
            worst_density=jnp.where(worse, other.worst_density, self.worst_density),
            worst_row=jnp.where(worse, other.worst_row, self.worst_row),
        )

    def over_devices(self) -> "Statistics":
        """Inside a mapped function: statistics of all devices' rows, on every device."""
        added = lax.psum(self, AXIS)
        seen = jnp.where(self.rows > 0, self.worst_density, jnp.inf)
        densities = lax.all_gather(seen, AXIS)
        worst = densities.argmin()
        return added.replace(
            worst_density=densities[worst],
            worst_row=lax.all_gather(self.worst_row, AXIS)[worst],
        )

    @property
    def mean_log_likelihood(self) -> Array:
        """Mean log-density of the rows, []."""
        return self.log_likelihood.sum() / self.rows


def compensated(a: Array, b: Array) -> Array:
    """Sum of two (sum, rounding error) pairs; the error of the sum is carried along (Knuth)."""
    total = a[0] + b[0]
    virtual = total - a[0]
    error = (a[0] - (total - virtual)) + (b[0] - virtual)
    return jnp.stack([total, a[1] + b[1] + error])


def about_responsibilities(
    structure: Structure, x_ND: Array, weighted_NK: Array, means_KD: Array, tile: int
) -> Statistics:
    """Statistics of rows with given responsibilities (zero where masked), about given means."""
    counts = weighted_NK.sum(axis=0)
    used = weighted_NK.sum(axis=1) > 0
    shrinks = structure.shrinkage != "none"
    return Statistics(
        counts=counts,
        sums=dot(weighted_NK.T, x_ND) - counts[:, None] * means_KD,
        scatter=structure.kind.scatter(x_ND, weighted_NK, means_KD, tile),
        fourth=fourth_moments(x_ND, weighted_NK, means_KD) if shrinks else jnp.zeros_like(counts),
        log_likelihood=jnp.zeros(2, x_ND.dtype),
        rows=used.sum().astype(x_ND.dtype),
        worst_density=jnp.zeros((), x_ND.dtype),
        worst_row=x_ND[jnp.argmax(used)],
    )


def of_rows(
    structure: Structure, gmm: GaussianMixture, x_ND: Array, mask_N: Array, tile: int
) -> Statistics:
    """E-step: statistics of rows [N, D] under a mixture; 0 in the mask [N] leaves a row out."""
    parts = log_joint(gmm, x_ND)
    densities = logsumexp(parts, axis=1)
    weighted = mask_N[:, None] * jnp.exp(parts - densities[:, None])
    seen = jnp.where(mask_N > 0, densities, jnp.inf)
    worst = seen.argmin()
    worst_row, total = x_ND[worst], dot(mask_N, densities)
    if tile:
        # Rows of one component side by side let `scatter` pass over the other components' tiles.
        order = jnp.argsort(parts.argmax(axis=1))
        x_ND, weighted = x_ND[order], weighted[order]
    statistics = about_responsibilities(structure, x_ND, weighted, gmm.means, tile)
    return statistics.replace(  # type: ignore[attr-defined]
        log_likelihood=jnp.stack([total, jnp.zeros_like(total)]),
        worst_density=seen[worst],
        worst_row=worst_row,
    )
