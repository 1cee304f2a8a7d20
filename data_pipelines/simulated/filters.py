"""Small linear filters shared by cameras and generators."""

import numpy as np
from scipy import ndimage


def correlate(plane_HW: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Correlates a plane, float32 [H, W], with a small sparse kernel [k, k] of odd k.

    One shifted sum per non-zero tap. The border is mirrored without repeating the edge, which keeps
    the parity of a colour filter mosaic.
    """
    height, width = plane_HW.shape
    margin = kernel.shape[0] // 2
    padded = np.pad(plane_HW, margin, mode="reflect")
    total = np.zeros_like(plane_HW)
    for row, column in np.argwhere(kernel):
        weight = np.float32(kernel[row, column])
        total += weight * padded[row : row + height, column : column + width]
    return total


def blur(image_HWC: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of the two leading axes of a float image; sigma in pixels."""
    sigmas = (sigma, sigma) + (0.0,) * (image_HWC.ndim - 2)
    return ndimage.gaussian_filter(image_HWC, sigmas, truncate=2.5, mode="reflect")


def fine_detail(image_HWC: np.ndarray) -> np.ndarray:
    """The part of an image that a blur of one pixel removes."""
    return image_HWC - blur(image_HWC, 1.0)


def box_downsample(image_HWC: np.ndarray, factor: int) -> np.ndarray:
    """Means of factor x factor blocks; float [H, W, C] -> [H // factor, W // factor, C]."""
    # Adding slices is several times faster than a mean over axes of length `factor`.
    rows = np.add.reduce([image_HWC[i::factor] for i in range(factor)])
    total = np.add.reduce([rows[:, i::factor] for i in range(factor)])
    return total * np.float32(1 / factor**2)


def channel_means(image_HWC: np.ndarray) -> np.ndarray:
    """Mean of every channel; [H, W, C] -> [C]."""
    return np.array([image_HWC[..., c].mean() for c in range(image_HWC.shape[-1])], image_HWC.dtype)
