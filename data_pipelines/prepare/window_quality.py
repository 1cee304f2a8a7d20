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
    """Returns "black", "clipped", "flat", or "" for a window that can be used, uint8 [H, W, 3].

    A pixel is black if no channel is above `BLACK_LEVEL`, and clipped if any is at 255.
    """
    red, green, blue = (pixels[..., channel] for channel in range(3))
    # NumPy is ten times as slow where it reduces over the three channels itself.
    highest = np.maximum(np.maximum(red, green), blue)
    if np.count_nonzero(highest <= BLACK_LEVEL) > FRACTION * highest.size:
        return "black"
    if np.count_nonzero(highest == CLIPPED_LEVEL) > FRACTION * highest.size:
        return "clipped"
    return "flat" if is_flat(pixels) else ""


def is_flat(pixels: np.ndarray) -> bool:
    """Whether a picture, uint8 [H, W, 3], is almost of one brightness."""
    red, green, blue = (pixels[..., channel] for channel in range(3))
    brightness = red.astype(np.uint16) + green + blue
    return bool(brightness.std(dtype=np.float32) < 3 * FLAT_DEVIATION)
