"""The stem of the published network: fixed residual filters and a convolution, in one pass.

P planes, C channels; other suffixes as in `exif_jax.models.extractor`.
"""

from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from exif_jax.models.patches import MEAN, OFFSETS, STD, whole_pixels
from exif_jax.models.srm import srm_kernels

_PARTS: Final = 3  # of eight bits each hold the 24 of a float32
_PADDING: Final = ((3, 3), (3, 3))
_ALL: Final = slice(None)
# Rows and columns of the output's sides and corners, as in `StemKernels`.
_RING: Final = (
    *((0,), (-1,), (_ALL, 0), (_ALL, -1)),
    *((row, column) for row in (0, -1) for column in (0, -1)),
)


class StemKernels(NamedTuple):
    """Kernels of the residual filters and the convolution after them, composed.

    Attributes:
        whole: [7, 7, P, C], of the whole patch.
        sides: [4, 14, P, C], of residuals above, below, left and right of it: two rows (columns) of
            seven pixels, for every pixel of the side.
        corners: [4, 4, P, C], of residuals outside both ways: two by two pixels.
    """

    whole: Array
    sides: Array
    corners: Array


def compose_kernels(first: np.ndarray, second: Array) -> Array:
    """Kernel of two correlations in a row, so that one pass does both.

    Args:
        first: [h, w, F], applied to every plane alike.
        second: [h', w', P, F, C], applied to the result.

    Returns:
        [h + h' - 1, w + w' - 1, P, C].
    """
    (height, width), (rows, columns) = first.shape[:2], second.shape[:2]
    # One product with a constant compiles several times as fast as a sum of shifted products.
    shifted = np.zeros((height + rows - 1, width + columns - 1, rows, columns, first.shape[2]))
    for i in range(rows):
        for j in range(columns):
            shifted[i : i + height, j : j + width, i, j] = first
    # Summed over shifts last, which rounds less.
    return jnp.einsum(
        "hwijf,ijpfc->ijhwpc", jnp.asarray(shifted, second.dtype), second, precision="highest"
    ).sum((0, 1))


def stem_kernels(kernel: Array) -> StemKernels:
    """Composes SRM filters with a 3x3 convolution.

    A 7x7 kernel alone would also see the residuals one pixel outside the patch, which the two-step
    form replaces by zeros. Those outside residuals touch only the outermost ring of the output and
    depend only on the two outermost rows or columns of the input, so they are subtracted side by
    side, and the corners, then subtracted twice, added back (inclusion and exclusion).

    Args:
        kernel: [3, 3, P, 30, C].
    """
    srm = srm_kernels()
    # (kernel rows of srm, of the 3x3 convolution) of residuals before the patch and after it.
    before, after = (slice(3, 5), slice(0, 1)), (slice(0, 2), slice(2, 3))
    rows = [compose_kernels(srm[s], kernel[k]) for s, k in (before, after)]
    columns = [compose_kernels(srm[:, s], kernel[:, k]) for s, k in (before, after)]
    corners = [
        compose_kernels(srm[s, t], kernel[k, m])
        for s, k in (before, after)
        for t, m in (before, after)
    ]

    def stacked(kernels: list[Array]) -> Array:
        return jnp.stack([x.reshape(-1, *kernel.shape[2:3], kernel.shape[-1]) for x in kernels])

    sides = [*rows, *(x.swapaxes(0, 1) for x in columns)]
    return StemKernels(compose_kernels(srm, kernel), stacked(sides), stacked(corners))


def _side_windows(x_MHWP: Array) -> Array:
    """What every pixel of a side needs, [4, M, H, 14, P]; see `StemKernels`."""
    turned = x_MHWP.swapaxes(1, 2)
    strips = jnp.stack([x_MHWP[:, :2], x_MHWP[:, -2:], turned[:, :2], turned[:, -2:]])
    strips = jnp.pad(strips, ((0, 0), (0, 0), (0, 0), (3, 3), (0, 0)))
    length = x_MHWP.shape[2]
    windows = jnp.stack([strips[:, :, :, i : i + length] for i in range(7)], axis=3)
    windows = jnp.moveaxis(windows, 4, 2)
    return windows.reshape(*windows.shape[:3], 14, -1)


def _corner_windows(x_MHWP: Array) -> Array:
    """What every corner needs, [4, M, 4, P]."""
    ends = (slice(None, 2), slice(-2, None))
    corners = jnp.stack([x_MHWP[:, rows, columns] for rows in ends for columns in ends])
    return corners.reshape(*corners.shape[:2], 4, -1)


def correlation(x_MHWP: Array, kernels: StemKernels) -> Array:
    """SRM filtering with zero padding and a zero-padded 3x3 convolution of square patches.

    Args:
        x_MHWP: [M, H, H, P], H at least 4.
        kernels: of the same type.

    Returns:
        [M, H, H, C], at least float32.
    """
    how = _arithmetic(x_MHWP)
    dimensions = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(
        x_MHWP, kernels.whole, (1, 1), _PADDING, dimension_numbers=dimensions, **how
    )
    sides = jnp.einsum("smhqp,sqpc->smhc", _side_windows(x_MHWP), kernels.sides, **how)
    corners = jnp.einsum("kmqp,kqpc->kmc", _corner_windows(x_MHWP), kernels.corners, **how)
    for ring, values in zip(_RING, (*-sides, *corners), strict=True):
        out = out.at[:, *ring].add(values)
    return out


def _arithmetic(x: Array) -> dict[str, Any]:
    """Products in the precision of the operands, sums in float32 at least."""
    precision = None if x.dtype == jnp.bfloat16 else lax.Precision.HIGHEST
    kept = jnp.promote_types(x.dtype, jnp.float32)
    return {"precision": precision, "preferred_element_type": kept}


def residual_convolution(x_MHWP: Array, kernel: Array) -> Array:
    """The stem in the precision of its operands.

    Args:
        x_MHWP: [M, H, H, 3] normalised patches, H at least 4.
        kernel: [3, 3, 90, C]; the 90 inputs are plane-major (30 residuals of red, green, blue).

    Returns:
        [M, H, H, C].
    """
    return correlation(x_MHWP, stem_kernels(kernel.reshape(3, 3, 3, -1, kernel.shape[-1])))


def exact_residual_convolution(x_MHWP: Array, kernel: Array) -> Array:
    """The same to float32 by products in bfloat16, for patches of whole pixel values.

    Rounded to bfloat16, normalised pixels lose much of their residuals. Whole ones are exact in it,
    a float32 kernel is the sum of three kernels in it, and sums are kept in float32: no operand
    is rounded. A plane of ones carries what a border of normalised zeros means for whole pixels.

    The derivative with respect to the kernel takes cotangents in bfloat16 and sums in float32; that
    with respect to the patches is zero.

    Args:
        x_MHWP: [M, H, H, 3], what `normalise` made of pixels 0..255.
        kernel: float32 [3, 3, 90, C].

    Returns:
        float32 [M, H, H, C].
    """
    kernel = kernel.reshape(3, 3, 3, -1, kernel.shape[-1])
    planes = (1, 1, 3, 1, 1)
    scaled = kernel / jnp.asarray(255 * np.array(STD), kernel.dtype).reshape(planes)
    remainder = jnp.asarray(OFFSETS - 255 * np.array(MEAN), kernel.dtype).reshape(planes)
    constant = (scaled * remainder).sum(axis=2, keepdims=True)
    pixels = whole_pixels(x_MHWP).astype(jnp.bfloat16)
    ones = jnp.ones((*pixels.shape[:3], 1), pixels.dtype)
    kernels = stem_kernels(jnp.concatenate([scaled, constant], axis=2))
    return _exact_correlation(jnp.concatenate([pixels, ones], axis=3), kernels)


@jax.custom_vjp
def _exact_correlation(x_MHWP: Array, kernels: StemKernels) -> Array:
    """`correlation` of maps in bfloat16 with kernels in float32."""
    # Once more for each part, so that one product sums over all of them.
    repeated = jnp.concatenate([x_MHWP] * _PARTS, axis=-1)
    return correlation(repeated, StemKernels(*map(_bfloat16_parts, kernels)))


def _bfloat16_parts(x: Array) -> Array:
    """Parts in bfloat16 that add up to x [..., P, C], [..., parts * P, C]."""
    parts = []
    for _ in range(_PARTS):
        # XLA takes a conversion to bfloat16 and back for none.
        rounded = lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
        parts.append(rounded.astype(jnp.bfloat16))
        x = x - rounded
    return jnp.concatenate(parts, axis=-2)


def _forward(x: Array, kernels: StemKernels) -> tuple[Array, Array]:
    return _exact_correlation(x, kernels), x


def _backward(x: Array, cotangent: Array) -> tuple[Array, StemKernels]:
    ct = cotangent.astype(x.dtype)
    how = _arithmetic(x)
    dimensions = ("CHWN", "IHWO", "HWNC")  # a product over patches and positions
    whole = lax.conv_general_dilated(x, ct, (1, 1), _PADDING, dimension_numbers=dimensions, **how)
    at_sides = jnp.stack([ct[:, *side] for side in _RING[:4]])
    sides = jnp.einsum("smhqp,smhc->sqpc", _side_windows(x), at_sides, **how)
    at_corners = jnp.stack([ct[:, *corner] for corner in _RING[4:]])
    corners = jnp.einsum("kmqp,kmc->kqpc", _corner_windows(x), at_corners, **how)
    return jnp.zeros_like(x), StemKernels(whole, -sides, corners)


_exact_correlation.defvjp(_forward, _backward)
