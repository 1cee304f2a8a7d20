"""The mixture as a pytree: densities, responsibilities and information criteria."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from exif_jax.gmm.covariances import KINDS, Covariances, Structure

_CHUNK = 4096  # rows whose differences from a mean are in memory at once


@flax.struct.dataclass
class GaussianMixture:
    """A mixture of Gaussians.

    Attributes:
        weights: [K], positive, summing to one.
        means: [K, D].
        covariance: of one of the `KINDS`.
    """

    weights: Array
    means: Array
    covariance: Covariances

    @property
    def covariances(self) -> Array:
        """The covariances in scikit-learn's shape: [K, D, D], [D, D], [K, D] or [K]."""
        return self.covariance.matrices

    @property
    def structure(self) -> Structure:
        """Kind of the covariances."""
        return Structure(self.covariance.name, self.covariance.rank)

    @property
    def num_parameters(self) -> int:
        """Free parameters."""
        return self.structure.num_parameters(*self.means.shape)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Its arrays by name, flat, for storage."""
        covariance = {name: np.asarray(a) for name, a in vars(self.covariance).items()}
        return {
            "weights": np.asarray(self.weights),
            "means": np.asarray(self.means),
            **covariance,
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, Any], covariance_type: str = "full"
    ) -> "GaussianMixture":
        """The inverse of `to_arrays`.

        Raises:
            ValueError: arrays are missing, or their shapes do not belong together.
        """
        found = {name: np.shape(a) for name, a in arrays.items()}
        expected = array_shapes(found, covariance_type)
        if found != expected:
            raise ValueError(f"these arrays are no mixture of kind {covariance_type!r}: {found}")
        own = {name: arrays[name] for name in expected.keys() - {"weights", "means"}}
        return cls(arrays["weights"], arrays["means"], KINDS[covariance_type](**own))


def array_shapes(
    found: Mapping[str, tuple[int, ...]], covariance_type: str
) -> dict[str, tuple[int, ...]]:
    """Shapes that the arrays of a stored mixture must have together.

    Args:
        found: their shapes, of which the means say K and D.
        covariance_type: of the mixture.

    Raises:
        ValueError: an unknown kind, or means that are no matrix.
    """
    means = found.get("means", ())
    if covariance_type not in KINDS or len(means) != 2:
        raise ValueError(f"these arrays are no mixture of kind {covariance_type!r}: {found}")
    own = KINDS[covariance_type].shapes(*means, found)
    return {"weights": means[:1], "means": means, **own}


def log_joint(gmm: GaussianMixture, x_ND: Array) -> Array:
    """log(weight_k) + log N(x | mean_k, covariance_k), [N, K], in nats."""
    columns = x_ND.shape[1]
    squares = gmm.covariance.squared_distances(gmm.means, x_ND)
    constants = jnp.log(gmm.weights) - 0.5 * (
        gmm.covariance.log_determinants(columns) + columns * jnp.log(2 * jnp.pi)
    )
    return constants[None] - 0.5 * squares


def _checked(gmm: GaussianMixture, rows: ArrayLike) -> Array:
    x_ND = jnp.asarray(rows)
    columns = gmm.means.shape[1]
    if x_ND.ndim != 2 or x_ND.shape[1] != columns:
        raise ValueError(f"the rows must be [rows, {columns}] as the mixture's, not {x_ND.shape}")
    return x_ND.astype(jnp.result_type(gmm.means, jnp.float32))


@jax.jit
def _log_joint_in_chunks(gmm: GaussianMixture, x_ND: Array) -> Array:
    return lax.map(lambda row: log_joint(gmm, row[None])[0], x_ND, batch_size=_CHUNK)


def log_density(gmm: GaussianMixture, x_ND: ArrayLike) -> Array:
    """Natural logarithm of the mixture's density at every row.

    Args:
        gmm: the mixture.
        x_ND: [N, D], computed in the mixture's precision.

    Returns:
        [N]; differentiable in both arguments, also under jit and vmap.

    Raises:
        ValueError: rows of another width.
    """
    return logsumexp(_log_joint_in_chunks(gmm, _checked(gmm, x_ND)), axis=-1)


def responsibilities(gmm: GaussianMixture, x_ND: ArrayLike) -> Array:
    """Probability of each component given the row, [N, K]; rows sum to one."""
    return jax.nn.softmax(_log_joint_in_chunks(gmm, _checked(gmm, x_ND)), axis=-1)


def information_criterion(
    name: str, log_likelihood: float, gmm: GaussianMixture, rows: float
) -> float:
    """From the summed log-likelihood of so many rows, in nats; smaller is better.

    Args:
        name: `bic` (Bayesian; Schwarz 1978) or `aic` (Akaike 1974).
        log_likelihood: of all rows together.
        gmm: the mixture.
        rows: their number.
    """
    price = {"bic": np.log(rows), "aic": 2.0}[name]
    return float(price * gmm.num_parameters - 2 * log_likelihood)
