"""Demosaicing with four small kernels, from bilinear to gradient-corrected."""

import numpy as np

from data_pipelines.simulated.filters import correlate
from data_pipelines.simulated.lens import mosaic_colours

# Bilinear interpolation: from the four nearest, from left and right, from the diagonals.
_CROSS = np.zeros((5, 5))
_CROSS[[1, 2, 2, 3], [2, 1, 3, 2]] = 1 / 4
_ROW = np.zeros((5, 5))
_ROW[2, [1, 3]] = 1 / 2
_DIAGONAL = np.zeros((5, 5))
_DIAGONAL[[1, 1, 3, 3], [1, 3, 1, 3]] = 1 / 4


def _mirrored(*rows: list[float]) -> np.ndarray:
    """The kernel, in eighths, whose last two rows mirror the first two."""
    return np.array([*rows, *rows[1::-1]]) / 8


# Malvar, He & Cutler, "High-quality linear interpolation for demosaicing", ICASSP 2004, figure 2.
_CROSS_CORRECTED = _mirrored([0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1])
_ROW_CORRECTED = _mirrored([0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1])
_DIAGONAL_CORRECTED = _mirrored([0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5])


def demosaic(raw_HW: np.ndarray, mosaic: str, gradient_correction: float) -> np.ndarray:
    """Fills in the missing colours of a white-balanced signal: float32 [H, W] -> [H, W, 3].

    Mosaic and gradient correction are those of `cameras.Sensor` and `cameras.Processing`.
    """
    colours = mosaic_colours((raw_HW.shape[0], raw_HW.shape[1]), mosaic)
    green = colours == 1
    # Rows that hold red pixels; in the others blue stands beside green.
    red_row = (colours == 0).any(axis=1, keepdims=True)

    def interpolated(bilinear: np.ndarray, corrected: np.ndarray) -> np.ndarray:
        return correlate(raw_HW, bilinear + gradient_correction * (corrected - bilinear))

    cross = interpolated(_CROSS, _CROSS_CORRECTED)
    along_row = interpolated(_ROW, _ROW_CORRECTED)
    along_column = interpolated(_ROW.T, _ROW_CORRECTED.T)
    diagonal = interpolated(_DIAGONAL, _DIAGONAL_CORRECTED)
    red_at_green = np.where(red_row, along_row, along_column)
    blue_at_green = np.where(red_row, along_column, along_row)
    return np.stack(
        [
            np.where(colours == 0, raw_HW, np.where(green, red_at_green, diagonal)),
            np.where(green, raw_HW, cross),
            np.where(colours == 2, raw_HW, np.where(green, blue_at_green, diagonal)),
        ],
        axis=-1,
    )
