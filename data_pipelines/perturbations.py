"""What happens to images on their way through the world: compression, blur, resizing.

The same three functions perturb test images (`parse_perturbation`) and augment training images
(`augment`). Images are uint8 [H, W, 3] RGB, and stay so.

One of your own is one function, in a module that is named in EXIF_JAX_PLUGINS:

    @perturbation("gamma", float, "an exponent above 0")
    def gamma(image: np.ndarray, level: float) -> np.ndarray:
        return np.rint(255 * (image / 255) ** level).astype(np.uint8)
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image
from scipy import ndimage

from data_pipelines.errors import UserError
from data_pipelines.registry import Registry

CHROMA_SUBSAMPLING = "4:2:0"  # Pillow's own default, and what most of the web applies

Operation = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class PerturbationKind:
    """What a name in a perturbation stands for.

    Attributes:
        operation: function of an image and a level.
        parse: text -> level; raises ValueError for what is out of range.
        levels: the range in words.
    """

    operation: Operation
    parse: Callable[[str], float]
    levels: str

    @property
    def __wrapped__(self) -> Operation:
        """The function itself, by which the registry knows it again."""
        return self.operation


PERTURBATIONS: Final[Registry[PerturbationKind]] = Registry("perturbation")


def perturbation(
    name: str, parse: Callable[[str], float], levels: str
) -> Callable[[Operation], Operation]:
    """Decorator that makes a function of an image and a level known as `name:LEVEL`.

    The name is in lower case, without ":", "+" and ","; `PerturbationKind` tells of the others.
    """

    def add(operation: Operation) -> Operation:
        PERTURBATIONS.register(name)(PerturbationKind(operation, parse, levels))
        return operation

    return add


def _positive(number: type[float], high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not 0 < (level := number(text)) <= high:
            raise ValueError(text)
        return level

    return parse


@perturbation("jpeg", _positive(int, 100), "a whole quality of 1..100")
def jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    """Compresses as baseline JPEG with 4:2:0 chroma and the standard tables, and decompresses.

    Sides go up to 65,500, the quality is a whole number, 1..100 on libjpeg's scale.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer, "JPEG", quality=int(quality), subsampling=CHROMA_SUBSAMPLING
    )
    with Image.open(buffer) as decoded:
        return np.asarray(decoded)


@perturbation("blur", _positive(float, 100), "a sigma in pixels above 0 and up to 100")
def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """True Gaussian blur of each channel, cut off at 4 sigma, mirrored at the borders.

    Pillow's own filter only approximates a Gaussian by box blurs, poorly so at a small sigma.
    Sigma is the standard deviation in pixels; 0 changes nothing.
    """
    blurred = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pillow's bilinear resize, antialiased when shrinking: its triangle widens with the step."""
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


@perturbation("resize", _positive(float, 4), "a factor above 0 and up to 4")
def rescale(image: np.ndarray, factor: float) -> np.ndarray:
    """`resize` of both sides by one factor, rounded to whole pixels, at least 1."""
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in image.shape[:2])
    return resize(image, height, width)


@dataclass(frozen=True)
class Perturbation:
    """A named chain of operations on images.

    Attributes:
        name: as written in tables, such as `resize:0.5+jpeg:80`, or `none`.
        steps: operations and their levels, applied from left to right.
    """

    name: str
    steps: tuple[tuple[Operation, float], ...]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Perturbs uint8 [H, W, 3]; the result may have other sides."""
        for operation, level in self.steps:
            image = operation(image, level)
        return image


NO_PERTURBATION = Perturbation("none", ())


def parse_perturbation(text: str) -> Perturbation:
    """Reads one perturbation: `jpeg:95`, `blur:1.0`, `resize:0.5`, a chain with `+`, or `none`.

    Raises:
        UserError: anything else; the message lists what is known.
    """
    name = text.strip().lower()
    if name == NO_PERTURBATION.name:
        return NO_PERTURBATION
    return Perturbation(name, tuple(_parse_step(part, text) for part in name.split("+")))


def parse_perturbations(text: str) -> tuple[Perturbation, ...]:
    """Reads a comma-separated list, such as `jpeg:95,resize:0.5+jpeg:80`; see `parse_perturbation`.

    Returns:
        `none` first, whether listed or not, then the others in their order, each once.
    """
    entries = text.split(",") if text.strip() else []
    parsed = [NO_PERTURBATION, *map(parse_perturbation, entries)]
    return tuple({perturbation.name: perturbation for perturbation in parsed}.values())


def _parse_step(part: str, text: str) -> tuple[Operation, float]:
    name, _, level = (piece.strip() for piece in part.partition(":"))
    cannot = f"perturbation {text!r}: cannot read {part!r}"
    if name not in PERTURBATIONS:
        known = "; ".join(f"{n}:LEVEL ({PERTURBATIONS[n].levels})" for n in PERTURBATIONS.names())
        raise UserError(f"{cannot}: known are none; {known}; chain with +")
    kind = PERTURBATIONS[name]
    try:
        return kind.operation, kind.parse(level)
    except ValueError as error:
        raise UserError(f"{cannot}: {name}:LEVEL needs {kind.levels}; chain with +") from error


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images, each independent of the others, in this order.

    The defaults are those of the SDAIE paper's binary detector (arXiv 2512.05651).

    Attributes:
        resize_probability: of a resize to a square.
        resize_sides: smallest and largest side of it in pixels, both included.
        blur_probability: of a Gaussian blur.
        blur_sigmas: range of its sigma in pixels.
        jpeg_probability: of a JPEG compression.
        jpeg_qualities: lowest and highest quality, both included.
    """

    resize_probability: float = 0.3
    resize_sides: tuple[int, int] = (64, 128)
    blur_probability: float = 0.1
    blur_sigmas: tuple[float, float] = (0.0, 1.0)
    jpeg_probability: float = 0.25
    jpeg_qualities: tuple[int, int] = (90, 99)


def augment(image: np.ndarray, rng: np.random.Generator, config: Augmentation) -> np.ndarray:
    """Augments one training image, or returns the image itself when nothing was drawn.

    The generator decides everything: the same state gives the same result.
    """
    if rng.random() < config.resize_probability:
        side = int(rng.integers(*config.resize_sides, endpoint=True))
        image = resize(image, side, side)
    if rng.random() < config.blur_probability:
        image = blur(image, rng.uniform(*config.blur_sigmas))
    if rng.random() < config.jpeg_probability:
        image = jpeg(image, int(rng.integers(*config.jpeg_qualities, endpoint=True)))
    return image
