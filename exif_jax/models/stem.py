"""The stem of the published network: fixed residual filters and a convolution, in one pass.

P planes, C channels; other suffixes as in `exif_jax.models.extractor`.
"""

from functools import partial
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
        sides: [4, 2, 7, P, C], of residuals above, below, left and right of it: of two rows
            (columns) of seven pixels, for every pixel of the side.
        corners: [4, 2, 2, P, C], of residuals outside both ways.
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

    sides = jnp.stack([*rows, *(x.swapaxes(0, 1) for x in columns)])
    return StemKernels(compose_kernels(srm, kernel), sides, jnp.stack(corners))


def _side_windows(x_MHWP: Array, depth: int) -> Array:
    """What every pixel of a side sees of the outermost rows (columns): [4, M, H, depth, 7, P]."""
    turned = x_MHWP.swapaxes(1, 2)
    ends = (slice(None, depth), slice(-depth, None))
    strips = jnp.stack([x[:, end] for x in (x_MHWP, turned) for end in ends])
    strips = jnp.pad(strips, ((0, 0), (0, 0), (0, 0), (3, 3), (0, 0)))
    length = x_MHWP.shape[2]
    windows = jnp.stack([strips[:, :, :, i : i + length] for i in range(7)], axis=3)
    return jnp.moveaxis(windows, 4, 2)


def _corner_windows(x_MHWP: Array, depth: int) -> Array:
    """[4, M, depth, depth, P]."""
    ends = (slice(None, depth), slice(-depth, None))
    return jnp.stack([x_MHWP[:, rows, columns] for rows in ends for columns in ends])


def _ring_kernels(kernels: StemKernels) -> tuple[Array, Array]:
    """Kernels of the outermost ring of the output, without the residuals outside.

    Returns:
        [4, 4, 7, P, C] of `_side_windows` and [4, 4, 4, P, C] of `_corner_windows`, depth 4.
    """
    whole, outside, corners = kernels
    # Of seven rows the last four (first four) see the patch; its two outermost rows are corrected.
    turned = whole.swapaxes(0, 1)
    seen = jnp.stack([x[part] for x in (whole, turned) for part in (slice(3, 7), slice(4))])
    rows = [(0, 2), (2, 0), (0, 2), (2, 0)]  # padding to four
    sides = seen - jnp.stack(
        [_padded(x, (row, (0, 0))) for x, row in zip(outside, rows, strict=True)]
    )
    at_corners = []
    for i in range(4):
        vertical, horizontal = rows[i // 2], rows[i % 2]
        part = slice(3, 7) if i % 2 == 0 else slice(4)
        # Above (below) is taken off already; left (right) is, and what is so twice is added.
        kernel = sides[i // 2][:, part]
        beside = outside[2 + i % 2].swapaxes(0, 1)[slice(3, 7) if i < 2 else slice(4)]
        kernel -= _padded(beside, ((0, 0), horizontal))
        at_corners.append(kernel + _padded(corners[i], (vertical, horizontal)))
    return sides, jnp.stack(at_corners)


def _padded(x: Array, padding: tuple[tuple[int, int], tuple[int, int]]) -> Array:
    return jnp.pad(x, (*padding, (0, 0), (0, 0)))


def _arithmetic(x: Array) -> dict[str, Any]:
    """Products in the precision of the operands, sums in float32 at least."""
    precision = None if x.dtype == jnp.bfloat16 else lax.Precision.HIGHEST
    kept = jnp.promote_types(x.dtype, jnp.float32)
    return {"precision": precision, "preferred_element_type": kept}


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlation(x_MHWP: Array, kernels: StemKernels, dtype: Any) -> Array:
    """SRM filtering with zero padding and a zero-padded 3x3 convolution of square patches.

    Args:
        x_MHWP: [M, H, H, P], H at least 4. In bfloat16 it must be exact.
        kernels: at least float32; no operand of a product is rounded.
        dtype: of the result; sums are at least float32.

    Returns:
        [M, H, H, C].
    """
    whole, inputs = kernels.whole, x_MHWP
    if x_MHWP.dtype == jnp.bfloat16:
        # The input once for each part of the kernel, so that one product sums over all of them.
        whole = jnp.concatenate(_bfloat16_parts(whole), axis=2)
        inputs = jnp.concatenate([x_MHWP] * _PARTS, axis=3)
    out = lax.conv_general_dilated(
        inputs,
        whole,
        (1, 1),
        _PADDING,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        **_arithmetic(x_MHWP),
    ).astype(dtype)
    sides, corners = _ring_kernels(kernels)
    above, below, left, right = _product("smhijp,sijpc->smhc", _side_windows(x_MHWP, 4), sides)
    corners = _product("kmijp,kijpc->kmc", _corner_windows(x_MHWP, 4), corners)[:, :, None, None]
    last = out.shape[1] - 1
    ring = [(above[:, None], 0, 0), (below[:, None], last, 0)]
    ring += [(left[:, :, None], 0, 0), (right[:, :, None], 0, last)]
    places = [(row, column) for row in (0, last) for column in (0, last)]
    ring += [(values, *place) for values, place in zip(corners, places, strict=True)]
    for values, row, column in ring:  # in place: TPUs read and write all for `out.at[...].set`
        out = lax.dynamic_update_slice(out, values.astype(dtype), (0, row, column, 0))
    return out


def _product(terms: str, windows: Array, kernel: Array) -> Array:
    """A sum of products, to float32 at least; windows in bfloat16 are exact."""
    parts = _bfloat16_parts(kernel) if windows.dtype == jnp.bfloat16 else [kernel]
    out = jnp.einsum(terms, windows, jnp.concatenate(parts, axis=-1), **_arithmetic(windows))
    return out.reshape(*out.shape[:-1], len(parts), -1).sum(axis=-2)


def _bfloat16_parts(x: Array) -> list[Array]:
    """Arrays in bfloat16 that add up to x."""
    parts = []
    for _ in range(_PARTS):
        # XLA takes a conversion to bfloat16 and back for none.
        rounded = lax.reduce_precision(x, exponent_bits=8, mantissa_bits=7)
        parts.append(rounded.astype(jnp.bfloat16))
        x = x - rounded
    return parts


def _forward(x: Array, kernels: StemKernels, dtype: Any) -> tuple[Array, Any]:
    return correlation(x, kernels, dtype), (x, kernels)


def _backward(dtype: Any, kept: Any, cotangent: Array) -> tuple[Array, StemKernels]:
    x, kernels = kept
    ct, how = cotangent.astype(x.dtype), _arithmetic(x)
    dimensions = ("CHWN", "IHWO", "HWNC")  # sums over patches and positions
    whole = lax.conv_general_dilated(x, ct, (1, 1), _PADDING, dimension_numbers=dimensions, **how)
    # The whole kernel's derivative has the residuals outside, which are taken off.
    at_sides = jnp.stack([ct[:, *side] for side in _RING[:4]])
    sides = jnp.einsum("smhijp,smhc->sijpc", _side_windows(x, 2), at_sides, **how)
    at_corners = jnp.stack([ct[:, *corner] for corner in _RING[4:]])
    corners = jnp.einsum("kmijp,kmc->kijpc", _corner_windows(x, 2), at_corners, **how)
    return _patches_gradient(x, kernels, ct), StemKernels(whole, -sides, corners)


def _patches_gradient(x: Array, kernels: StemKernels, ct: Array) -> Array:
    """Derivative with respect to the patches; of whole pixels none. Not compiled if not used."""
    if x.dtype == jnp.bfloat16:
        return jnp.zeros_like(x)
    how = _arithmetic(x)
    inner = ct.at[:, 0].set(0).at[:, -1].set(0).at[:, :, 0].set(0).at[:, :, -1].set(0)
    whole = lax.conv_general_dilated(
        inner,
        jnp.flip(kernels.whole, (0, 1)),
        (1, 1),
        _PADDING,
        dimension_numbers=("NHWC", "HWOI", "NHWC"),
        **how,
    )
    side_kernels, corner_kernels = _ring_kernels(kernels)

    def on_ring(x: Array) -> tuple[Array, Array]:
        sides = jnp.einsum("smhijp,sijpc->smhc", _side_windows(x, 4), side_kernels, **how)
        return sides, jnp.einsum("kmijp,kijpc->kmc", _corner_windows(x, 4), corner_kernels, **how)

    at_sides = jnp.stack([ct[:, *side] for side in _RING[:4]]).at[:, :, jnp.array([0, -1])].set(0)
    at_corners = jnp.stack([ct[:, *corner] for corner in _RING[4:]])
    # A pixel of the ring that is on two sides is a corner, which has its own kernel.
    _, pull = jax.vjp(on_ring, x)
    return whole + pull((at_sides, at_corners))[0]


correlation.defvjp(_forward, _backward)


def residual_convolution(x_MHWP: Array, kernel: Array, bias: Array) -> Array:
    """The stem in the precision of its operands.

    Args:
        x_MHWP: [M, H, H, 3] normalised patches, H at least 4.
        kernel: [3, 3, 90, C]; the 90 inputs are plane-major (30 residuals of red, green, blue).
        bias: [C].

    Returns:
        [M, H, H, C].
    """
    kernels = stem_kernels(kernel.reshape(3, 3, 3, -1, kernel.shape[-1]))
    return correlation(x_MHWP, kernels, x_MHWP.dtype) + bias.reshape(1, 1, 1, -1)


def exact_residual_convolution(
    x_MHWP: Array, kernel: Array, bias: Array, dtype: Any = jnp.bfloat16
) -> Array:
    """The same by products in bfloat16 and as exact as float32, for patches of whole pixel values.

    Rounded to bfloat16, normalised pixels lose much of their residuals. Whole ones are exact in it,
    a float32 kernel is the sum of three kernels in it, and sums are kept in float32: nothing is
    rounded before the result. A plane of ones carries the bias, and what a border of normalised
    zeros means for whole pixels.

    The derivative with respect to the kernel takes cotangents in bfloat16, sums in float32; that
    with respect to the patches is zero.

    Args:
        x_MHWP: [M, H, H, 3], what `normalise` made of pixels 0..255.
        kernel: float32 [3, 3, 90, C].
        bias: float32 [C].
        dtype: of the result.

    Returns:
        [M, H, H, C].
    """
    kernel = kernel.reshape(3, 3, 3, -1, kernel.shape[-1])
    planes = (1, 1, 3, 1, 1)
    scaled = kernel / jnp.asarray(255 * np.array(STD), kernel.dtype).reshape(planes)
    remainder = jnp.asarray(OFFSETS - 255 * np.array(MEAN), kernel.dtype).reshape(planes)
    constant = (scaled * remainder).sum(axis=2, keepdims=True)
    kernels = stem_kernels(jnp.concatenate([scaled, constant], axis=2))
    kernels = kernels._replace(whole=kernels.whole.at[3, 3, 3].add(bias))
    pixels = whole_pixels(x_MHWP).astype(jnp.bfloat16)
    ones = jnp.ones((*pixels.shape[:3], 1), pixels.dtype)
    return correlation(jnp.concatenate([pixels, ones], axis=3), kernels, dtype)
