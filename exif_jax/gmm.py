"""Gaussian mixtures with full covariances, fitted by expectation maximisation (EM).

Pure functions over a pytree; rows of the data are divided over the devices of a mesh and their
statistics summed. Shape suffixes: N rows, D columns, K components. Computations keep the precision
of the data; features of neural networks are nearly singular, so prefer float64
(`jax.enable_x64(True)`) for them.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import logsumexp
from jax.sharding import Mesh, NamedSharding

from exif_jax.mapping import AXIS, REPLICATED, SHARDED, data_mesh, over_devices, replicate, to_host

_KMEANS_ITERATIONS = 20


@flax.struct.dataclass
class GaussianMixture:
    """A mixture of Gaussians.

    Attributes:
        weights: [K], positive, summing to one.
        means: [K, D].
        precisions_cholesky: [K, D, D], upper triangular U with inverse covariance U U^T.
    """

    weights: Array
    means: Array
    precisions_cholesky: Array

    @property
    def covariances(self) -> Array:
        """Covariance matrices [K, D, D]."""
        identity = jnp.eye(self.means.shape[-1], dtype=self.means.dtype)
        inverse = jax.vmap(lambda u: solve_triangular(u, identity))(self.precisions_cholesky)
        return inverse.mT @ inverse


@flax.struct.dataclass
class EMState:
    """EM between two iterations.

    Attributes:
        gmm: the mixture so far.
        log_likelihood: mean over rows under the mixture before the last M-step; -inf at first.
        iteration: M-steps done after the initial one.
        converged: whether the last iteration gained less than the tolerance.
    """

    gmm: GaussianMixture
    log_likelihood: Array
    iteration: Array
    converged: Array


@flax.struct.dataclass
class Fit:
    """Result of `fit`.

    Attributes:
        gmm: the fitted mixture.
        log_likelihood: mean log-density of the rows under it, in nats.
        history: the same before each iteration, [iterations].
        converged: whether EM stopped by the tolerance.
    """

    gmm: GaussianMixture
    log_likelihood: float
    history: np.ndarray
    converged: bool


def component_log_densities(gmm: GaussianMixture, x_ND: Array) -> Array:
    """log(weight_k) + log N(x | mean_k, covariance_k), [N, K], in nats."""

    def one(weight: Array, mean: Array, upper: Array) -> Array:
        y = (x_ND - mean[None]) @ upper
        log_determinant = jnp.log(jnp.diagonal(upper)).sum()
        constant = 0.5 * x_ND.shape[-1] * jnp.log(2 * jnp.pi)
        return jnp.log(weight) + log_determinant - constant - 0.5 * jnp.square(y).sum(axis=-1)

    # One component at a time: K times less memory than all at once.
    parts = lax.map(lambda c: one(*c), (gmm.weights, gmm.means, gmm.precisions_cholesky))
    return parts.T


@jax.jit
def log_density(gmm: GaussianMixture, x_ND: Array) -> Array:
    """Natural logarithm of the mixture's density at every row, [N]."""
    return logsumexp(component_log_densities(gmm, x_ND), axis=-1)


def _maximise(x: Array, responsibilities_NK: Array, reg_covar: Array) -> GaussianMixture:
    """M-step on this device's rows; the statistics are summed over devices."""
    tiny = 10 * jnp.finfo(x.dtype).eps
    counts = lax.psum(responsibilities_NK.sum(axis=0), AXIS) + tiny
    means = lax.psum(responsibilities_NK.T @ x, AXIS) / counts[:, None]

    def scatter(component: tuple[Array, Array]) -> Array:
        mean, responsibility = component
        centred = x - mean[None]
        return (responsibility[:, None] * centred).T @ centred

    scatters = lax.psum(lax.map(scatter, (means, responsibilities_NK.T)), AXIS)
    identity = jnp.eye(x.shape[-1], dtype=x.dtype)
    covariances = scatters / counts[:, None, None] + reg_covar * identity[None]
    lower = jnp.linalg.cholesky(covariances)
    inverse = jax.vmap(lambda c: solve_triangular(c, identity, lower=True))(lower)
    return GaussianMixture(counts / counts.sum(), means, inverse.mT)


def _initialise(x: Array, responsibilities_NK: Array, reg_covar: Array) -> EMState:
    """State after the first M-step, from given responsibilities (0 in padding rows)."""
    return EMState(
        _maximise(x, responsibilities_NK, reg_covar),
        jnp.array(-jnp.inf, x.dtype),
        jnp.array(0, jnp.int32),
        jnp.array(False),
    )


def _iterate(
    state: EMState,
    x: Array,
    mask: Array,
    reg_covar: Array,
    tolerance: Array,
    iterations: int,
) -> tuple[EMState, Array]:
    """At most `iterations` EM iterations on this device's rows, fewer if EM converges.

    Returns:
        The new state and the mean log-likelihoods before each iteration, [iterations], NaN where
        none was needed.
    """
    rows = lax.psum(mask.sum(), AXIS)

    def going(carry: tuple[EMState, Array, Array]) -> Array:
        state, _, done = carry
        return (done < iterations) & ~state.converged

    def iterate(carry: tuple[EMState, Array, Array]) -> tuple[EMState, Array, Array]:
        state, history, done = carry
        parts = component_log_densities(state.gmm, x)
        densities = logsumexp(parts, axis=-1)
        mean = lax.psum((mask * densities).sum(), AXIS) / rows
        responsibilities = mask[:, None] * jnp.exp(parts - densities[:, None])
        converged = jnp.abs(mean - state.log_likelihood) < tolerance
        gmm = _maximise(x, responsibilities, reg_covar)
        history = history.at[done].set(mean)
        return EMState(gmm, mean, state.iteration + 1, converged), history, done + 1

    start = (state, jnp.full(iterations, jnp.nan, x.dtype), jnp.array(0))
    state, history, _ = lax.while_loop(going, iterate, start)
    return state, history


@cache
def _mapped(mesh: Mesh, iterations: int) -> tuple[Callable[..., EMState], Callable[..., Any]]:
    initialise = over_devices(_initialise, mesh, (SHARDED, SHARDED, REPLICATED), REPLICATED)
    iterate = over_devices(
        partial(_iterate, iterations=iterations),
        mesh,
        (REPLICATED, SHARDED, SHARDED, REPLICATED, REPLICATED),
        REPLICATED,
    )
    return initialise, iterate


def _divide_rows(x: np.ndarray, mesh: Mesh) -> Array:
    """Rows over the devices of a mesh, padded with zeros; every process holds all of them."""
    padded = np.zeros((-(-len(x) // mesh.size) * mesh.size, *x.shape[1:]), x.dtype)
    padded[: len(x)] = x
    sharding = NamedSharding(mesh, SHARDED)
    return jax.make_array_from_callback(padded.shape, sharding, lambda part: padded[part])


def _check_data(x: np.ndarray, num_components: int) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(f"the data must be [rows, columns], not {x.shape}")
    if not np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"the data must be floats, not {x.dtype}")
    bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} rows hold NaN or infinity, the first is row {bad[0]}")
    if not 1 <= num_components <= len(x):
        raise ValueError(f"{num_components} components need at least as many rows, not {len(x)}")
    # As everywhere in JAX, float64 becomes float32 unless it is enabled.
    return x if jax.config.read("jax_enable_x64") else x.astype(np.float32)


def initial_state(
    x: np.ndarray,
    responsibilities: np.ndarray,
    reg_covar: float = 1e-6,
    mesh: Mesh | None = None,
) -> EMState:
    """State of EM after an M-step from given responsibilities.

    Args:
        x: float [N, D], in memory of every process.
        responsibilities: [N, K], rows summing to one.
        reg_covar: added to the diagonal of every covariance.
        mesh: over which rows are divided; all devices by default.

    Returns:
        The state, replicated over the mesh.
    """
    mesh = mesh or data_mesh()
    initialise, _ = _mapped(mesh, 0)
    state = initialise(
        _divide_rows(x, mesh),
        _divide_rows(np.asarray(responsibilities, x.dtype), mesh),
        replicate(np.asarray(reg_covar, x.dtype), mesh),
    )
    return state


def run_em(
    state: EMState,
    x: np.ndarray,
    iterations: int,
    tolerance: float = 1e-3,
    reg_covar: float = 1e-6,
    mesh: Mesh | None = None,
) -> tuple[EMState, np.ndarray]:
    """Continues EM for some iterations, fewer if it converges.

    Args:
        state: from `initial_state` or an earlier call.
        x: float [N, D], the same rows.
        iterations: at most so many.
        tolerance: EM has converged when the mean log-likelihood changes by less.
        reg_covar: added to the diagonal of every covariance.
        mesh: over which rows are divided; all devices by default.

    Returns:
        The new state, and the mean log-likelihood before each iteration, [iterations done].
    """
    mesh = mesh or data_mesh()
    _, iterate = _mapped(mesh, iterations)
    scalars = (replicate(np.asarray(v, x.dtype), mesh) for v in (reg_covar, tolerance))
    mask = _divide_rows(np.ones(len(x), x.dtype), mesh)
    state, history = iterate(replicate(state, mesh), _divide_rows(x, mesh), mask, *scalars)
    values = to_host(history)
    return state, values[: int(np.isfinite(values).sum())]


def fit(
    key: Array,
    x: np.ndarray,
    num_components: int = 5,
    covariance_type: str = "full",
    *,
    max_iterations: int = 200,
    tolerance: float = 1e-3,
    reg_covar: float = 1e-6,
    responsibilities: np.ndarray | None = None,
    mesh: Mesh | None = None,
) -> Fit:
    """Fits a mixture by EM from a k-means start.

    With the same starting responsibilities it takes the same steps as scikit-learn's
    `GaussianMixture`, and stops by the same rule.

    Args:
        key: of the k-means++ start; unused if `responsibilities` are given.
        x: float [N, D], in memory of every process; float64 counts as float32 unless
            `jax.enable_x64(True)` is in force.
        num_components: K.
        covariance_type: only "full".
        max_iterations: of EM.
        tolerance: EM has converged when the mean log-likelihood changes by less.
        reg_covar: added to the diagonal of every covariance.
        responsibilities: [N, K] to start from.
        mesh: over which rows are divided; all devices by default.

    Returns:
        The mixture (arrays in host memory) and how the fit went.

    Raises:
        ValueError: unsuitable data, or a covariance that is singular in the data's precision.

    References:
        Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
        1977; Arthur & Vassilvitskii, "k-means++", 2007.
    """
    if covariance_type != "full":
        raise ValueError(f"covariance_type {covariance_type!r} is not known: choose 'full'")
    x = _check_data(x, num_components)
    if responsibilities is None:
        responsibilities = kmeans_responsibilities(key, x, num_components)
    state = initial_state(x, responsibilities, reg_covar, mesh)
    state, history = run_em(state, x, max_iterations, tolerance, reg_covar, mesh)
    gmm = checked_mixture(state)
    return Fit(gmm, float(log_density(gmm, x).mean()), history, bool(to_host(state.converged)))


def checked_mixture(state: EMState) -> GaussianMixture:
    """The mixture of a state, in host memory.

    Raises:
        ValueError: a covariance has no Cholesky factor in the data's precision.
    """
    gmm = to_host(state.gmm)
    bad = [k for k, u in enumerate(gmm.precisions_cholesky) if not np.isfinite(u).all()]
    if bad:
        raise ValueError(
            f"the covariances of components {bad} are singular in {gmm.means.dtype}: raise "
            "reg_covar, lower the dimension, take fewer components, or use float64"
        )
    return gmm


@partial(jax.jit, static_argnames="num_components")
def _kmeans(key: Array, x_ND: Array, num_components: int) -> Array:
    first, *keys = jax.random.split(key, num_components)
    start = x_ND[jax.random.randint(first, (), 0, len(x_ND))]
    centres = jnp.broadcast_to(start[None], (num_components, x_ND.shape[1]))
    nearest = jnp.square(x_ND - start[None]).sum(axis=1)
    for k, chosen_by in enumerate(keys, start=1):
        # A row is chosen with probability proportional to its squared distance.
        centre = x_ND[jax.random.categorical(chosen_by, jnp.log(nearest))]
        centres = centres.at[k].set(centre)
        nearest = jnp.minimum(nearest, jnp.square(x_ND - centre[None]).sum(axis=1))

    def assign(centres: Array) -> Array:
        norms = jnp.square(centres).sum(axis=1)[None]
        return jax.nn.one_hot((norms - 2 * x_ND @ centres.T).argmin(axis=1), num_components)

    def improve(_: Array, centres: Array) -> Array:
        members = assign(centres)
        counts = members.sum(axis=0)[:, None]
        return jnp.where(counts > 0, members.T @ x_ND / jnp.maximum(counts, 1), centres)

    return assign(lax.fori_loop(0, _KMEANS_ITERATIONS, improve, centres)).astype(x_ND.dtype)


def kmeans_responsibilities(key: Array, x: np.ndarray, num_components: int) -> np.ndarray:
    """Start of EM: 0/1 responsibilities [N, K] of k-means clusters from a k-means++ seeding."""
    return np.asarray(_kmeans(key, np.asarray(x), num_components))
