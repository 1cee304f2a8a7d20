"""Fitting a mixture to more rows than fit into memory: chunk by chunk, exactly or stepwise."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.em import Fit, Problem, check_options, compute_dtype
from exif_jax.gmm.frame import (
    Moments,
    merged,
    moments_of,
    needs_matrix,
    of_all_processes,
)
from exif_jax.gmm.program import EMState, Program, next_state
from exif_jax.gmm.progress import Observer, Progress
from exif_jax.gmm.rows import Layout, checked, gather, spans_processes
from exif_jax.gmm.start import Sample, generator
from exif_jax.gmm.statistics import Statistics, maximise
from exif_jax.training.mapping import data_mesh, replicate, to_host

BLOCK_ROWS = 32768  # rows of one device in memory at once

# Rows [n, D], or (rows, weights [n]).
Chunk = np.ndarray | tuple[np.ndarray, np.ndarray]


def _parts(chunks: Iterable[Chunk], size: int) -> Iterator[Chunk]:
    """The chunks; a single array, a memory-mapped one too, in slices."""
    if isinstance(chunks, np.ndarray):
        for start in range(0, max(len(chunks), 1), size):
            yield chunks[start : start + size]
    else:
        yield from chunks


def blocks(chunks: Iterable[Chunk], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and weights in blocks of exactly `size` rows, the last one shorter.

    Raises:
        ValueError: a chunk without rows, of another width or type, or with NaN or infinity.
    """
    rows: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    waiting = done = 0
    first: np.ndarray | None = None
    for number, chunk in enumerate(_parts(chunks, size)):
        x, w = chunk if isinstance(chunk, tuple) else (chunk, None)
        x = x if isinstance(x, np.ndarray) else np.asarray(x)
        if not len(x):
            raise ValueError(f"chunk {number} has no rows")
        x, w = checked(x, w, first=done)
        first = x[:0] if first is None else first
        if x.shape[1] != first.shape[1] or x.dtype != first.dtype:
            raise ValueError(
                f"chunk {number} has {x.shape[1]} columns of {x.dtype}, the first had "
                f"{first.shape[1]} of {first.dtype}"
            )
        done += len(x)
        rows.append(x)
        weights.append(w)
        waiting += len(x)
        while waiting >= size:
            x = rows[0] if len(rows) == 1 else np.concatenate(rows)
            w = weights[0] if len(weights) == 1 else np.concatenate(weights)
            yield x[:size], w[:size]
            rows, weights, waiting = [x[size:]], [w[size:]], len(x) - size
    if waiting:
        yield np.concatenate(rows), np.concatenate(weights)
    elif not done:
        raise ValueError("the data have no chunks")


@dataclasses.dataclass(frozen=True)
class _Source:
    """Chunks, and how they go to this process's devices."""

    chunks: Iterable[Chunk]
    program: Program

    @property
    def size(self) -> int:
        return self.program.layout.rows * self.program.mesh.size

    def statistics(self, problem: Problem, gmm: Any) -> Statistics:
        """E-step over all rows of this process."""
        total = None
        for x, weights in blocks(self.chunks, self.size):
            placed = problem.placed(self.program, x, weights)
            # The last block has to be done before another: no more than two are in memory.
            jax.block_until_ready(total)
            part = self.program.statistics(gmm, *placed)
            total = part if total is None else _merge(total, part)
        assert total is not None
        return total

    def log_likelihood(self, problem: Problem, gmm: Any, mesh: Mesh) -> float:
        """Mean log-density of all rows of all processes."""
        sums = np.zeros(2)
        for x, weights in blocks(self.chunks, self.size):
            placed = problem.placed(self.program, x, weights)
            weight = weights.sum()
            if weight > 0:
                mean = float(self.program.mean_log_likelihood(gmm, *placed))
                sums += weight * mean, weight
        total, weight = np.sum(gather(sums, mesh), axis=0)
        return float(total / weight)


_merge = jax.jit(Statistics.merge)


def _over_processes(statistics: Statistics, mesh: Mesh) -> Statistics:
    """Statistics of the rows of all processes of the mesh."""
    if not spans_processes(mesh):
        return statistics
    gathered = {name: gather(a, mesh) for name, a in vars(to_host(statistics)).items()}
    processes = len(gathered["counts"])
    leaves: list[dict[str, Any]] = [
        {name: every[i] for name, every in gathered.items()} for i in range(processes)
    ]
    parts = [Statistics(**part) for part in leaves]
    return functools.reduce(_merge, parts)


@functools.cache
def _next(structure: Structure) -> Callable[..., EMState]:
    return jax.jit(functools.partial(next_state, structure))


def _source(chunks: Iterable[Chunk], structure: Structure, mesh: Mesh, block_rows: int) -> _Source:
    """The chunks, for this process's devices of the mesh."""
    local = [d for d in mesh.devices.flat if d.process_index == jax.process_index()]
    layout = Layout.of(block_rows, local[0].platform)
    return _Source(chunks, Program.of(data_mesh(local), structure, layout))


def fit_stream(
    key: Array,
    chunks: Iterable[Chunk],
    num_components: int = 5,
    covariance_type: str = "full",
    *,
    rank: int = 0,
    shrinkage: str = "none",
    start: str = "kmeans",
    means: np.ndarray | None = None,
    max_iters: int = 200,
    tol: float = 1e-3,
    reg_covar: float | None = None,
    mesh: Mesh | None = None,
    block_rows: int = BLOCK_ROWS,
    checkpoint: Path | None = None,
    observe: Observer | None = None,
) -> Fit:
    """Fits a mixture by exact EM to rows that are read again for every iteration.

    The same as `fit` of all rows together, up to rounding; one pass over the chunks before the
    first iteration (moments, a sample for the start), one in each, one at the end.

    Args:
        key: as of `fit`.
        chunks: arrays [n, D] of any lengths, or pairs of such an array and weights [n], that can be
            iterated again and again: a memory-mapped array, a list, a Grain data set. Those of this
            process, where the mesh has devices of several.
        num_components: as of `fit`, like all that follows.
        covariance_type: see `fit`.
        rank: see `fit`.
        shrinkage: see `fit`.
        start: see `fit`.
        means: see `fit`.
        max_iters: see `fit`.
        tol: see `fit`.
        reg_covar: see `fit`.
        mesh: see `fit`.
        block_rows: rows of one device in memory at once.
        checkpoint: file in which the state is saved after every iteration; the same call continues
            from it.
        observe: see `fit`.

    Returns:
        The mixture and how the fit went.

    Raises:
        ValueError: unsuitable arguments or data; chunks that can be read only once.
    """
    structure = Structure(covariance_type, rank, shrinkage)
    check_options(start, 1, max_iters, tol, reg_covar)
    if iter(chunks) is chunks:
        raise ValueError(
            "exact EM reads the chunks once for every iteration, and these can be read only once: "
            "give a list, a memory-mapped array or a data set, or use fit_stepwise"
        )
    mesh = mesh or data_mesh()
    source = _source(chunks, structure, mesh, block_rows)
    rng = generator(key, jax.process_index())
    moments: Moments | None = None
    sample: Sample | None = None
    matrix = needs_matrix(structure)
    for x, weights in blocks(chunks, source.size):
        if sample is None:
            structure.check(x.shape[1])
        part, drawn = moments_of(x, weights, matrix), Sample.of(rng, x, weights)
        if part is not None:  # a block may be masked as a whole
            moments = part if moments is None else moments.merge(part)
        sample = drawn if sample is None else sample.merge(drawn)
    assert sample is not None
    columns, dtype = sample.rows.shape[1], compute_dtype(sample.rows)
    moments = of_all_processes(moments, columns, matrix, mesh)
    problem = Problem.of(structure, num_components, moments, reg_covar, dtype)
    identity = problem.identity(key, start, means, mesh)
    progress = Progress(checkpoint, {**identity, "tol": tol})
    state = progress.state
    if state is None:
        state = problem.start(key, sample.over_processes(mesh), start, means)
    # As it comes out of an iteration, so that everything is compiled once.
    state = replicate(state, source.program.mesh)
    step = _next(structure)
    while not progress.finished(max_iters):
        statistics = _over_processes(source.statistics(problem, state.gmm), mesh)
        state = step(state, statistics, problem.regulariser, np.asarray(tol, dtype))
        progress.advance(state, np.asarray(state.log_likelihood)[None], problem.frame, observe)
    mean = source.log_likelihood(problem, state.gmm, mesh)
    return problem.result(state, progress.history, mean)


@functools.cache
def _averaged(structure: Structure) -> Callable[..., tuple[EMState, Statistics]]:
    """One step of stepwise EM, compiled."""

    def step(
        state: EMState,
        running: Statistics,
        batch: Statistics,
        gain: Array,
        rows: Array,
        regulariser: Array,
    ) -> tuple[EMState, Statistics]:
        share = gain / batch.weight
        mixed = jax.tree.map(lambda old, new: (1 - gain) * old + share * new, running, batch)
        # As if all rows so far looked like the average; but for the row to start again from.
        total = jax.tree.map(lambda a: a * rows, mixed)
        total = total.replace(
            rows=rows, worst_density=batch.worst_density, worst_row=batch.worst_row
        )
        gmm, about_new, reseeded, jitter, shrinkage = maximise(
            structure, total, state.gmm.means, state.reseeded, regulariser
        )
        state = state.replace(  # type: ignore[attr-defined]
            gmm=gmm,
            log_likelihood=batch.mean_log_likelihood,
            iteration=state.iteration + 1,
            reseeded=reseeded,
            jitter=jitter,
            shrinkage=shrinkage,
            counts=total.counts,
        )
        return state, jax.tree.map(lambda a: a / rows, about_new)

    return jax.jit(step)


def fit_stepwise(
    key: Array,
    chunks: Iterable[Chunk],
    num_components: int = 5,
    covariance_type: str = "full",
    *,
    rank: int = 0,
    shrinkage: str = "none",
    start: str = "kmeans",
    means: np.ndarray | None = None,
    decay: float = 0.6,
    reg_covar: float | None = None,
    mesh: Mesh | None = None,
    block_rows: int = BLOCK_ROWS,
    checkpoint: Path | None = None,
    observe: Observer | None = None,
) -> Fit:
    """Fits a mixture by stepwise EM to rows that are seen once.

    After block t = 1, 2, ... the running average of the sufficient statistics moves by t^-decay
    towards those of the block, and the M-step follows. Working coordinates and start are those of
    the first block, so that should be a fair sample.

    Args:
        key: as of `fit`.
        chunks: arrays [n, D] of any lengths, or pairs of such an array and weights [n]; read once.
            Several passes are as good as more data: `itertools.chain(chunks, chunks)`.
        num_components: as of `fit`.
        covariance_type: see `fit`.
        rank: see `fit`.
        shrinkage: see `fit`.
        start: see `fit`.
        means: see `fit`.
        decay: in (0.5, 1]: the smaller, the sooner the start is forgotten and the noisier the end.
        reg_covar: see `fit`.
        mesh: see `fit`.
        block_rows: rows of one device that make one step.
        checkpoint: file in which the state is saved after every block; the same call with the same
            chunks from the beginning continues, and passes over the blocks that it has seen.
        observe: see `fit`; called after every block with the log-likelihood of the block before it.

    Returns:
        The mixture and how the fit went; `history` has the mean log-likelihood of every block under
        the mixture before it, `log_likelihood` its last value, `converged` is False.

    Raises:
        ValueError: unsuitable arguments or data.

    References:
        Cappe & Moulines, "On-line expectation-maximization algorithm for latent data models",
        Journal of the Royal Statistical Society B 71 (2009).
    """
    structure = Structure(covariance_type, rank, shrinkage)
    check_options(start, 1, 0, 0.0, reg_covar)
    if not 0.5 < decay <= 1:
        raise ValueError(f"decay = {decay} must lie in (0.5, 1], or the average does not settle")
    mesh = mesh or data_mesh()
    if spans_processes(mesh):
        raise ValueError("stepwise EM runs in one process: give a mesh of its own devices")
    source = _source(chunks, structure, mesh, block_rows)
    problem: Problem | None = None
    state: Any = None  # an EMState, after the first block
    seen = 0
    used = (block for block in blocks(chunks, source.size) if (block[1] > 0).any())
    for number, (x, weights) in enumerate(used):
        if problem is None:
            structure.check(x.shape[1])
            moments = merged([moments_of(x, weights, needs_matrix(structure))])
            problem = Problem.of(structure, num_components, moments, reg_covar, compute_dtype(x))
            identity = problem.identity(key, start, means, mesh)
            steps = {"decay": decay, "rows_a_step": source.size}
            progress = Progress(checkpoint, {**identity, **steps})
            state, running = progress.state, progress.running
            if state is None:
                sample = Sample.of(generator(key, 0), x, weights)
                state = problem.start(key, sample, start, means)
            state = replicate(state, source.program.mesh)
        seen += int((weights > 0).sum())
        if number < len(progress.history):
            continue
        batch = source.program.statistics(state.gmm, *problem.placed(source.program, x, weights))
        if running is None:
            running = jax.tree.map(jnp.zeros_like, batch)
        numbers = (np.asarray(v, problem.dtype) for v in ((number + 1) ** -decay, seen))
        state, running = _averaged(structure)(state, running, batch, *numbers, problem.regulariser)
        latest = np.asarray(state.log_likelihood)[None]
        progress.advance(state, latest, problem.frame, observe, running)
    if problem is None:
        raise ValueError("every row is masked: no row has a weight greater than zero")
    problem = dataclasses.replace(problem, rows=seen)
    return problem.result(state, progress.history, progress.history[-1])
