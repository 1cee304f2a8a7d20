"""Scenes to photograph: dead leaves, and crops of the two photographs that scikit-learn ships.

Dead leaves (overlapping discs with power-law radii; Lee, Mumford & Huang, "Occlusion models for
natural images", IJCV 2001) have the edge, scale and 1/f statistics of natural images. Scenes are
linear light at SCENE_SCALE times the resolution of the picture, so that sampling them is real.
"""

import dataclasses
import functools
from typing import Literal

import numpy as np
from PIL import Image
from scipy import fft

SCENE_SCALE = 2
MIDDLE_GREY = 0.18

Partition = Literal["train", "test"]

# Mean and spread of the scene luminance in APEX Bv (0 = 3.4 cd/m2), how often, and how warm.
_LIGHTING = {
    "sun": (8.5, 0.8, 0.28, 0.0),
    "shade": (6.0, 0.8, 0.27, -0.15),
    "indoor": (3.0, 1.0, 0.27, 0.35),
    "night": (-0.5, 0.9, 0.18, 0.55),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """What stands before the lens.

    Attributes:
        radiance_HWC: float32 [H, W, 3], linear, non-negative, mean luminance MIDDLE_GREY.
        brightness_value: mean scene luminance in APEX units (Bv).
        illuminant: float32 [3], colour of the light, green = 1 (already in the radiance).
        lighting: "sun", "shade", "indoor" or "night".
    """

    radiance_HWC: np.ndarray
    brightness_value: float
    illuminant: np.ndarray
    lighting: str


def power_law_noise(rng: np.random.Generator, shape: tuple[int, int], slope: float) -> np.ndarray:
    """Gaussian noise whose amplitude spectrum falls as 1/f**slope; float32 [H, W], std 1."""
    rows = fft.fftfreq(shape[0])[:, None]
    columns = fft.rfftfreq(shape[1])[None, :]
    frequency = np.sqrt(rows**2 + columns**2).astype(np.float32)
    frequency[0, 0] = np.inf
    parts = rng.standard_normal((2, *frequency.shape), dtype=np.float32)
    noise = fft.irfft2((parts[0] + 1j * parts[1]) * frequency**-slope, s=shape)
    return (noise / noise.std()).astype(np.float32)


def sample_scene(
    rng: np.random.Generator, picture_shape: tuple[int, int], partition: Partition
) -> Scene:
    """Draws one scene for a picture of the given height and width.

    It has SCENE_SCALE times as many rows and columns. Scenes to train and to test with show
    different parts of the two photographs.
    """
    shape = (SCENE_SCALE * picture_shape[0], SCENE_SCALE * picture_shape[1])
    texture = power_law_noise(rng, shape, slope=float(rng.uniform(1.0, 1.5)))
    if rng.random() < 0.45:
        background = _photograph_crop(rng, shape, partition)
        num_leaves = int(rng.choice((0, 40)))
    else:
        background = np.full((*shape, 3), rng.uniform(0.05, 0.5), np.float32)
        num_leaves = int(rng.integers(120, 300))
    radiance = _add_leaves(rng, background, num_leaves, texture)
    radiance *= _shading(rng, shape)[..., None]

    names = list(_LIGHTING)
    lighting = names[rng.choice(len(names), p=[_LIGHTING[name][2] for name in names])]
    mean, spread, _, warmth = _LIGHTING[lighting]
    warmth = warmth + rng.normal(0.0, 0.08)
    illuminant = np.exp(np.array([0.6 * warmth, 0.0, -0.8 * warmth], np.float32))
    radiance *= np.float32(MIDDLE_GREY / radiance.mean())
    return Scene(
        radiance_HWC=radiance * illuminant,
        brightness_value=float(rng.normal(mean, spread)),
        illuminant=illuminant,
        lighting=lighting,
    )


def _add_leaves(
    rng: np.random.Generator, background_HWC: np.ndarray, num_leaves: int, texture_HW: np.ndarray
) -> np.ndarray:
    """Paints ellipses with power-law radii, back to front, each with a gradient and a texture."""
    height, width, _ = background_HWC.shape
    owner = np.zeros((height, width), np.int16)  # 0 = background
    smallest, largest = 5.0, 0.45 * min(height, width)
    # Density of radii ~ r**-2.5, by inversion of its distribution function.
    quantile = rng.random(num_leaves)
    radii = (smallest**-1.5 + quantile * (largest**-1.5 - smallest**-1.5)) ** (-1 / 1.5)
    # A few large leaves at the back keep the background from showing everywhere.
    radii[: num_leaves // 8] = rng.uniform(0.15, 0.45, num_leaves // 8) * min(height, width)
    centres = rng.random((num_leaves, 2)) * (height, width)
    for leaf in range(num_leaves):
        _paint_ellipse(owner, leaf + 1, centres[leaf], radii[leaf], rng)

    num_colours = 6
    palette = rng.lognormal(-1.6, 0.8, (num_colours, 1)) * rng.lognormal(0, 0.25, (num_colours, 3))
    colour = palette[rng.integers(num_colours, size=num_leaves + 1)]
    colour = (colour * rng.lognormal(0.0, 0.15, colour.shape)).clip(0.01, 0.95).astype(np.float32)
    contrast = rng.uniform(0.0, 0.35, num_leaves + 1).astype(np.float32)
    slope = rng.normal(0.0, 0.8, (2, num_leaves + 1)).astype(np.float32)
    middle = np.concatenate([np.zeros((1, 2)), centres / (height, width) * 2 - 1]).T
    offset = (1 - (slope * middle).sum(axis=0)).astype(np.float32)
    rows, columns = _axes((height, width))
    of_pixel = owner.astype(np.intp)
    gradient = slope[0].take(of_pixel) * rows + slope[1].take(of_pixel) * columns
    gradient += offset.take(of_pixel)
    relief = np.clip(gradient, 0.3, 2.0)
    relief *= np.clip(1 + contrast.take(of_pixel) * texture_HW, 0.2, 2.5)
    surface = colour.take(of_pixel, axis=0)
    if num_leaves < 100:
        np.copyto(surface, background_HWC, where=(owner == 0)[..., None])
    return surface * relief[..., None]


def _paint_ellipse(
    owner_HW: np.ndarray, number: int, centre: np.ndarray, radius: float, rng: np.random.Generator
) -> None:
    height, width = owner_HW.shape
    top, left = (max(0, int(c - radius)) for c in centre)
    bottom, right = (int(c + radius) + 2 for c in centre)
    bottom, right = min(bottom, height), min(right, width)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - centre[0]
    x = np.arange(left, right, dtype=np.float32)[None, :] - centre[1]
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(1.0, 3.0)
    along = y * np.sin(angle) + x * np.cos(angle)
    across = (y * np.cos(angle) - x * np.sin(angle)) * aspect
    owner_HW[top:bottom, left:right][along**2 + across**2 < radius**2] = number


def _axes(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Place of every row and column from -1 to 1, float32 [H, 1] and [1, W]."""
    rows, columns = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    return rows[:, None], columns[None, :]


def _shading(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A smooth fall-off of the light across the scene."""
    rows, columns = _axes(shape)
    slope = rng.normal(0.0, 0.25, 2)
    return np.exp(slope[0] * rows + slope[1] * columns).astype(np.float32)


@functools.cache
def _sample_photographs() -> tuple[np.ndarray, ...]:
    """The two photographs in linear light, float32 [427, 640, 3]."""
    # Imported here: scikit-learn takes a second, and only the first scene of a process pays it.
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    return tuple((image.astype(np.float32) / 255) ** np.float32(2.2) for image in images)


def _photograph_crop(
    rng: np.random.Generator, shape: tuple[int, int], partition: Partition
) -> np.ndarray:
    """A random crop of one photograph, mirrored, warped to the shape and recoloured."""
    photographs = _sample_photographs()
    photograph = photographs[rng.integers(len(photographs))]
    split = int(0.6 * photograph.shape[1])
    photograph = photograph[:, :split] if partition == "train" else photograph[:, split:]
    if rng.random() < 0.5:
        photograph = photograph[:, ::-1]
    height, width, _ = photograph.shape
    side = rng.uniform(0.55, 1.0) * min(height, width)
    crop_height, crop_width = (int(side * rng.uniform(0.8, 1.0)) for _ in range(2))
    top = int(rng.integers(height - crop_height + 1))
    left = int(rng.integers(width - crop_width + 1))
    crop = photograph[top : top + crop_height, left : left + crop_width]
    colours = (Image.fromarray(np.ascontiguousarray(crop[..., c])) for c in range(3))
    planes = [colour.resize(shape[::-1], Image.Resampling.BICUBIC) for colour in colours]
    warped = np.clip(np.stack([np.asarray(plane) for plane in planes], axis=-1), 1e-3, None)
    mixing = np.eye(3) + rng.uniform(0.0, 0.25, (3, 3))
    gain = rng.lognormal(0.0, 0.25, 3)
    return (warped @ mixing.astype(np.float32)) * gain.astype(np.float32)
