"""Layer normalisation of whole feature maps, with a backward pass that keeps only its input."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

_EPSILON = 1e-5
_MAP = (-3, -2, -1)


class MapNorm(nn.Module):
    """Normalises each map [H, W, C] to mean 0 and variance 1, scales and shifts, and clips.

    Statistics are at least float32. Every element of the map has a scale and a shift of its own.

    Attributes:
        low: the smallest value of the result.
        high: the largest.
    """

    low: float
    high: float

    @nn.compact
    def __call__(self, x_MHWC: Array) -> Array:
        """Maps of the same shape and type."""
        scale = self.param("scale", nn.initializers.ones, x_MHWC.shape[1:])
        bias = self.param("bias", nn.initializers.zeros, x_MHWC.shape[1:])
        return normalised(x_MHWC, scale, bias, self.low, self.high)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normalised(x_MHWC: Array, scale_HWC: Array, bias_HWC: Array, low: float, high: float) -> Array:
    """See `MapNorm`.

    JAX's own derivative would keep centred maps, results and masks in float32: this one keeps the
    maps as they came, and computes the rest again while it reads them.
    """
    return _forward(x_MHWC, scale_HWC, bias_HWC, low, high)[0]


def _forward(x: Array, scale: Array, bias: Array, low: float, high: float) -> tuple[Array, Any]:
    precise = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    mean = precise.mean(axis=_MAP, keepdims=True)
    if x.dtype == jnp.bfloat16:
        # One pass over memory instead of two; what cancels is less than bfloat16 rounded before.
        variance = jnp.square(precise).mean(axis=_MAP, keepdims=True) - jnp.square(mean)
        variance = jnp.maximum(variance, 0)
    else:
        variance = jnp.square(precise - mean).mean(axis=_MAP, keepdims=True)
    factor = lax.rsqrt(variance + _EPSILON)
    result = _standard(precise, mean, factor) * scale[None] + bias[None]
    return jnp.clip(result, low, high).astype(x.dtype), (x, mean, factor, scale, bias)


def _standard(x: Array, mean: Array, factor: Array) -> Array:
    return (x - mean) * factor


def _backward(low: float, high: float, kept: Any, cotangent: Array) -> tuple[Array, Array, Array]:
    x, mean, factor, scale, bias = kept
    standard = _standard(x.astype(mean.dtype), mean, factor)
    result = standard * scale[None] + bias[None]
    inside = (result > low) & (result < high)
    gradient = jnp.where(inside, cotangent.astype(mean.dtype), 0)
    scaled = gradient * scale[None]
    along = (scaled * standard).mean(axis=_MAP, keepdims=True)
    centred = scaled - scaled.mean(axis=_MAP, keepdims=True) - standard * along
    sums = (gradient * standard).sum(axis=0), gradient.sum(axis=0)
    return (centred * factor).astype(x.dtype), *sums


normalised.defvjp(_forward, _backward)
