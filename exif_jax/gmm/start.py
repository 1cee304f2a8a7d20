"""Where EM starts: a sample of the rows, and responsibilities for it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from exif_jax.gmm.linalg import dot
from exif_jax.gmm.rows import gather

SAMPLE = 16384  # rows; fewer are taken whole
_KMEANS_ITERATIONS = 20


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows drawn without replacement from all rows, each as likely as another.

    Attributes:
        rows: [n, D], in the order in which they came.
        priority: [n], in 0..1: the rows of smallest priority stay when samples are merged.
    """

    rows: np.ndarray
    priority: np.ndarray

    @classmethod
    def of(cls, rng: np.random.Generator, x: np.ndarray) -> "Sample":
        """At most `SAMPLE` of the rows."""
        return cls(x, rng.random(len(x)))._cut()

    def merge(self, other: "Sample") -> "Sample":
        """At most `SAMPLE` rows of both."""
        rows = np.concatenate([self.rows, other.rows])
        return Sample(rows, np.concatenate([self.priority, other.priority]))._cut()

    def _cut(self) -> "Sample":
        kept = np.arange(len(self.rows))
        if len(kept) > SAMPLE:
            kept = np.sort(np.argpartition(self.priority, SAMPLE)[:SAMPLE])
        return Sample(np.array(self.rows[kept]), self.priority[kept])

    def over_processes(self, mesh: Mesh) -> "Sample":
        """The sample of the rows of all processes of the mesh, the same on each."""
        # First who stays, so that not every process sends as many rows as stay of all.
        every = np.concatenate([p["own"] for p in gather({"own": self.priority}, mesh)])
        stays = np.ones(len(self.rows), bool)
        if len(every) > SAMPLE:
            stays = self.priority < np.partition(every, SAMPLE)[SAMPLE]
        own = {"rows": self.rows[stays], "priority": self.priority[stays]}
        return functools.reduce(Sample.merge, [Sample(**part) for part in gather(own, mesh)])


def generator(key: Array, first: int = 0) -> np.random.Generator:
    """NumPy's generator for what is drawn for each row, from the `first` on.

    So a row gets the same, whichever process has it.
    """
    draws = np.random.PCG64([*np.asarray(jax.random.key_data(key)).ravel(), 0])
    draws.advance(first)
    return np.random.Generator(draws)


@functools.partial(jax.jit, static_argnames="num_components")
def kmeans_responsibilities(key: Array, x_ND: Array, num_components: int) -> Array:
    """0/1 responsibilities [N, K] of k-means clusters from a k-means++ seeding.

    References:
        Arthur & Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    """
    keys = jax.random.split(key, num_components)
    start = x_ND[jax.random.categorical(keys[0], jnp.zeros(len(x_ND), x_ND.dtype))]
    centres = jnp.broadcast_to(start[None], (num_components, x_ND.shape[1]))
    nearest = jnp.square(x_ND - start[None]).sum(axis=1)

    def seed(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        centres, nearest = carry
        # A row is chosen with probability proportional to its squared distance.
        centre = x_ND[jax.random.categorical(keys[k], jnp.log(nearest))]
        closer = jnp.minimum(nearest, jnp.square(x_ND - centre[None]).sum(axis=1))
        return centres.at[k].set(centre), closer

    centres, _ = lax.fori_loop(1, num_components, seed, (centres, nearest))

    def improve(_: Array, centres: Array) -> Array:
        members = nearest_centre(x_ND, centres)
        counts = members.sum(axis=0)[:, None]
        return jnp.where(
            counts > 0, dot(members.T, x_ND) / jnp.where(counts > 0, counts, 1), centres
        )

    return nearest_centre(x_ND, lax.fori_loop(0, _KMEANS_ITERATIONS, improve, centres))


def nearest_centre(x_ND: Array, centres_KD: Array) -> Array:
    """1 for the nearest centre of every row, 0 for the others, [N, K]."""
    distances = lax.map(lambda centre: jnp.square(x_ND - centre[None]).sum(axis=1), centres_KD)
    return jax.nn.one_hot(distances.argmin(axis=0), len(centres_KD), dtype=x_ND.dtype)
