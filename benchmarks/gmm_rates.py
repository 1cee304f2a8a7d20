"""Iterations of our EM with their floating-point operations, and the machine's rate of products.

The one place of the benchmarks that calls the inside of `exif_jax.gmm`: rows stay in place while
iterations are timed, and tiles that they pass over are counted.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gmm_data import COMPONENTS, REG_COVAR, precision
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


@dataclasses.dataclass(frozen=True)
class OurIterations:
    """EM from an M-step on given responsibilities, rows in place.

    Attributes:
        dtype: of the computation.
        problem: what is fitted.
        source: the rows, and EM's functions over the devices.
        rows: on the devices, and their weights.
        state: after the M-step.
        iterations: of a run.
    """

    dtype: str
    problem: Problem
    source: Rows
    rows: tuple[Array, Array]
    state: EMState
    iterations: int

    @classmethod
    def of(
        cls, x: np.ndarray, responsibilities: np.ndarray, iterations: int, dtype: str
    ) -> "OurIterations":
        """The same preparations as `gmm.fit`."""
        structure, mesh = Structure(), data_mesh()
        with precision(dtype):
            source = Rows.of(x.astype(dtype, copy=False), structure, mesh)
            moments, _ = source.survey(jax.random.key(0))
            frame = Frame.of(moments, structure, REG_COVAR)
            problem = Problem(structure, COMPONENTS, frame, np.dtype(dtype), moments.rows)
            (rows,), (block,) = source.placed(problem)(), source.blocks()
            state = problem.first_state(source.program, block, responsibilities)
        return cls(dtype, problem, source, rows, replicate(state, mesh), iterations)

    def run(self) -> np.ndarray:
        """Mean log-likelihood of the data before every iteration."""
        history, state = [], self.state
        for _ in range(self.iterations):
            state = self._step(state)
            history.append(float(state.log_likelihood))
        return np.array(history) + self.problem.frame.log_scale

    def _step(self, state: EMState) -> EMState:
        with precision(self.dtype):
            statistics = self.source.statistics([self.rows], state.gmm)
            tolerance = np.zeros((), self.dtype)
            result: EMState = next_state(
                self.problem.structure, state, statistics, self.problem.regulariser, tolerance
            )
        return result

    def operations(self) -> float:
        """Floating-point operations of an iteration, mean over those of a run.

        Counted are the E-step's and the M-step's products with rows, factors and inverses.
        """
        padded, columns = self.rows[0].shape
        per_row = 2 * sum((b - a) * b for a, b in column_blocks(columns))
        factors = COMPONENTS * 2 * columns**3 / 3
        always = per_row * padded * COMPONENTS + 2 * padded * COMPONENTS * columns + factors
        layout = self.source.program.layout
        if not layout.tile:
            return always + per_row * padded * COMPONENTS
        state, visited = self.state, 0
        for _ in range(self.iterations):
            with precision(self.dtype):
                visited += int(_rows_visited(layout, state.gmm, *self.rows))
            state = self._step(state)
        return always + per_row * visited / self.iterations


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


def product_tasks(
    columns: int, rows: int, steps: int, dtypes: tuple[str, ...]
) -> dict[str, Callable[[], Any]]:
    """Tasks of `take_turns`: [N, D] @ [D, D] and then [D, N] @ [N, D], `steps` times."""
    x64 = np.random.default_rng(0).normal(size=(rows, columns))
    # Times the largest eigenvalue of x^T x / scale, one: repeated, nothing overflows.
    scale = float((np.sqrt(rows) + np.sqrt(columns)) ** 2)
    mesh = data_mesh(jax.local_devices()[:1])

    def in_xla(x_ND: Array, square_DD: Array) -> Array:
        def step(_: Array, square_DD: Array) -> Array:
            return dot(x_ND.T, dot(x_ND, square_DD)) / scale

        return lax.fori_loop(0, steps, step, square_DD)

    def in_numpy(x_ND: np.ndarray, square_DD: np.ndarray) -> None:
        for _ in range(steps):
            square_DD = x_ND.T @ (x_ND @ square_DD) / scale

    def task(dtype: str, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        def run() -> Any:
            with precision(dtype):
                return function(*arguments)

        return run

    tasks: dict[str, Callable[[], Any]] = {}
    for dtype in dtypes:
        x, square = x64.astype(dtype), np.eye(columns, dtype=dtype)
        with precision(dtype):
            compiled = over_devices(in_xla, mesh, (REPLICATED, REPLICATED), REPLICATED)
            on_device = jax.device_put(x, mesh.devices.flat[0])
        tasks[f"XLA products {dtype}"] = task(dtype, compiled, on_device, square)
        if jax.default_backend() == "cpu":
            tasks[f"NumPy products {dtype}"] = task(dtype, in_numpy, x, square)
    return tasks


def measured_rates(
    columns: int, rows: int, steps: int, seconds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Operations per second of all devices in every turn, by precision: the better library's."""
    # Virtual devices of one processor share its cores.
    devices = 1 if jax.default_backend() == "cpu" else jax.device_count()
    operations = 4 * rows * columns**2 * steps * devices
    rates: dict[str, np.ndarray] = {}
    for name, times in seconds.items():
        if "products" in name:
            dtype = name.split()[-1]
            rates[dtype] = np.maximum(rates.get(dtype, 0), operations / times)
    return rates
