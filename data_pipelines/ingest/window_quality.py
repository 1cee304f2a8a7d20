"""Windows that teach nothing about a camera: flat, black or clipped ones."""

from typing import Final

import numpy as np

FLAT_DEVIATION: Final = 1.0
"""Levels of 0..255: a window whose brightness deviates less from its mean shows no content, and the
little noise it has was mostly quantised away."""
BLACK_LEVEL: Final = 8
CLIPPED_LEVEL: Final = 255
FRACTION: Final = 0.5
"""A window with more than this fraction of black, or of clipped, pixels is skipped."""


def window_problem(pixels: np.ndarray) -> str:
    """Returns "black", "clipped", "flat", or "" for a window that can be used.

    A pixel is black if no channel is above `BLACK_LEVEL`, and clipped if any is at 255.

    Args:
      pixels: uint8 [H, W, 3].
    """
    highest = pixels.max(axis=2)
    if np.mean(highest <= BLACK_LEVEL) > FRACTION:
        return "black"
    if np.mean(highest == CLIPPED_LEVEL) > FRACTION:
        return "clipped"
    brightness = pixels.mean(axis=2, dtype=np.float32)
    return "flat" if float(brightness.std()) < FLAT_DEVIATION else ""
