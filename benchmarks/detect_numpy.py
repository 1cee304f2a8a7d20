"""The residual description of a window in plain NumPy, and the operations that it takes."""

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from data_pipelines.images import PATCH, WINDOW
from exif_jax.models.patches import MEAN, STD, grid_patches
from exif_jax.models.residual_covariance import OPPONENT, REGULARISATION, residual_basis

SQUARES = {1: 3, 2: 4}  # by scale: side of the squares over which magnitudes are averaged
FILTERS = residual_basis().shape[-1]
MAPS = 3 * FILTERS


def describe_in_numpy(
    window: np.ndarray, statistics: Sequence[str], scales: Sequence[int]
) -> np.ndarray:
    """Description float32 [S] of uint8 [256, 256, 3]; of the magnitudes and energies only."""
    x = ((grid_patches(window) / np.float32(255) - MEAN) / STD).astype(np.float32)
    planes = np.einsum("mhwc,dc->mdhw", x, (OPPONENT * STD).astype(np.float32))
    parts = []
    for scale in scales:
        patches, _, side, _ = planes.shape
        small = planes.reshape(patches, 3, side // scale, scale, side // scale, scale)
        squares = _squares(small.mean(axis=(3, 5)), SQUARES[scale])
        for name in statistics:
            parts.append(_described(_statistic(squares, name, scale)))
    return np.concatenate(parts).astype(np.float32)


def _squares(planes: np.ndarray, side: int) -> np.ndarray:
    """Residuals [M, 3, squares, pixels, filters] of planes [M, 3, H, W], by one matrix product."""
    kernel = np.zeros((4 + side, 4 + side, side, side, FILTERS), np.float32)
    for row, column in np.ndindex(side, side):
        kernel[row : row + 5, column : column + 5, row, column] = residual_basis()
    around = sliding_window_view(planes, (4 + side, 4 + side), axis=(2, 3))[:, :, ::side, ::side]
    rows = around.reshape(-1, (4 + side) ** 2)
    return (rows @ kernel.reshape(len(rows[0]), -1)).reshape(
        *planes.shape[:2], -1, side * side, FILTERS
    )


def _statistic(squares: np.ndarray, name: str, scale: int) -> np.ndarray:
    """Values [M, positions, maps]."""
    if name == "magnitude":
        values = np.abs(squares).mean(axis=3, keepdims=True)
    else:
        sampled = squares[:, :, :, 4:5] if scale == 1 else squares
        values = 5 * np.minimum(np.square(sampled), np.float32(0.04))
    return values.transpose(0, 2, 3, 1, 4).reshape(len(values), -1, MAPS)


def _described(values: np.ndarray) -> np.ndarray:
    mean = values.mean(axis=1).mean(axis=0)
    second = (values.swapaxes(1, 2) @ values).mean(axis=0) / values.shape[1]
    covariance = (second - np.outer(mean, mean)).astype(np.float64)
    eigenvalues, vectors = np.linalg.eigh(covariance + REGULARISATION * np.eye(MAPS))
    logarithm = (vectors * np.log(eigenvalues)) @ vectors.T
    rows, columns = np.triu_indices(MAPS)
    upper = logarithm[rows, columns] * np.where(rows == columns, 1, 2**0.5)
    return np.concatenate([upper, np.log(mean + REGULARISATION)])


def operations(statistics: Sequence[str], scales: Sequence[int]) -> int:
    """Floating-point operations of the convolutions and products of a window, as they are done."""
    total = 0
    for scale in scales:
        side, inside = SQUARES[scale], PATCH // scale - 4
        squares = (inside // side) ** 2
        total += 2 * (4 + side) ** 2 * side**2 * MAPS * squares
        for name in statistics:
            positions = squares * (side**2 if name == "energy" and scale == 2 else 1)
            total += 2 * MAPS**2 * positions
    return total * (WINDOW // PATCH) ** 2
