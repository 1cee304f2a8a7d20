"""Draws what happens to an image before it is learned from, as text that anyone can repeat.

A version of an image is the image and a text such as `bicubic:0.731+webp:83`:
`parse_perturbation(text).apply(image)` makes it again. Keep the text rather than the seed, as NumPy
may change what a seed draws. Photographs and generated images are to be drawn for alike.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from data_pipelines.images import at_least_one_patch, random_window
from data_pipelines.perturbations import (
    KERNELS,
    NO_PERTURBATION,
    PRESETS,
    parse_perturbation,
    require_codec,
)

TWO_IN_A_ROW: Final = 0.5
"""Probability that a second operation follows the first, which may be of the same kind."""
PRESET_SHARE: Final = 0.25
"""Part of the JPEG operations that use a preset instead of the standard tables."""


def _jpeg(rng: np.random.Generator) -> str:
    if rng.random() < PRESET_SHARE:
        return f"photoshop:{rng.choice(PRESETS)}"
    return f"{rng.choice(('jpeg', 'jpeg422', 'jpeg444'))}:{rng.integers(50, 98, endpoint=True)}"


def _webp(rng: np.random.Generator) -> str:
    return f"webp:{rng.integers(50, 98, endpoint=True)}"


def _avif(rng: np.random.Generator) -> str:
    return f"avif:{rng.integers(50, 95, endpoint=True)}"


def _resize(rng: np.random.Generator) -> str:
    kernel = rng.choice(("resize", *KERNELS))
    return f"{kernel}:{math.exp(rng.uniform(math.log(0.5), math.log(1.5))):.3f}"


def _blur(rng: np.random.Generator) -> str:
    return f"blur:{rng.uniform(0.3, 1.2):.3f}"


def _crop(rng: np.random.Generator) -> str:
    return f"crop:{rng.integers(1, 7, endpoint=True)}"


OPERATIONS: Final[Mapping[str, tuple[int, Callable[[np.random.Generator], str]]]] = {
    "jpeg": (2, _jpeg),
    "webp": (1, _webp),
    "avif": (1, _avif),
    "resize": (3, _resize),
    "blur": (1, _blur),
    "crop": (2, _crop),
}
"""Kinds of operations: weight, and what draws one of the kind."""
NONE_WEIGHT: Final = 1
"""Weight of leaving an image as it is, beside those of `OPERATIONS`."""


def draw_chain(rng: np.random.Generator) -> str:
    """Draws one version of an image: `none`, or one or two operations in a row.

    Levels are rounded as they are written, so the text says exactly what is done. What is drawn
    does not depend on the machine: where a codec is missing nothing is drawn at all.

    Args:
        rng: decides everything.

    Returns:
        Text for `parse_perturbation`.

    Raises:
        UserError: this Pillow cannot write WebP or AVIF.
    """
    for codec in ("webp", "avif"):
        require_codec(codec)
    weights = np.array([weight for weight, _ in OPERATIONS.values()])
    if rng.random() < NONE_WEIGHT / (NONE_WEIGHT + weights.sum()):
        return NO_PERTURBATION.name
    count = 2 if rng.random() < TWO_IN_A_ROW else 1
    kinds = rng.choice(list(OPERATIONS), size=count, p=weights / weights.sum())
    return "+".join(OPERATIONS[kind][1](rng) for kind in kinds)


def perturbed_window(
    image: np.ndarray, chain: str, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Applies a chain to a window, and cuts what it enlarged to a window again.

    Args:
        image: uint8 [H, W, 3].
        chain: text for `parse_perturbation`, as from `draw_chain`.
        rng: draws the place of the cut, which is central without it.

    Returns:
        uint8 [h, w, 3] with sides of 64 to 256; a result with a side under 64 is resized to 64x64,
        as such an image would be before it is judged.
    """
    return at_least_one_patch(random_window(parse_perturbation(chain).apply(image), rng))
