"""Where EM starts: a sample of the rows, and responsibilities for it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from exif_jax.gmm.linalg import dot
from exif_jax.gmm.rows import gather

STARTS = ("kmeans", "random")
SAMPLE = 16384  # rows; fewer are taken whole
_KMEANS_ITERATIONS = 20


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows drawn without replacement from all rows of positive weight, each as likely as another.

    Attributes:
        rows: [n, D], in the order in which they came.
        weights: [n].
        priority: [n], in 0..1: the rows of smallest priority stay when samples are merged.
    """

    rows: np.ndarray
    weights: np.ndarray
    priority: np.ndarray

    @classmethod
    def of(cls, rng: np.random.Generator, x: np.ndarray, weights: np.ndarray) -> "Sample":
        """At most `SAMPLE` of the rows."""
        priority = rng.random(len(x))
        used = np.flatnonzero(weights > 0)
        kept = _smallest(priority[used])
        used = used[kept]
        return cls(np.array(x[used]), weights[used], priority[used])

    def merge(self, other: "Sample") -> "Sample":
        """At most `SAMPLE` rows of both."""
        rows = np.concatenate([self.rows, other.rows])
        weights = np.concatenate([self.weights, other.weights])
        priority = np.concatenate([self.priority, other.priority])
        kept = _smallest(priority)
        return Sample(rows[kept], weights[kept], priority[kept])

    def over_processes(self, mesh: Mesh) -> "Sample":
        """The sample of the rows of all processes of the mesh, the same on each."""
        every = gather(vars(self), mesh)
        return functools.reduce(Sample.merge, [Sample(**part) for part in every])


def _smallest(priority: np.ndarray) -> np.ndarray:
    """Positions, in order, of the `SAMPLE` smallest."""
    if len(priority) <= SAMPLE:
        return np.arange(len(priority))
    return np.sort(np.argpartition(priority, SAMPLE)[:SAMPLE])


def generator(key: Array, process: int) -> np.random.Generator:
    """NumPy's generator for the draws of one process."""
    return np.random.default_rng([*np.asarray(jax.random.key_data(key)).ravel(), process])


@functools.partial(jax.jit, static_argnames="num_components")
def _kmeans(key: Array, x_ND: Array, weights_N: Array, num_components: int) -> Array:
    keys = jax.random.split(key, num_components)
    start = x_ND[jax.random.categorical(keys[0], jnp.log(weights_N))]
    centres = jnp.broadcast_to(start[None], (num_components, x_ND.shape[1]))
    nearest = jnp.square(x_ND - start[None]).sum(axis=1)

    def seed(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, nearest = carry
        # A row is chosen with probability proportional to its squared distance.
        centre = x_ND[jax.random.categorical(keys[k], jnp.log(weights_N * nearest))]
        closer = jnp.minimum(nearest, jnp.square(x_ND - centre[None]).sum(axis=1))
        return centres.at[k].set(centre), closer

    centres, _ = lax.fori_loop(1, num_components, seed, (centres, nearest))

    def improve(_: Array, centres: Array) -> Array:
        members = weights_N[:, None] * nearest_centre(x_ND, centres)
        counts = members.sum(axis=0)[:, None]
        return jnp.where(
            counts > 0, dot(members.T, x_ND) / jnp.where(counts > 0, counts, 1), centres
        )

    return nearest_centre(x_ND, lax.fori_loop(0, _KMEANS_ITERATIONS, improve, centres))


def nearest_centre(x_ND: Array, centres_KD: Array) -> Array:
    """1 for the nearest centre of every row, 0 for the others, [N, K]."""
    distances = lax.map(lambda centre: jnp.square(x_ND - centre[None]).sum(axis=1), centres_KD)
    return jax.nn.one_hot(distances.argmin(axis=0), len(centres_KD), dtype=x_ND.dtype)


def kmeans_responsibilities(
    key: Array, x_ND: ArrayLike, num_components: int, weights: np.ndarray | None = None
) -> np.ndarray:
    """0/1 responsibilities [N, K] of k-means clusters from a k-means++ seeding.

    Args:
        key: a JAX key.
        x_ND: rows; distances are taken in these coordinates, in float32.
        num_components: K.
        weights: [N], positive; None: all one.

    References:
        Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    x_ND = jnp.asarray(x_ND, jnp.float32)
    weights = np.ones(len(x_ND)) if weights is None else weights
    return np.asarray(_kmeans(key, x_ND, jnp.asarray(weights, jnp.float32), num_components))
