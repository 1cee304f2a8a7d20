"""What happens to images on their way through the world: compression, blur, resizing, cropping.

The same functions perturb test images (`parse_perturbation`) and augment training images: `augment`
as the paper does, `augmentation.draw_chain` by any of the names below. Images are uint8 [H, W, 3]
RGB, and stay so. Known by name:

    jpeg:Q jpeg422:Q jpeg444:Q      JPEG with 4:2:0, 4:2:2 or 4:4:4 chroma and the standard tables
    photoshop:PRESET                JPEG with a preset's tables and chroma, such as web_high
    webp:Q avif:Q                   the two by lossy quality, both with 4:2:0 chroma
    resize:F                        by a factor, bilinear; and with another kernel:
    bicubic:F lanczos:F box:F hamming:F
    blur:SIGMA                      Gaussian
    crop:K                          without the first K rows and columns

One of your own is one function, in a module that is named in EXIF_JAX_PLUGINS:

    @perturbation("gamma", float, "an exponent above 0")
    def gamma(image: np.ndarray, level: float) -> np.ndarray:
        return np.rint(255 * (image / 255) ** level).astype(np.uint8)
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import scipy  # whose parts are loaded when they are used, which takes long
from PIL import Image, JpegPresets, features

from data_pipelines.errors import UserError
from data_pipelines.images import quiet_pillow
from data_pipelines.registry import Registry

CHROMA_SUBSAMPLING = "4:2:0"  # Pillow's own default, and what most of the web applies
PRESETS: Final = tuple(JpegPresets.presets)
"""Names of Photoshop's JPEG settings: tables and sampling of chroma."""
KERNELS: Final = {
    kernel.name.lower(): kernel
    for kernel in (
        *(Image.Resampling.BICUBIC, Image.Resampling.LANCZOS),
        *(Image.Resampling.BOX, Image.Resampling.HAMMING),
    )
}
"""Kernels of resizing by name, beside the bilinear one of `resize`."""
# By default Pillow would take any AV1 encoder and as many threads and tiles as there are cores, and
# at speeds 6 and 8 one thread codes other pixels than two. Speed 9 takes 4.5 ms on a 256x256 window
# of a photograph, the usual 6 takes 41 ms, for files 5 % smaller and a PSNR 0.2 dB higher.
_AVIF: Final = {"codec": "aom", "max_threads": 1, "autotiling": False, "speed": 9}

# The level is what the kind's `parse` returns, most often a number.
Operation = Callable[[np.ndarray, Any], np.ndarray]


@dataclass(frozen=True)
class PerturbationKind:
    """What a name in a perturbation stands for.

    Attributes:
        operation: function of an image and a level.
        parse: text -> level; raises ValueError for what is out of range.
        levels: the range in words.
    """

    operation: Operation
    parse: Callable[[str], Any]
    levels: str

    @property
    def __wrapped__(self) -> Operation:
        """The function itself, by which the registry knows it again."""
        return self.operation


PERTURBATIONS: Final[Registry[PerturbationKind]] = Registry("perturbation")


def perturbation(
    name: str, parse: Callable[[str], Any], levels: str
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


def _preset(text: str) -> str:
    if text not in PRESETS:
        raise ValueError(text)
    return text


def _quality_of(codec: str) -> Callable[[str], float]:
    quality = _positive(int, 100)

    def parse(text: str) -> float:
        require_codec(codec)
        return quality(text)

    return parse


def require_codec(codec: str) -> None:
    """Checks that this Pillow writes `webp` or `avif`.

    Raises:
        UserError: it does not.
    """
    if not features.check(codec):
        raise UserError(
            f"perturbation {codec}: this Pillow was built without {codec.upper()}; "
            "pip install --force-reinstall pillow brings a build that has it"
        )


def _recompress(image: np.ndarray, file_format: str, **options: Any) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, **options)
    with quiet_pillow():  # which warns of large pictures
        decoded = Image.open(buffer)
    with decoded:
        return np.asarray(decoded)


def jpeg(image: np.ndarray, quality: float, subsampling: str = CHROMA_SUBSAMPLING) -> np.ndarray:
    """Compresses as baseline JPEG with the standard tables, and decompresses.

    Sides go up to 65,500, the quality is a whole number, 1..100 on libjpeg's scale.
    """
    return _recompress(image, "JPEG", quality=int(quality), subsampling=subsampling)


_QUALITY: Final = "a whole quality of 1..100"
perturbation("jpeg", _positive(int, 100), _QUALITY)(jpeg)
perturbation("jpeg422", _positive(int, 100), _QUALITY)(partial(jpeg, subsampling="4:2:2"))
perturbation("jpeg444", _positive(int, 100), _QUALITY)(partial(jpeg, subsampling="4:4:4"))


@perturbation("photoshop", _preset, f"a preset: {', '.join(PRESETS)}")
def photoshop(image: np.ndarray, preset: str) -> np.ndarray:
    """Compresses as JPEG with Photoshop's tables and sampling, and decompresses.

    The tables are what Pillow gives as those of the dialogues "Save for Web" (`web_...`) and "Save
    as"; the encoder that applies them is libjpeg all the same.
    """
    return _recompress(image, "JPEG", quality=preset)


@perturbation("webp", _quality_of("webp"), _QUALITY)
def webp(image: np.ndarray, quality: float) -> np.ndarray:
    """Compresses as lossy WebP, which always has 4:2:0 chroma; sides go up to 16,383."""
    return _recompress(image, "WEBP", quality=int(quality))


@perturbation("avif", _quality_of("avif"), _QUALITY)
def avif(image: np.ndarray, quality: float) -> np.ndarray:
    """Compresses as AVIF with 4:2:0 chroma: the same pixels on any number of cores."""
    return _recompress(image, "AVIF", quality=int(quality), subsampling="4:2:0", **_AVIF)


@perturbation("blur", _positive(float, 100), "a sigma in pixels above 0 and up to 100")
def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """True Gaussian blur of each channel, cut off at 4 sigma, mirrored at the borders.

    Pillow's own filter only approximates a Gaussian by box blurs, poorly so at a small sigma.
    Sigma is the standard deviation in pixels; 0 changes nothing.
    """
    blurred = scipy.ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)


def resize(
    image: np.ndarray,
    height: int,
    width: int,
    kernel: Image.Resampling = Image.Resampling.BILINEAR,
) -> np.ndarray:
    """Pillow's resize, antialiased when shrinking: its kernel widens with the step."""
    return np.asarray(Image.fromarray(image).resize((width, height), kernel))


def rescale(
    image: np.ndarray, factor: float, kernel: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """`resize` of both sides by one factor, rounded to whole pixels, at least 1."""
    height, width = (max(1, math.floor(side * factor + 0.5)) for side in image.shape[:2])
    return resize(image, height, width, kernel)


_FACTOR: Final = "a factor above 0 and up to 4"
perturbation("resize", _positive(float, 4), _FACTOR)(rescale)
for _name, _kernel in KERNELS.items():
    perturbation(_name, _positive(float, 4), _FACTOR)(partial(rescale, kernel=_kernel))


@perturbation("crop", _positive(int, 7), "a whole number of rows and columns, 1..7")
def crop(image: np.ndarray, rows: float) -> np.ndarray:
    """Drops the first rows and as many first columns, so that the 8x8 grid of JPEG is shifted.

    At least one row and one column stay.
    """
    top, left = (min(int(rows), side - 1) for side in image.shape[:2])
    return image[top:, left:]


@dataclass(frozen=True)
class Perturbation:
    """A named chain of operations on images.

    Attributes:
        name: as written in tables, such as `resize:0.5+jpeg:80`, or `none`.
        steps: operations and their levels, applied from left to right.
    """

    name: str
    steps: tuple[tuple[Operation, Any], ...]

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


def _parse_step(part: str, text: str) -> tuple[Operation, Any]:
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


@dataclass  # not frozen, as no configuration is: the command line sets its fields
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
