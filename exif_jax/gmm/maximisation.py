"""M-step: the mixture that sufficient statistics imply, and the state of EM."""

from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.covariances.base import Sums
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.statistics import Statistics

# An empty component is started again so often, then left alone.
MOST_RESEEDS = 3


@flax.struct.dataclass
class EMState:
    """EM between two iterations, in working coordinates.

    Attributes:
        gmm: the mixture so far.
        log_likelihood: mean over rows under the mixture before the last M-step; -inf at first.
        iteration: M-steps done after the initial one.
        converged: whether the last iteration gained less than the tolerance.
        reseeded: how often each component was started again, int32 [K].
        jitter: what the last factorisations had to add, [K].
        shrinkage: share of the target in the last covariances, [K].
        counts: rows of each component at the last M-step, [K].
    """

    gmm: GaussianMixture
    log_likelihood: Array
    iteration: Array
    converged: Array
    reseeded: Array
    jitter: Array
    shrinkage: Array
    counts: Array


def maximise(
    structure: Structure,
    statistics: Statistics,
    means_KD: Array,
    reseeded_K: Array,
    regulariser: Array,
) -> EMState:
    """M-step.

    A component that kept less than half a row is empty. One such component an
    iteration starts again at the row that the mixture explains worst, with the pooled covariance
    and an equal share of the rows; after `MOST_RESEEDS` times it keeps a vanishing weight.

    Args:
        structure: of the mixture.
        statistics: of all rows, about `means_KD`.
        means_KD: means of the mixture that the statistics were taken under.
        reseeded_K: how often each component was started again, int32.
        regulariser: see `Covariances`.

    Returns:
        The state of EM before its first iteration.
    """
    kind, counts, total = structure.kind, statistics.counts, statistics.rows
    empty = counts < 0.5
    filled = jnp.where(empty, total / len(counts), counts)
    deltas = jnp.where(empty[:, None], 0, statistics.sums / filled[:, None])
    # Moved means take away the scatter of K rows: the moves.
    moved = jnp.diag(jnp.where(empty, 0, counts))
    scatter = statistics.scatter - kind.scatter(deltas, moved, jnp.zeros_like(deltas), 0)
    divisors = counts
    if not kind.shared:
        divisors = filled
        share = (filled / total).reshape(-1, *[1] * (scatter.ndim - 1))
        pooled = share * scatter.sum(axis=0, keepdims=True)
        scatter = jnp.where(empty.reshape(share.shape), pooled, scatter)
    covariance, jitter, shrinkage = kind.estimate(
        Sums(scatter, divisors, statistics.fourth, regulariser, structure.rank, structure.shrinkage)
    )
    startable = empty & (reseeded_K < MOST_RESEEDS)
    chosen = startable & (jnp.arange(len(counts)) == startable.argmax())
    means = jnp.where(chosen[:, None], statistics.worst_row[None], means_KD + deltas)
    weights = jnp.where(chosen, filled, jnp.where(empty, 0, counts))
    # Not zero, whose logarithm and gradient are infinite.
    shares = jnp.maximum(weights / weights.sum(), jnp.finfo(counts.dtype).tiny)
    return EMState(
        gmm=GaussianMixture(shares, means, covariance),
        log_likelihood=jnp.array(-jnp.inf, counts.dtype),
        iteration=jnp.array(0, jnp.int32),
        converged=jnp.array(False),
        reseeded=reseeded_K + chosen,
        jitter=jitter,
        shrinkage=shrinkage,
        counts=counts,
    )


@partial(jax.jit, static_argnums=0)
def next_state(
    structure: Structure,
    state: EMState,
    statistics: Statistics,
    regulariser: Array,
    tolerance: Array,
) -> EMState:
    """One iteration, from the statistics of all rows under the state's mixture."""
    mean = statistics.mean_log_likelihood
    new = maximise(structure, statistics, state.gmm.means, state.reseeded, regulariser)
    settled = (new.reseeded == state.reseeded).all()
    return new.replace(  # type: ignore[attr-defined]
        log_likelihood=mean,
        iteration=state.iteration + 1,
        converged=settled & (jnp.abs(mean - state.log_likelihood) < tolerance),
    )
