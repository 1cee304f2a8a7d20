"""Single training examples, decoded into their place in a batch: by threads, or by processes.

What is at a position of a run is planned where the run is (`pipeline`); the plans here are what
JSON can hold, so that they can be sent. Grain and JAX are not imported: worker processes need
neither.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from data_pipelines.images import (
    WINDOW,
    ImageError,
    at_least_one_patch,
    decode_image,
    random_window,
)
from data_pipelines.labelled import LabelledImage
from data_pipelines.perturbations import Augmentation, augment
from data_pipelines.records import Source

Example = dict[str, Any]
Plan = Any
"""What is to be made, as JSON has it: numbers, texts, lists."""


class Loader(Protocol):
    """Makes single examples; picklable, and used by many threads at once."""

    def __call__(self, plan: Plan, out: np.ndarray) -> dict[str, Any]:
        """Makes one example.

        Args:
            plan: which.
            out: gets its pixels, uint8 [256, 256, 3]; what was there before is any.

        Returns:
            What else is told of it, as JSON has it: the same names for every example.
        """


@dataclass(frozen=True)
class RecordWindows:
    """Windows of prepared photos; a plan is the index of one."""

    source: Source

    def __call__(self, plan: int, out: np.ndarray) -> dict[str, Any]:
        """See `Loader`."""
        self.source.window(plan, out)
        return {}


@dataclass(frozen=True)
class LabelledWindows:
    """Random windows of labelled files; a plan is the index of one, and `drawing` of a generator.

    Attributes:
        paths: of all files.
        augmentation: of the windows.
    """

    paths: Sequence[str]
    augmentation: Augmentation

    def __call__(self, plan: tuple[int, list[list[int]]], out: np.ndarray) -> dict[str, Any]:
        """See `Loader`."""
        index, drawn = plan
        pixels, failure = read_window(self.paths[index], self.augmentation, generator(drawn))
        size = pad_into(pixels, out)
        return {
            "size": size,
            "reason": failure.reason if failure else "",
            "error": str(failure or ""),
        }


def drawing(rng: np.random.Generator) -> list[list[int]]:
    """The state of one of Grain's generators, before anything was drawn."""
    state = rng.bit_generator.state["state"]
    return [state["counter"].tolist(), state["key"].tolist()]


def generator(drawn: list[list[int]]) -> np.random.Generator:
    """A generator that draws what that of `drawing` would have drawn."""
    counter, key = (np.array(numbers, np.uint64) for numbers in drawn)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def pad_into(image: np.ndarray, out: np.ndarray) -> list[int]:
    """Puts an image of up to 256x256 into the upper left of an array; returns its sides.

    An image with a side under 64 is resized to 64x64 first. The rest becomes zero.
    """
    image = at_least_one_patch(image)
    height, width = image.shape[:2]
    out[:height, :width] = image
    out[height:] = 0
    out[:height, width:] = 0
    return [height, width]


def padded(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same in an array of its own: uint8 [256, 256, 3], and the size int32 [2]."""
    canvas = np.empty((WINDOW, WINDOW, 3), np.uint8)
    return canvas, np.array(pad_into(image, canvas), np.int32)


def read_window(
    path: Any, augmentation: Augmentation | None, rng: np.random.Generator | None
) -> tuple[np.ndarray, ImageError | None]:
    """A window of a file, or an empty one and why there is none; see `load_labelled`."""
    try:
        pixels = random_window(decode_image(path), rng)
        if augmentation is not None and rng is not None:
            pixels = augment(pixels, rng, augmentation)
    except ImageError as error:
        return np.zeros((1, 1, 3), np.uint8), error
    return pixels, None


def load_labelled(
    image: LabelledImage,
    augmentation: Augmentation | None = None,
    rng: np.random.Generator | None = None,
) -> Example:
    """One labelled example; an unreadable file gives an empty one with its reason.

    Without a generator, as for validation, it is the central window, not augmented.
    """
    pixels, failure = read_window(image.path, augmentation, rng)
    canvas, size = padded(pixels)
    return {"image": canvas, "size": size, **facts_of(image, failure)}


def facts_of(image: LabelledImage, failure: ImageError | None) -> Example:
    """What an example has beside its pixels or their description."""
    return {
        "label": np.int32(image.label),
        "valid": np.float32(failure is None),
        "path": str(image.path),
        "reason": failure.reason if failure else "",
        "error": str(failure) if failure else "",
    }


def central_windows(
    images: Iterable[LabelledImage], errors: dict[int, ImageError]
) -> Iterator[np.ndarray]:
    """The central window of every image that can be read; why not goes to `errors`, by position."""
    for position, image in enumerate(images):
        example = load_labelled(image)
        if example["valid"]:
            height, width = example["size"]
            yield example["image"][:height, :width]
        else:
            errors[position] = ImageError(example["reason"], example["error"])
