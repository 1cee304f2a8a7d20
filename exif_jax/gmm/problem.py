"""A fit without its rows and its progress: working coordinates, starts, results."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.frame import Frame
from exif_jax.gmm.maximisation import MOST_RESEEDS, EMState
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.program import Program
from exif_jax.gmm.rows import Layout, gather, place
from exif_jax.gmm.start import kmeans_responsibilities, nearest_centre
from exif_jax.training.mapping import data_mesh, to_host

_FEW_ROWS = 10  # numbers in the data for each parameter, under which a fit is doubtful


@dataclasses.dataclass(frozen=True)
class Fit:
    """Result of a fit.

    Attributes:
        gmm: the fitted mixture, arrays in host memory.
        log_likelihood: mean log-density of the rows under it, in nats.
        history: the same before each iteration, [iterations].
        converged: whether EM stopped by the tolerance.
        warnings: what to know before trusting it, components by number; empty if all is well.
        rows: that were fitted.
        jitter: added to the diagonal of covariances that could not be factorised, in units of the
            data's variance, [K].
        reseeded: how often each component was empty and started again, [K].
        shrinkage: share of the Ledoit-Wolf target in each covariance, [K].
    """

    gmm: GaussianMixture
    log_likelihood: float
    history: np.ndarray
    converged: bool
    warnings: tuple[str, ...]
    rows: int
    jitter: np.ndarray
    reseeded: np.ndarray
    shrinkage: np.ndarray

    @property
    def rows_per_parameter(self) -> float:
        """Numbers in the data for each number that was estimated; below 10 is little."""
        return self.rows * self.gmm.means.shape[1] / self.gmm.num_parameters


@dataclasses.dataclass(frozen=True)
class Problem:
    """Everything about a fit but its rows and its progress.

    Attributes:
        structure: of the covariances.
        components: K.
        frame: working coordinates.
        dtype: of the computation.
        rows: of all processes.
    """

    structure: Structure
    components: int
    frame: Frame
    dtype: np.dtype
    rows: int

    def __post_init__(self) -> None:
        """Raises a ValueError if there are fewer rows than components."""
        if self.components < 1:
            raise ValueError(f"{self.components} components: at least one is needed")
        if self.components > self.rows:
            raise ValueError(
                f"{self.components} components need at least as many rows, not {self.rows}"
            )

    @property
    def regulariser(self) -> np.ndarray:
        """In working coordinates and the precision of the computation."""
        return np.asarray(self.frame.regulariser, self.dtype)

    def placed(self, program: Program, x: np.ndarray) -> tuple[Array, Array]:
        """Rows in working coordinates on the devices, and the mask that leaves out padding."""
        centred = self.frame.centred(x, self.dtype)
        rows, mask = place(centred, program.layout, program.mesh)
        if self.frame.upper is not None:
            rows = program.whiten(rows, self.frame.upper.astype(self.dtype))
        return rows, mask

    def first_state(
        self, program: Program, x: np.ndarray, responsibilities_NK: np.ndarray
    ) -> EMState:
        """State after an M-step from responsibilities of this process's rows."""
        check_array("responsibilities", responsibilities_NK, (len(x), self.components))
        rows, _ = self.placed(program, x)
        given = np.asarray(responsibilities_NK, self.dtype)
        placed, _ = place(given, program.layout, program.mesh)
        return program.first(rows, placed, self.regulariser)

    def start(
        self, key: Array, sample: np.ndarray, means: np.ndarray | None, device: jax.Device
    ) -> EMState:
        """State after an M-step on a sample of all rows, in host memory.

        Args:
            key: of the k-means++ seeding.
            sample: of the rows, the same on every process.
            means: [K, D]; if given, EM starts from them and the rows nearest to each.
            device: one alone, so that any number of devices starts alike.
        """
        if means is None:
            nearest = kmeans_responsibilities(key, self._alike(sample), self.components)
        else:
            check_array("means", means, (self.components, sample.shape[1]))
            nearest = nearest_centre(self._alike(sample), self._alike(means))
        layout = Layout.of(len(sample), device.platform)
        program = Program(data_mesh([device]), self.structure, layout)
        state = to_host(self.first_state(program, sample, np.asarray(nearest)))
        if means is None:
            return state
        inner = self.frame.centred(means, np.dtype(np.float64))
        inner = inner if self.frame.upper is None else inner @ self.frame.upper
        gmm = state.gmm.replace(means=inner.astype(self.dtype))
        return state.replace(gmm=gmm)

    def _alike(self, x: np.ndarray) -> Array:
        """The data's own geometry, as published for k-means; scaled as a whole for the range.

        In float32 always: the start is rough, and so the same in both precisions.
        """
        spread = float(np.sqrt(np.square(self.frame.scale).mean()))
        return jnp.asarray((x - self.frame.mean) / spread, jnp.float32)

    def identity(self, key: Array, given: np.ndarray | None, mesh: Mesh) -> dict[str, Any]:
        """What a saved state must agree on to be continued.

        Args:
            key: of the start.
            given: means or responsibilities to start from, or None.
            mesh: over whose processes these are divided.
        """
        start = "kmeans"
        if given is not None:
            digest = hashlib.sha256(np.asarray(given, np.float64).tobytes()).digest()
            every = gather({"digest": np.frombuffer(digest, np.uint8)}, mesh)
            joined = b"".join(part["digest"].tobytes() for part in every)
            start = hashlib.sha256(joined).hexdigest()[:16]
        return {
            **dataclasses.asdict(self.structure),
            "components": self.components,
            "dtype": self.dtype.name,
            "rows": self.rows,
            "data": self.frame.fingerprint,
            "start": start,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
        }

    def result(self, state: EMState, history: Sequence[float], log_likelihood: float) -> Fit:
        """The result in the data's coordinates."""
        state = to_host(state)
        offset = self.frame.log_scale
        result = Fit(
            gmm=self.frame.outward(state.gmm),
            log_likelihood=log_likelihood + offset,
            history=np.asarray(history, np.float64) + offset,
            converged=bool(state.converged),
            warnings=(),
            rows=self.rows,
            jitter=np.asarray(state.jitter),
            reseeded=np.asarray(state.reseeded),
            shrinkage=np.asarray(state.shrinkage),
        )
        found = warnings_of(result, self.structure, np.asarray(state.counts))
        return dataclasses.replace(result, warnings=found)


def warnings_of(fit: Fit, structure: Structure, counts: np.ndarray) -> tuple[str, ...]:
    """What to know before trusting a fit.

    Raises:
        ValueError: the mixture is not finite.
    """
    bad = [k for k, mean in enumerate(np.asarray(fit.gmm.means)) if not np.isfinite(mean).all()]
    if bad or not np.isfinite(fit.log_likelihood):
        raise ValueError(
            f"the mixture is not finite (components {bad}): values near overflow? rescale the data"
        )
    columns = fit.gmm.means.shape[1]
    found = []
    for k, (jitter, reseeded, count) in enumerate(
        zip(fit.jitter, fit.reseeded, counts, strict=True)
    ):
        if count < 0.5:
            found.append(f"component {k} is empty: take fewer components")
        elif structure.covariance_type == "full" and count <= columns:
            found.append(
                f"component {k} holds {count:.1f} rows of {columns} columns: its covariance is "
                "singular but for the regularisation"
            )
        if jitter > 0:
            found.append(
                f"component {k}: its covariance could not be factorised; {jitter:.2g} of the "
                "data's variance was added to its diagonal"
            )
        if reseeded:
            found.append(
                f"component {k} was empty and started again {reseeded} times"
                + (", the most that is done" if reseeded >= MOST_RESEEDS else "")
            )
    if fit.rows_per_parameter < _FEW_ROWS:
        found.append(
            f"{fit.rows} rows are few: {fit.rows_per_parameter:.2g} numbers in the data for each "
            f"of {fit.gmm.num_parameters} parameters; take fewer columns (principal components), "
            "fewer components, diag, low_rank or shrinkage, and choose by held-out rows"
        )
    return tuple(found)


def check_array(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless an array has this shape and finite numbers."""
    if np.shape(value) != shape:
        raise ValueError(f"{name} must be {list(shape)}, not {list(np.shape(value))}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} hold NaN or infinity")
