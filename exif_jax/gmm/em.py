"""Fitting a mixture by expectation maximisation."""

from collections.abc import Callable
from operator import index
from pathlib import Path

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.frame import Frame
from exif_jax.gmm.maximisation import next_state
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.gmm.problem import Fit, Problem
from exif_jax.gmm.progress import load_state, save_state, saved_frame
from exif_jax.gmm.rows import local_devices
from exif_jax.gmm.sources import Rows, Stream
from exif_jax.training.mapping import data_mesh, replicate, to_host

# Called after an iteration: iterations done, mean log-likelihood before the last, the mixture now.
Observer = Callable[[int, float, GaussianMixture], None]


def fit(
    key: Array,
    x: np.ndarray | Stream,
    num_components: int = 5,
    covariance_type: str = "full",
    *,
    rank: int = 0,
    shrinkage: str = "none",
    responsibilities: np.ndarray | None = None,
    means: np.ndarray | None = None,
    n_init: int = 1,
    max_iters: int = 200,
    tol: float = 1e-3,
    reg_covar: float | None = None,
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
        x: float [N, D]; where the mesh has devices of several processes, the rows of this one,
            maybe none: the fit is that of all rows, one process's after another's. float64 data
            are computed in float64 if `jax.enable_x64(True)` is in force, else in float32. A
            `Stream` is read once before the first iteration, in each, and at the end.
        num_components: K.
        covariance_type: `full`, `tied`, `diag`, `spherical` or `low_rank`, see `Structure`.
        rank: free directions of `low_rank`.
        shrinkage: `none`, or `ledoit_wolf` in every M-step (`full`, `tied`): EM then maximises no
            likelihood, and the log-likelihood may fall.
        responsibilities: [N, K] to start from, rows summing to one; not for a stream. Without them
            and `means`, EM starts from k-means++ and Lloyd's iterations, on a sample of many rows.
        means: [K, D] to start from.
        n_init: starts with different keys, of which the likeliest result is kept.
        max_iters: of EM, for each start.
        tol: EM has converged when the mean log-likelihood gains less, in nats.
        reg_covar: added to the diagonal of every covariance, in units of x squared, as in
            scikit-learn; None: a millionth of each column's variance.
        mesh: of the devices to use; all by default.
        checkpoint: directory in which the state is saved after every iteration; the same call
            continues from it, also on another number of processes and devices. On several
            processes, a directory that all of them see.
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
    # Numbers of NumPy are as good, but no JSON, which says what a checkpoint is of.
    num_components, n_init, max_iters = map(index, (num_components, n_init, max_iters))
    tol, reg_covar = float(tol), None if reg_covar is None else float(reg_covar)
    _check_options(n_init, max_iters, tol, reg_covar)
    if isinstance(x, Stream) and responsibilities is not None:
        raise ValueError("a stream starts from means, not from responsibilities")
    rows = Rows.of(x, structure, mesh)
    moments, sample = rows.survey(key)
    frame = Frame.of(moments, structure, reg_covar)
    if checkpoint is not None:
        frame = saved_frame(checkpoint / "start_0.safetensors", frame)
    problem = Problem(structure, num_components, frame, compute_dtype(sample.rows), moments.rows)
    blocks = rows.placed(problem)
    fits = []
    for restart in range(n_init):
        start_key = key if restart == 0 else jax.random.fold_in(key, restart)
        saved = checkpoint / f"start_{restart}.safetensors" if checkpoint else None
        given = responsibilities if responsibilities is not None else means
        each = mesh if responsibilities is not None else data_mesh(local_devices(mesh))
        identity = {**problem.identity(start_key, given, each), "tol": tol}
        history: list[float] = []
        if saved is not None and saved.exists():
            state, history = load_state(saved, identity)
        elif responsibilities is not None:
            (block,) = rows.blocks()
            state = problem.first_state(rows.program, block, responsibilities)
        else:
            state = problem.start(start_key, sample.rows, means, local_devices(mesh)[0])
        # As it comes out of an iteration, so that everything is compiled once.
        state = replicate(state, rows.program.mesh)
        while len(history) < max_iters and not to_host(state.converged):
            statistics = rows.statistics(blocks(), state.gmm)
            tolerance = np.asarray(tol, problem.dtype)
            state = next_state(structure, state, statistics, problem.regulariser, tolerance)
            on_host = to_host(state)
            history.append(float(on_host.log_likelihood))
            # Told before it is saved: killed in between, the iteration is done and told again.
            if observe is not None:
                mean = history[-1] + problem.frame.log_scale
                observe(len(history), mean, problem.frame.outward(on_host.gmm))
            if saved is not None and jax.process_index() == 0:
                save_state(saved, identity, on_host, history, frame)
        last = to_host(rows.statistics(blocks(), state.gmm))
        fits.append(problem.result(state, history, float(last.mean_log_likelihood)))
    return max(fits, key=lambda result: result.log_likelihood)


def compute_dtype(x: np.ndarray) -> np.dtype:
    """float64 for float64 data where that is enabled in JAX, as everywhere in JAX; else float32."""
    double = x.dtype == np.float64 and jax.config.read("jax_enable_x64")
    return np.dtype(np.float64 if double else np.float32)


def _check_options(n_init: int, max_iters: int, tol: float, reg_covar: float | None) -> None:
    """Raises a ValueError if an option of a fit is out of range."""
    for name, value, least in (("n_init", n_init, 1), ("max_iters", max_iters, 0)):
        if value < least:
            raise ValueError(f"{name} = {value} must be at least {least}")
    for name, number in (("tol", tol), ("reg_covar", reg_covar or 0.0)):
        if not 0 <= number < np.inf:
            raise ValueError(f"{name} = {number} must be finite and not negative")
