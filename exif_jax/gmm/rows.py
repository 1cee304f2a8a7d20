"""Rows on their way to the devices: checks, layout in chunks, the part of each process."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from exif_jax.training import shares
from exif_jax.training.mapping import shard

_CHUNK = {"cpu": 2048}  # rows whose E- and M-step are done together
_CHUNK_ELSEWHERE = 16384
_TILE = {"cpu": 128}  # see `linalg.scatter`; accelerators would wait for each tile's decision
_FEWEST = 8  # rows of the smallest layout


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the rows of one device are divided.

    Attributes:
        chunks: number of chunks.
        chunk: rows in each.
        tile: see `linalg.scatter`.
    """

    chunks: int
    chunk: int
    tile: int

    @classmethod
    def of(cls, rows: int, platform: str) -> "Layout":
        """A layout for at least so many rows; few different ones, so that little is compiled."""
        tile = _TILE.get(platform, 0)
        if rows <= (tile or 128):
            return cls(1, max(_FEWEST, 1 << (rows - 1).bit_length()), 0)
        unit = tile or 128
        chunks = -(-rows // _CHUNK.get(platform, _CHUNK_ELSEWHERE))
        return cls(chunks, -(-rows // (chunks * unit)) * unit, tile)

    @property
    def rows(self) -> int:
        """Rows of one device, padding included."""
        return self.chunks * self.chunk


def checked(x: Any, first: int = 0, empty: bool = False) -> np.ndarray:
    """Rows as given, the `first` of that number in messages.

    Raises:
        ValueError: another shape or type, NaN or infinity (says in which row), no rows unless there
            may be none.
    """
    x = x if isinstance(x, np.ndarray) else np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"the data must be [rows, columns], not {x.shape}")
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"the data must be floats, not {x.dtype}")
    if not (len(x) or empty) or not x.shape[1]:
        raise ValueError(f"the data must have rows and columns, not {x.shape}")
    bad = [
        start + np.flatnonzero(~np.isfinite(x[start : start + 8192]).all(axis=1))
        for start in range(0, max(len(x), 1), 8192)
    ]
    rows = np.concatenate(bad)
    if len(rows):
        raise ValueError(
            f"{len(rows)} rows hold NaN or infinity, the first is row {first + rows[0]}: "
            "leave them out"
        )
    return x


def place(x: np.ndarray, layout: Layout, mesh: Mesh) -> tuple[Array, Array]:
    """This process's rows over its devices of the mesh, padded with zeros; 1 for each row of x."""
    rows = len(local_devices(mesh)) * layout.rows
    padded = np.zeros((rows, *x.shape[1:]), x.dtype)
    padded[: len(x)] = x
    mask = (np.arange(rows) < len(x)).astype(x.dtype)
    placed: tuple[Array, Array] = shard((padded, mask), mesh)
    return placed


def local_devices(mesh: Mesh) -> list[jax.Device]:
    """This process's devices of the mesh."""
    return [d for d in mesh.devices.flat if d.process_index == jax.process_index()]


def gather(arrays: Mapping[str, Any], mesh: Mesh) -> list[dict[str, np.ndarray]]:
    """Arrays by name of every process of the mesh, in order, bit by bit.

    If it has devices of several processes, each of them holds rows of its own.
    """
    if len(local_devices(mesh)) == mesh.size:
        return [{name: np.asarray(a) for name, a in arrays.items()}]
    return shares.gather(arrays)
