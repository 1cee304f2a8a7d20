"""Grain pipeline: shuffled, sharded, decoded, batched, prefetched; it begins at any batch.

The batches of a run are a fixed sequence that depends on the data, the seed and the global batch
size alone. Each process reads its own contiguous part of every global batch, so any number of
processes sees the same global batches, and a run continues with the batch of its next step on any
other number. Hosts only decode; crops and normalisation are the device's.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import grain
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
from data_pipelines.records import Records

Example = dict[str, Any]
DrawDescription = Callable[[int, np.random.Generator], tuple[np.ndarray, ImageError | None]]
"""Index of an image, generator -> float32 [S], which describes one version of the image, and why it
could not be read."""


class Batches:
    """Endless batches of one process, from the first one by `iter`, or from any other."""

    def __init__(
        self,
        examples: grain.MapDataset,
        batch_size: int,
        threads: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Batches of examples.

        Args:
            examples: what is at any position; as many as are asked for, so usually endless.
            batch_size: examples over all processes, which divide it.
            threads: that load examples.
            process: index of this process.
            processes: their number.
        """
        if batch_size % processes:
            raise ValueError(f"batch of {batch_size} does not divide over {processes} processes")
        self._examples, self._batch_size, self._threads = examples, batch_size, threads
        self._rows, self._first = batch_size // processes, process * (batch_size // processes)

    def __iter__(self) -> Iterator[Example]:
        return self.after(0)

    def after(self, step: int) -> Iterator[Example]:
        """The batches after those of so many steps; costs as much at any step."""
        rows = self._rows

        def local_example(index: int) -> Example:
            """An example of this process' part of a global batch."""
            batch, row = divmod(index, rows)
            example: Example = self._examples[batch * self._batch_size + self._first + row]
            return example

        end = sys.maxsize // self._batch_size * rows
        local = grain.MapDataset.range(step * rows, end).map(local_example)
        # Enough decoded examples for the next two batches wait in memory.
        options = grain.ReadOptions(
            num_threads=self._threads, prefetch_buffer_size=max(2 * rows, self._threads)
        )
        batches: Iterator[Example] = iter(local.to_iter_dataset(options).batch(rows))
        return batches


def record_batches(
    records: Records,
    split: str,
    batch_size: int,
    seed: int,
    threads: int,
    process: int = 0,
    processes: int = 1,
    labels: np.ndarray | None = None,
    describe: DrawDescription | None = None,
) -> Batches:
    """Endless batches of prepared photos, reshuffled every epoch.

    Args:
        records: from `open_records`.
        split: `train` or `validation`.
        batch_size: images over all processes; the processes divide it.
        seed: of the shuffling.
        threads: that decode.
        process: index of this process.
        processes: their number.
        labels: float32 [n, T], what is learned from each record of the split; by default
            `records.labels(split)`.
        describe: draws what takes the place of the pixels; all records are readable.

    Returns:
        Batches, dicts: image uint8 [b, 256, 256, 3], size int32 [b, 2], targets float32 [b, T],
        group int32 [b], path [b] of str. With `describe`: description float32 [b, S] instead of
        image and size.
    """
    source = records.source(split)
    targets = records.labels(split) if labels is None else labels
    if len(targets) != len(source):
        raise ValueError(f"labels of {len(targets)} records given, the split has {len(source)}")

    def load(index: int) -> Example:
        example = records.decode(source[index])
        return {
            "image": example["image"],
            "size": np.array(example["image"].shape[:2], np.int32),
            "targets": targets[index],
            "group": np.int32(example["group"] % 2**31),
            "path": example["path"],
        }

    def load_described(index: int, rng: np.random.Generator) -> Example:
        assert describe is not None
        return {
            "description": describe(index, rng)[0],
            "targets": targets[index],
            "group": np.int32(columns.group[index] % 2**31),
            "path": columns.path[index],
        }

    columns = records.columns(split)
    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    examples = indices.map(load) if describe is None else indices.random_map(load_described)
    return Batches(examples, batch_size, threads, process, processes)


def padded(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image of up to 256x256 in the upper left of a 256x256 array, and its size int32 [2].

    An image with a side under 64 is resized to 64x64 first.
    """
    image = at_least_one_patch(image)
    canvas = np.zeros((WINDOW, WINDOW, 3), np.uint8)
    canvas[: image.shape[0], : image.shape[1]] = image
    return canvas, np.array(image.shape[:2], np.int32)


def load_labelled(
    image: LabelledImage,
    augmentation: Augmentation | None = None,
    rng: np.random.Generator | None = None,
) -> Example:
    """One labelled example; an unreadable file gives an empty one with its reason.

    Without a generator, as for validation, it is the central window, not augmented.
    """
    failure = None
    try:
        pixels = random_window(decode_image(image.path), rng)
        if augmentation is not None and rng is not None:
            pixels = augment(pixels, rng, augmentation)
    except ImageError as error:
        pixels, failure = np.zeros((1, 1, 3), np.uint8), error
    canvas, size = padded(pixels)
    return {"image": canvas, "size": size, **_facts(image, failure)}


def _facts(image: LabelledImage, failure: ImageError | None) -> Example:
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


def labelled_batches(
    images: Sequence[LabelledImage],
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    threads: int,
    process: int = 0,
    processes: int = 1,
    describe: DrawDescription | None = None,
) -> Batches:
    """Endless batches, half photographs and half generated images, each class reshuffled.

    Each image gives a random window of at most 256x256, augmented, at the upper left of its array.
    A file that cannot be read stays in the batch as an example with `valid` 0, a `reason` and an
    `error` of one line. The seed is also that of windows and augmentation; the rest is as in
    `record_batches`. With `describe`, which gets the index of an image among all, there is a
    description float32 [b, S] instead of image and size, and no further augmentation.

    Returns:
        Batches, dicts: image uint8 [b, 256, 256, 3], size int32 [b, 2], label int32 [b]
        (1 = generated), valid float32 [b], path, reason and error [b] of str.
    """

    def load(index: int, rng: np.random.Generator) -> Example:
        if describe is None:
            return load_labelled(images[index], augmentation, rng)
        description, failure = describe(index, rng)
        return {"description": description, **_facts(images[index], failure)}

    by_class = [
        grain.MapDataset.source([i for i, image in enumerate(images) if image.label == label])
        .seed(seed + label)
        .shuffle()
        .repeat()
        .random_map(load)
        for label in (0, 1)
    ]
    examples = grain.MapDataset.mix(by_class, weights=[0.5, 0.5])
    return Batches(examples, batch_size, threads, process, processes)
