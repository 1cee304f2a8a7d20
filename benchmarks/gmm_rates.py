"""Iterations of our EM with their floating-point operations, and the machine's rate of products.

The one place of the benchmarks that calls the inside of `exif_jax.gmm`: rows stay in place while
iterations are timed, and tiles that they pass over are counted.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gmm_data import COMPONENTS, REG_COVAR
from jax import Array, lax
from jax.scipy.special import logsumexp

from exif_jax.gmm import GaussianMixture, Structure
from exif_jax.gmm.frame import Frame
from exif_jax.gmm.linalg import NEGLIGIBLE, column_blocks, dot
from exif_jax.gmm.maximisation import EMState, next_state
from exif_jax.gmm.mixture import log_joint
from exif_jax.gmm.problem import Problem
from exif_jax.gmm.rows import Layout
from exif_jax.gmm.sources import Rows
from exif_jax.training.mapping import REPLICATED, data_mesh, over_devices, replicate


class OurIterations:
    """EM from an M-step on given responsibilities, rows in place."""

    def __init__(
        self, x: np.ndarray, responsibilities: np.ndarray, iterations: int, dtype: str
    ) -> None:
        """The same preparations as `gmm.fit`, for a run of so many iterations."""
        self._dtype, self._iterations = dtype, iterations
        structure, mesh = Structure(), data_mesh()
        with jax.enable_x64(dtype == "float64"):
            self._source = Rows.of(x.astype(dtype, copy=False), structure, mesh)
            moments, _ = self._source.survey(jax.random.key(0))
            frame = Frame.of(moments, structure, REG_COVAR)
            self._problem = Problem(structure, COMPONENTS, frame, np.dtype(dtype), moments.rows)
            (self._rows,), (block,) = self._source.placed(self._problem)(), self._source.blocks()
            start = self._problem.first_state(self._source.program, block, responsibilities)
        self._start = replicate(start, mesh)

    def run(self) -> np.ndarray:
        """Mean log-likelihood of the data before every iteration."""
        history, state = [], self._start
        for _ in range(self._iterations):
            state = self._step(state)
            history.append(float(state.log_likelihood))
        return np.array(history) + self._problem.frame.log_scale

    def _step(self, state: EMState) -> EMState:
        with jax.enable_x64(self._dtype == "float64"):
            statistics = self._source.statistics([self._rows], state.gmm)
            tolerance = np.zeros((), self._dtype)
            result: EMState = next_state(
                self._problem.structure, state, statistics, self._problem.regulariser, tolerance
            )
        return result

    def operations(self) -> float:
        """Floating-point operations of an iteration, mean over those of a run.

        Counted are the E-step's and the M-step's products with rows, factors and inverses.
        """
        padded, columns = self._rows[0].shape
        per_row = 2 * sum((b - a) * b for a, b in column_blocks(columns))
        factors = COMPONENTS * 2 * columns**3 / 3
        always = per_row * padded * COMPONENTS + 2 * padded * COMPONENTS * columns + factors
        layout = self._source.program.layout
        if not layout.tile:
            return always + per_row * padded * COMPONENTS
        state, visited = self._start, 0
        for _ in range(self._iterations):
            with jax.enable_x64(self._dtype == "float64"):
                visited += int(_rows_visited(layout, state.gmm, *self._rows))
            state = self._step(state)
        return always + per_row * visited / self._iterations


@partial(jax.jit, static_argnums=0)
def _rows_visited(layout: Layout, gmm: GaussianMixture, x_ND: Array, weights_N: Array) -> Array:
    """Rows in tiles that `linalg.scatter` does not pass over, summed over the components, []."""

    def of_chunk(part: tuple[Array, Array]) -> Array:
        x, weights = part
        parts = log_joint(gmm, x)
        weighted = weights[:, None] * jnp.exp(parts - logsumexp(parts, axis=1, keepdims=True))
        ordered = weighted[jnp.argsort(parts.argmax(axis=1))]
        tiles = ordered.reshape(-1, layout.tile, len(gmm.weights))
        return layout.tile * (tiles > NEGLIGIBLE).any(axis=1).sum()

    chunks = x_ND.reshape(-1, layout.chunk, x_ND.shape[1]), weights_N.reshape(-1, layout.chunk)
    return lax.map(of_chunk, chunks).sum()


def product_tasks(sizes: Any, dtypes: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """[N, D] @ [D, D] and then [D, N] @ [N, D], `sizes.steps` times: what the machine can do.

    On the first device, and on a CPU with NumPy too.
    """
    x64 = np.random.default_rng(0).normal(size=(sizes.product, sizes.columns))
    # Times the largest eigenvalue of x^T x / scale, one: repeated, nothing overflows.
    scale = float((np.sqrt(sizes.product) + np.sqrt(sizes.columns)) ** 2)
    mesh = data_mesh(jax.local_devices()[:1])

    def in_xla(x_ND: Array, square_DD: Array) -> Array:
        def step(_: Array, square_DD: Array) -> Array:
            return dot(x_ND.T, dot(x_ND, square_DD)) / scale

        return lax.fori_loop(0, sizes.steps, step, square_DD)

    def in_numpy(x_ND: np.ndarray, square_DD: np.ndarray) -> None:
        for _ in range(sizes.steps):
            square_DD = x_ND.T @ (x_ND @ square_DD) / scale

    def run(compiled: Callable[..., Any], x: Any, square: np.ndarray) -> Any:
        with jax.enable_x64(square.dtype == np.float64):
            return compiled(x, square)

    tasks: dict[str, Callable[[], Any]] = {}
    for dtype in dtypes:
        x, square = x64.astype(dtype), np.eye(sizes.columns, dtype=dtype)
        with jax.enable_x64(dtype == "float64"):
            compiled = over_devices(in_xla, mesh, (REPLICATED, REPLICATED), REPLICATED)
            on_device = jax.device_put(x, mesh.devices.flat[0])
        tasks[f"XLA products {dtype}"] = partial(run, compiled, on_device, square)
        if jax.default_backend() == "cpu":
            tasks[f"NumPy products {dtype}"] = partial(in_numpy, x, square)
    return tasks


def product_rate(sizes: Any, dtype: str, seconds: Mapping[str, np.ndarray]) -> np.ndarray:
    """Operations per second of all devices in every turn of these tasks, by the better library."""
    # Virtual devices of one processor share its cores.
    devices = 1 if jax.default_backend() == "cpu" else jax.device_count()
    operations = 4 * sizes.product * sizes.columns**2 * sizes.steps * devices
    both = [times for name, times in seconds.items() if name.endswith(f"products {dtype}")]
    return operations / np.minimum.reduce(both)
