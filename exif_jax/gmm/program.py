"""EM as functions of one device's rows, mapped over the devices of a mesh."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.linalg import dot
from exif_jax.gmm.maximisation import EMState, maximise
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.rows import Layout
from exif_jax.gmm.statistics import Statistics, about_responsibilities, of_rows
from exif_jax.training.mapping import AXIS, REPLICATED, SHARDED, over_devices


def _mapped(*specs: PartitionSpec, out: PartitionSpec = REPLICATED) -> Callable[..., Any]:
    """Maps a method, written for one device's rows, over the devices of its program."""

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        # Comparing many candidates would otherwise hold the programs of all of them.
        @lru_cache(maxsize=32)
        def compiled(program: "Program") -> Callable[..., Any]:
            return over_devices(partial(method, program), program.mesh, specs, out)

        def call(program: "Program", *arguments: Any) -> Any:
            return compiled(program)(*arguments)

        call.mapped = compiled  # type: ignore[attr-defined]  # to lower it for other hardware
        return wraps(method)(call)

    return decorate


@dataclasses.dataclass(frozen=True)
class Program:
    """EM's functions, compiled when first called.

    Attributes:
        mesh: over whose devices rows and responsibilities are divided.
        structure: of the covariances.
        layout: of the rows of one device.
    """

    mesh: Mesh
    structure: Structure
    layout: Layout

    @_mapped(SHARDED, REPLICATED, out=SHARDED)
    def whiten(self, x: Array, upper_DD: Array) -> Array:
        """Rows in working coordinates."""
        return dot(x, upper_DD)

    @_mapped(SHARDED, SHARDED, REPLICATED)
    def first(self, x: Array, weighted_NK: Array, regulariser: Array) -> EMState:
        """State after an M-step from given responsibilities (0 in masked rows)."""
        counts = lax.psum(weighted_NK.sum(axis=0), AXIS)
        sums = lax.psum(dot(weighted_NK.T, x), AXIS)
        means = sums / jnp.where(counts > 0, counts, 1)[:, None]

        def part(x: Array, weighted: Array) -> Statistics:
            return about_responsibilities(self.structure, x, weighted, means, 0)

        statistics = self._scan(part, x, weighted_NK).over_devices()
        reseeded = jnp.zeros(len(counts), jnp.int32)
        return maximise(self.structure, statistics, means, reseeded, regulariser)

    @_mapped(REPLICATED, SHARDED, SHARDED)
    def statistics(self, gmm: GaussianMixture, x: Array, mask: Array) -> Statistics:
        """E-step over the rows of all devices."""
        part = partial(of_rows, self.structure, gmm, tile=self.layout.tile)
        return self._scan(part, x, mask).over_devices()

    @_mapped(SHARDED)
    def total(self, parts: Statistics) -> Statistics:
        """Sum of [devices] statistics."""
        return jax.tree.map(lambda a: a[0], parts).over_devices()

    def _scan(self, function: Callable[..., Statistics], *rows: Array) -> Statistics:
        """Statistics of all chunks of this device's rows, from those of one."""
        layout = self.layout
        if layout.chunks == 1:
            return function(*rows)
        chunks = [a.reshape(layout.chunks, layout.chunk, *a.shape[1:]) for a in rows]
        shapes = jax.eval_shape(function, *(a[0] for a in chunks))
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        return lax.scan(lambda sum, part: (sum.merge(function(*part)), None), nothing, chunks)[0]
