"""Rows to fit: in the devices' memory, or read again in blocks for every iteration."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.frame import Moments, moments_of
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.problem import Problem
from exif_jax.gmm.program import Program
from exif_jax.gmm.rows import Layout, checked, gather, local_devices
from exif_jax.gmm.start import Sample, generator
from exif_jax.gmm.statistics import Statistics
from exif_jax.training.mapping import data_mesh, shard, to_host
from exif_jax.training.shares import meet


@dataclasses.dataclass(frozen=True)
class Stream:
    """More rows than fit into memory.

    Attributes:
        chunks: arrays [n, D] of any lengths that can be iterated again and again: a memory-mapped
            array, a list, a Grain data set. Those of this process, where the mesh has devices of
            several.
        block_rows: rows of one device in memory at once.
        first: rows that the processes before this one have.
    """

    chunks: Iterable[np.ndarray]
    block_rows: int = 32768
    first: int = 0

    def blocks(self, size: int) -> Iterator[np.ndarray]:
        """Rows in blocks of exactly `size`, the last one shorter.

        Raises:
            ValueError: a chunk without rows, of another width or type, or with NaN or infinity.
        """
        waiting: list[np.ndarray] = []
        length = done = 0
        first: np.ndarray | None = None
        for number, chunk in enumerate(self._parts(size)):
            x = chunk if isinstance(chunk, np.ndarray) else np.asarray(chunk)
            if not len(x):
                raise ValueError(f"chunk {number} has no rows")
            x = checked(x, first=done)
            first = x[:0] if first is None else first
            if x.shape[1] != first.shape[1] or x.dtype != first.dtype:
                raise ValueError(
                    f"chunk {number} has {x.shape[1]} columns of {x.dtype}, the first had "
                    f"{first.shape[1]} of {first.dtype}"
                )
            done += len(x)
            length += len(x)
            waiting.append(x)
            while length >= size:
                x = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
                yield x[:size]
                waiting, length = [x[size:]], length - size
        if not done:
            raise ValueError("the data have no chunks")
        if length:
            yield np.concatenate(waiting)

    @property
    def columns(self) -> int:
        """D."""
        return next(self.blocks(1)).shape[1]

    def _parts(self, size: int) -> Iterator[np.ndarray]:
        """The chunks; a single array, a memory-mapped one too, in slices."""
        if isinstance(self.chunks, np.ndarray):
            for start in range(0, max(len(self.chunks), 1), size):
                yield self.chunks[start : start + size]
        else:
            yield from self.chunks


@dataclasses.dataclass(frozen=True)
class Rows:
    """This process's rows of a fit, and how they go to its devices.

    Attributes:
        blocks: gives them, again and again.
        program: over the devices that take a block at once.
        mesh: of all devices.
        stay: whether the rows stay on the devices between iterations.
        first: rows that the processes before this one have.
    """

    blocks: Callable[[], Iterable[np.ndarray]]
    program: Program
    mesh: Mesh
    stay: bool
    first: int

    @classmethod
    def of(cls, x: Any, structure: Structure, mesh: Mesh) -> "Rows":
        """Rows in memory, or a `Stream`.

        Raises:
            ValueError: see `checked`; chunks that can be read only once.
        """
        devices = local_devices(mesh)
        if not isinstance(x, Stream):
            block = checked(x, empty=len(devices) < mesh.size)
            counts = [int(part["rows"]) for part in gather({"rows": len(block)}, mesh)]
            if not any(counts):
                checked(block)
            layout = Layout.of(-(-max(counts) // len(devices)), devices[0].platform)
            first = sum(counts[: jax.process_index()]) if len(counts) > 1 else 0
            return cls(lambda: [block], Program(mesh, structure, layout), mesh, True, first)
        if iter(x.chunks) is x.chunks:
            raise ValueError(
                "EM reads the chunks once for every iteration, and these can be read only once: "
                "give a list, a memory-mapped array or a data set"
            )
        layout = Layout.of(x.block_rows, devices[0].platform)
        size = layout.rows * len(devices)
        program = Program(data_mesh(devices), structure, layout)
        return cls(lambda: x.blocks(size), program, mesh, False, x.first)

    def survey(self, key: Array) -> tuple[Moments, Sample]:
        """Moments and a sample of all processes' rows, in one pass that also checks them."""
        structure, rng = self.program.structure, generator(key, self.first)
        moments: Moments | None = None
        sample: Sample | None = None
        for x in self.blocks():
            if sample is None:
                structure.check(x.shape[1])
            moments = moments_of(x, structure.keeps == "any", moments)
            drawn = Sample.of(rng, x)
            sample = drawn if sample is None else sample.merge(drawn)
        assert moments is not None and sample is not None
        return moments.over_processes(self.mesh), sample.over_processes(self.mesh)

    def placed(self, problem: Problem) -> Callable[[], Iterable[tuple[Array, Array]]]:
        """Gives the blocks in working coordinates, on the devices."""

        def blocks() -> Iterator[tuple[Array, Array]]:
            return (problem.placed(self.program, block) for block in self.blocks())

        if not self.stay:
            return blocks
        placed = list(blocks())
        return lambda: placed

    def statistics(self, blocks: Iterable[tuple[Array, Array]], gmm: GaussianMixture) -> Statistics:
        """E-step over the rows of all processes."""
        total = None
        for x, mask in blocks:
            # The last block has to be done before another: no more than two are in memory.
            jax.block_until_ready(total)
            part = self.program.statistics(gmm, x, mask)
            total = part if total is None else _merge(total, part)
        assert total is not None
        if self.program.mesh == self.mesh:
            return total
        return self._over_processes(to_host(total))

    def _over_processes(self, own: Statistics) -> Statistics:
        """Sum of every process's statistics, in host memory."""
        count = len(local_devices(self.mesh))
        if count == self.mesh.size:
            return own
        # They lie on the first device of each; zeros stand for no rows.
        parts = jax.tree.map(lambda a: np.stack([a, *[np.zeros_like(a)] * (count - 1)]), own)
        meet()  # reading may have taken longer than collectives wait
        whole = dataclasses.replace(self.program, mesh=self.mesh)
        total: Statistics = to_host(whole.total(shard(parts, self.mesh)))
        return total


_merge = jax.jit(Statistics.merge)
