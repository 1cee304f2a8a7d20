"""The thirty fixed high-pass kernels of the spatial rich model (Fridrich & Kodovsky, TIFS 2012)."""

import numpy as np

_SQUARE_3 = [[-1, 2, -1], [2, -4, 2], [-1, 2, -1]]
_SQUARE_5 = [
    [-1, 2, -2, 2, -1],
    [2, -6, 8, -6, 2],
    [-2, 8, -12, 8, -2],
    [2, -6, 8, -6, 2],
    [-1, 2, -2, 2, -1],
]
# Directions (down, right) in the order of the published filter bank.
_EIGHT = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
_EIGHT_THIRD = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
_FOUR = [(-1, -1), (-1, 0), (-1, 1), (0, -1)]


def _line(coefficients: dict[int, int], direction: tuple[int, int]) -> np.ndarray:
    """Kernel with the coefficient of offset k placed k steps from the centre along a direction."""
    kernel = np.zeros((5, 5))
    for offset, value in coefficients.items():
        kernel[2 + offset * direction[0], 2 + offset * direction[1]] = value
    return kernel


def _edges(square: np.ndarray) -> list[np.ndarray]:
    """The halves of a symmetric kernel: upper, right, lower, left, each with the middle line."""
    rows, columns = np.mgrid[-2:3, -2:3]
    return [square * half for half in (rows <= 0, columns >= 0, rows >= 0, columns <= 0)]


def srm_kernels() -> np.ndarray:
    """The filter bank as a correlation kernel.

    Eight first-order, four second-order and eight third-order differences, four 3x3 and four 5x5
    edge kernels, the 3x3 and the 5x5 square kernel, each divided by the magnitude of its centre.

    Returns:
        float64 [5, 5, 30]: rows, columns, filters; every filter sums to zero.

    References:
        Fridrich & Kodovsky, "Rich models for steganalysis of digital images", TIFS 2012.
    """
    square_3 = np.pad(np.array(_SQUARE_3, float), 1)
    square_5 = np.array(_SQUARE_5, float)
    kernels = [_line({0: -1, 1: 1}, d) for d in _EIGHT]
    kernels += [_line({-1: 1, 0: -2, 1: 1}, d) for d in _FOUR]
    kernels += [_line({-1: 1, 0: -3, 1: 3, 2: -1}, d) for d in _EIGHT_THIRD]
    # The published bank orders the edge kernels upper, right, lower, left.
    kernels += _edges(square_3) + _edges(square_5) + [square_3, square_5]
    return np.stack([kernel / abs(kernel[2, 2]) for kernel in kernels], axis=-1)
