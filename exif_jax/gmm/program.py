"""EM as functions of one device's rows, mapped over the devices of a mesh."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.linalg import dot
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.rows import Layout
from exif_jax.gmm.statistics import (
    Statistics,
    about_responsibilities,
    compensated,
    log_likelihood_of_rows,
    maximise,
    of_rows,
)
from exif_jax.training.mapping import AXIS, REPLICATED, SHARDED, over_devices

# Comparing many candidates in one process would otherwise hold the programs of all of them.
_few_kept = lru_cache(maxsize=32)


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
        counts: weight of the rows of each component at the last M-step, [K].
    """

    gmm: GaussianMixture
    log_likelihood: Array
    iteration: Array
    converged: Array
    reseeded: Array
    jitter: Array
    shrinkage: Array
    counts: Array


def _scan(
    function: Callable[..., Any], join: Callable[[Any, Any], Any], layout: Layout, *rows: Array
) -> Any:
    """Joins function(chunk of every array) over the chunks of this device's rows."""
    if layout.chunks == 1:
        return function(*rows)
    chunks = [a.reshape(layout.chunks, layout.chunk, *a.shape[1:]) for a in rows]
    shapes = jax.eval_shape(function, *(a[0] for a in chunks))
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return lax.scan(lambda sum, part: (join(sum, function(*part)), None), nothing, chunks)[0]


def _statistics(
    structure: Structure, layout: Layout, gmm: GaussianMixture, x: Array, weights: Array
) -> Statistics:
    """E-step over all devices."""
    part = partial(of_rows, structure, gmm, tile=layout.tile)
    return _scan(part, Statistics.merge, layout, x, weights).over_devices()


def _mean_log_likelihood(layout: Layout, gmm: GaussianMixture, x: Array, weights: Array) -> Array:
    pair = _scan(partial(log_likelihood_of_rows, gmm), compensated, layout, x, weights)
    return lax.psum(pair, AXIS).sum() / lax.psum(weights.sum(), AXIS)


def _first_state(
    structure: Structure, layout: Layout, x: Array, weighted_NK: Array, regulariser: Array
) -> EMState:
    """State after an M-step from given responsibilities (0 in masked rows), mapped."""
    counts = lax.psum(weighted_NK.sum(axis=0), AXIS)
    sums = lax.psum(dot(weighted_NK.T, x), AXIS)
    means = sums / jnp.where(counts > 0, counts, 1)[:, None]

    def part(x: Array, weighted: Array) -> Statistics:
        return about_responsibilities(structure, x, weighted, means, 0)

    statistics = _scan(part, Statistics.merge, layout, x, weighted_NK).over_devices()
    components = len(counts)
    reseeded = jnp.zeros(components, jnp.int32)
    gmm, _, reseeded, jitter, shrinkage = maximise(
        structure, statistics, means, reseeded, regulariser
    )
    return EMState(
        gmm,
        jnp.array(-jnp.inf, x.dtype),
        jnp.array(0, jnp.int32),
        jnp.array(False),
        reseeded,
        jitter,
        shrinkage,
        counts,
    )


def next_state(
    structure: Structure,
    state: EMState,
    statistics: Statistics,
    regulariser: Array,
    tolerance: Array,
) -> EMState:
    """One M-step from the statistics of all rows under the state's mixture."""
    mean = statistics.mean_log_likelihood
    gmm, _, reseeded, jitter, shrinkage = maximise(
        structure, statistics, state.gmm.means, state.reseeded, regulariser
    )
    settled = (reseeded == state.reseeded).all()
    converged = settled & (jnp.abs(mean - state.log_likelihood) < tolerance)
    return EMState(
        gmm,
        mean,
        state.iteration + 1,
        converged,
        reseeded,
        jitter,
        shrinkage,
        statistics.counts,
    )


def _iterate(
    structure: Structure,
    layout: Layout,
    iterations: int,
    state: EMState,
    x: Array,
    weights: Array,
    regulariser: Array,
    tolerance: Array,
) -> tuple[EMState, Array]:
    """At most `iterations` EM iterations on this device's rows, fewer if EM converges.

    Returns:
        The new state, and the mean log-likelihoods before each iteration, [iterations]; what lies
        behind the last iteration means nothing.
    """

    def going(carry: tuple[EMState, Array, Array]) -> Array:
        state, _, done = carry
        return (done < iterations) & ~state.converged

    def iterate(carry: tuple[EMState, Array, Array]) -> tuple[EMState, Array, Array]:
        state, history, done = carry
        statistics = _statistics(structure, layout, state.gmm, x, weights)
        state = next_state(structure, state, statistics, regulariser, tolerance)
        return state, history.at[done].set(state.log_likelihood), done + 1

    start = (state, jnp.zeros(iterations, x.dtype), jnp.array(0))
    state, history, _ = lax.while_loop(going, iterate, start)
    return state, history


@dataclasses.dataclass(frozen=True)
class Program:
    """EM's compiled functions over a mesh, for one structure and layout.

    Attributes:
        whiten: (rows, matrix [D, D]) -> rows in working coordinates.
        first: (rows, weighted responsibilities, regulariser) -> EMState.
        statistics: (mixture, rows, weights) -> Statistics of all devices' rows.
        mean_log_likelihood: (mixture, rows, weights) -> [].
        mesh: over whose devices rows, weights and responsibilities are divided.
        structure: of the covariances.
        layout: of the rows of one device.
    """

    whiten: Callable[..., Array]
    first: Callable[..., EMState]
    statistics: Callable[..., Statistics]
    mean_log_likelihood: Callable[..., Array]
    mesh: Mesh
    structure: Structure
    layout: Layout

    @classmethod
    @_few_kept
    def of(cls, mesh: Mesh, structure: Structure, layout: Layout) -> "Program":
        """The functions; compiled once for each combination."""

        def mapped(function: Callable[..., Any], *sharded: bool) -> Callable[..., Any]:
            specs = tuple(SHARDED if is_sharded else REPLICATED for is_sharded in sharded)
            return over_devices(function, mesh, specs, REPLICATED)

        return cls(
            over_devices(lambda x, upper: dot(x, upper), mesh, (SHARDED, REPLICATED), SHARDED),
            mapped(partial(_first_state, structure, layout), True, True, False),
            mapped(partial(_statistics, structure, layout), False, True, True),
            mapped(partial(_mean_log_likelihood, layout), False, True, True),
            mesh,
            structure,
            layout,
        )

    def iterate(self, iterations: int) -> Callable[..., tuple[EMState, Array]]:
        """So many EM iterations at most."""
        return _iterations(self.mesh, self.structure, self.layout, iterations)


@_few_kept
def _iterations(
    mesh: Mesh, structure: Structure, layout: Layout, iterations: int
) -> Callable[..., tuple[EMState, Array]]:
    return over_devices(
        partial(_iterate, structure, layout, iterations),
        mesh,
        (REPLICATED, SHARDED, SHARDED, REPLICATED, REPLICATED),
        REPLICATED,
    )
