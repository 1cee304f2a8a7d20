"""Fitting a mixture to rows that fit into the devices' memory."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.frame import Frame, Moments, moments_of, needs_matrix, of_all_processes
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.program import EMState, Program
from exif_jax.gmm.progress import Observer, Progress
from exif_jax.gmm.rows import Layout, checked, gather, place
from exif_jax.gmm.start import STARTS, Sample, generator, kmeans_responsibilities, nearest_centre
from exif_jax.gmm.statistics import MOST_RESEEDS
from exif_jax.training.mapping import data_mesh, replicate, to_host

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
        rows: rows of positive weight that were fitted.
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
        rows: of positive weight, over all processes.
        unit: mean positive weight; weights are divided by it.
    """

    structure: Structure
    components: int
    frame: Frame
    dtype: np.dtype
    rows: int
    unit: float

    @classmethod
    def of(
        cls,
        structure: Structure,
        components: int,
        moments: Moments,
        reg_covar: float | None,
        dtype: np.dtype,
    ) -> "Problem":
        """The problem for data of these moments.

        Raises:
            ValueError: fewer rows than components.
        """
        if components < 1:
            raise ValueError(f"{components} components: at least one is needed")
        if components > moments.rows:
            raise ValueError(
                f"{components} components need at least as many rows, not {moments.rows}"
            )
        frame = Frame.of(moments, structure, reg_covar)
        unit = moments.weight / moments.rows
        return cls(structure, components, frame, dtype, moments.rows, unit)

    @property
    def regulariser(self) -> np.ndarray:
        """In working coordinates and the precision of the computation."""
        return np.asarray(self.frame.regulariser, self.dtype)

    def placed(self, program: Program, x: np.ndarray, weights: np.ndarray) -> tuple[Array, Array]:
        """Rows in working coordinates, and their weights, on the devices."""
        centred = self.frame.centred(x, self.dtype)
        rows, mask = place(centred, weights / self.unit, program.layout, program.mesh)
        if self.frame.upper is not None:
            rows = program.whiten(rows, self.frame.upper.astype(self.dtype))
        return rows, mask

    def first_state(
        self,
        program: Program,
        x: np.ndarray,
        weights: np.ndarray,
        responsibilities_NK: np.ndarray,
    ) -> EMState:
        """State after an M-step from responsibilities of this process's rows."""
        weighted = np.asarray(responsibilities_NK, np.float64) * (weights / self.unit)[:, None]
        rows, _ = self.placed(program, x, weights)
        ones = np.ones(len(x))
        placed, _ = place(weighted.astype(self.dtype), ones, program.layout, program.mesh)
        return program.first(rows, placed, self.regulariser)

    def start(self, key: Array, sample: Sample, start: str, means: np.ndarray | None) -> EMState:
        """State after an M-step on a sample of all rows, in host memory.

        Args:
            key: of the k-means++ seeding or of the random rows.
            sample: of the rows, the same on every process.
            start: `kmeans`: the clusters of the sample; `random`: random rows as means, with the
                covariance of the sample.
            means: [K, D]; if given, EM starts from them and the rows nearest to each.
        """
        size = self.components
        if means is not None:
            _check_array("means", means, (size, sample.rows.shape[1]))
            nearest = nearest_centre(self._alike(sample.rows), self._alike(means))
            responsibilities = np.asarray(nearest)
        elif start == "random":
            chosen = generator(key, 0).choice(len(sample.rows), size, replace=False)
            means = sample.rows[chosen]
            responsibilities = np.full((len(sample.rows), size), 1 / size)
        else:
            responsibilities = kmeans_responsibilities(
                key, self._alike(sample.rows), size, sample.weights / self.unit
            )
        # On one device, so that any number of devices starts alike.
        device = jax.local_devices()[0]
        layout = Layout.of(len(sample.rows), device.platform)
        program = Program.of(data_mesh([device]), self.structure, layout)
        state = to_host(self.first_state(program, sample.rows, sample.weights, responsibilities))
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

    def identity(
        self, key: Array, start: str, given: np.ndarray | None, mesh: Mesh
    ) -> dict[str, Any]:
        """What a saved state must agree on to be continued; `given` means or responsibilities."""
        if given is not None:
            digest = hashlib.sha256(np.asarray(given, np.float64).tobytes()).digest()
            every = gather(np.frombuffer(digest, np.uint8), mesh)
            start = hashlib.sha256(np.concatenate(every).tobytes()).hexdigest()[:16]
        return {
            **dataclasses.asdict(self.structure),
            "components": self.components,
            "dtype": self.dtype.name,
            "rows": self.rows,
            "data": self.frame.fingerprint,
            "start": start,
            "key": np.asarray(jax.random.key_data(key)).tolist(),
        }

    def result(self, state: EMState, history: Sequence[float], log_likelihood: float) -> "Fit":
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
        found = _warnings(result, self.structure, np.asarray(state.counts))
        return dataclasses.replace(result, warnings=found)


def _warnings(fit: Fit, structure: Structure, counts: np.ndarray) -> tuple[str, ...]:
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


def compute_dtype(x: np.ndarray) -> np.dtype:
    """float64 for float64 data where that is enabled in JAX, as everywhere in JAX; else float32."""
    double = x.dtype == np.float64 and jax.config.read("jax_enable_x64")
    return np.dtype(np.float64 if double else np.float32)


def fit(
    key: Array,
    x: np.ndarray,
    num_components: int = 5,
    covariance_type: str = "full",
    *,
    rank: int = 0,
    shrinkage: str = "none",
    start: str = "kmeans",
    responsibilities: np.ndarray | None = None,
    means: np.ndarray | None = None,
    n_init: int = 1,
    max_iters: int = 200,
    tol: float = 1e-3,
    reg_covar: float | None = None,
    sample_weight: np.ndarray | None = None,
    mesh: Mesh | None = None,
    checkpoint: Path | None = None,
    observe: Observer | None = None,
) -> Fit:
    """Fits a mixture of Gaussians by EM.

    From the same start it takes the same steps as scikit-learn's `GaussianMixture` and stops by the
    same rule. The rows of a mesh's devices are chunked, so that beside the data only one chunk's
    intermediate results are in memory.

    Args:
        key: a JAX key, of the start.
        x: float [N, D]; the rows of this process, where the mesh has devices of several. float64
            data are computed in float64 if `jax.enable_x64(True)` is in force, else in float32.
        num_components: K.
        covariance_type: `full`, `tied`, `diag`, `spherical` or `low_rank`, see `Structure`.
        rank: free directions of `low_rank`.
        shrinkage: `none`, or `ledoit_wolf` in every M-step (`full`, `tied`): EM then maximises no
            likelihood, and the log-likelihood may fall.
        start: `kmeans` (k-means++ and Lloyd's iterations, on a sample of many rows) or `random`
            (rows as means).
        responsibilities: [N, K] to start from, rows summing to one.
        means: [K, D] to start from.
        n_init: starts with different keys, of which the likeliest result is kept.
        max_iters: of EM, for each start.
        tol: EM has converged when the mean log-likelihood gains less, in nats.
        reg_covar: added to the diagonal of every covariance, in units of x squared, as in
            scikit-learn; None: a millionth of each column's variance.
        sample_weight: [N], not negative, as if a row stood there so often; booleans are a mask.
        mesh: of the devices to use; all by default.
        checkpoint: directory in which the state is saved after every iteration; the same call
            continues from it. On several processes, a directory that all of them see.
        observe: called after every iteration.

    Returns:
        The mixture and how the fit went.

    Raises:
        ValueError: unsuitable arguments or data, one message; a checkpoint of another fit.

    References:
        Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
        Journal of the Royal Statistical Society B 39 (1977).
    """
    structure = Structure(covariance_type, rank, shrinkage)
    mesh = mesh or data_mesh()
    x, weights = checked(x, sample_weight)
    structure.check(x.shape[1])
    check_options(start, n_init, max_iters, tol, reg_covar)
    if responsibilities is not None:
        _check_array("responsibilities", responsibilities, (len(x), num_components))
    moments, sample, layout = survey(key, x, weights, structure, mesh)
    problem = Problem.of(structure, num_components, moments, reg_covar, compute_dtype(x))
    program = Program.of(mesh, structure, layout)
    rows = problem.placed(program, x, weights)
    arguments = (*rows, problem.regulariser, np.asarray(tol, problem.dtype))
    # In one go, unless somebody wants to know of every iteration.
    piece = 1 if checkpoint or observe else max_iters
    fits = []
    for restart in range(n_init):
        start_key = key if restart == 0 else jax.random.fold_in(key, restart)
        saved = checkpoint / f"start_{restart}.safetensors" if checkpoint else None
        given = responsibilities if responsibilities is not None else means
        identity = problem.identity(start_key, start, given, mesh)
        progress = Progress(saved, {**identity, "tol": tol})
        state = progress.state
        if state is None and responsibilities is not None:
            state = problem.first_state(program, x, weights, responsibilities)
        elif state is None:
            state = problem.start(start_key, sample, start, means)
        state = replicate(state, mesh)  # as it comes out of an iteration: compiled once
        while not progress.finished(max_iters):
            left = min(piece, max_iters - len(progress.history))
            state, history = program.iterate(left)(state, *arguments)
            progress.advance(state, to_host(history), problem.frame, observe)
        mean = float(program.mean_log_likelihood(state.gmm, *rows))
        fits.append(problem.result(state, progress.history, mean))
    return max(fits, key=lambda result: result.log_likelihood)


def _check_array(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if np.shape(value) != shape:
        raise ValueError(f"{name} must be {list(shape)}, not {list(np.shape(value))}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} hold NaN or infinity")


def check_options(
    start: str, n_init: int, max_iters: int, tol: float, reg_covar: float | None
) -> None:
    """Raises a ValueError if an option of a fit is out of range."""
    if start not in STARTS:
        raise ValueError(f"start {start!r} is not known: choose {' or '.join(STARTS)}")
    for name, value, least in (("n_init", n_init, 1), ("max_iters", max_iters, 0)):
        if value < least:
            raise ValueError(f"{name} = {value} must be at least {least}")
    for name, number in (("tol", tol), ("reg_covar", reg_covar or 0.0)):
        if not 0 <= number < np.inf:
            raise ValueError(f"{name} = {number} must be finite and not negative")


def survey(
    key: Array, x: np.ndarray, weights: np.ndarray, structure: Structure, mesh: Mesh
) -> tuple[Moments, Sample, Layout]:
    """Moments and a sample of all processes' rows, and a layout that holds those of each."""
    matrix = needs_matrix(structure)
    moments = of_all_processes(moments_of(x, weights, matrix), x.shape[1], matrix, mesh)
    sample = Sample.of(generator(key, jax.process_index()), x, weights).over_processes(mesh)
    local = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)
    most = max(int(n) for n in gather(np.array(-(-len(x) // local)), mesh))
    return moments, sample, Layout.of(most, mesh.devices.flat[0].platform)
