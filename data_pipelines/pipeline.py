"""Batches: shuffled, divided, decoded by threads or processes, and they begin at any batch.

The batches of a run are a fixed sequence that depends on the data, the seed and the global batch
size alone. Each process of a run makes its own contiguous part of every global batch, so any number
of them sees the same global batches, and a run continues with the batch of its next step on any
other number. Grain says what is at any position; threads, or worker processes, decode it into its
place (`examples`). Hosts only decode; crops and normalisation are the device's.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np

from data_pipelines.examples import (
    Example,
    LabelledWindows,
    Loader,
    Plan,
    RecordWindows,
    drawing,
    facts_of,
)
from data_pipelines.images import WINDOW, ImageError
from data_pipelines.labelled import LabelledImage
from data_pipelines.perturbations import Augmentation
from data_pipelines.records import Records
from data_pipelines.recycling import Slots
from data_pipelines.workers import WorkerBatches

DrawDescription = Callable[[int, np.random.Generator], tuple[np.ndarray, ImageError | None]]
"""Index of an image, generator -> float32 [S], which describes one version of the image, and why it
could not be read."""


@dataclass(frozen=True)
class Windows:
    """How batches of windows are made of plans.

    Attributes:
        load: makes one example in its place.
        collate: plans, pixels uint8 [b, 256, 256, 3] and what `load` told of each -> the batch.
    """

    load: Loader
    collate: Callable[[list[Plan], np.ndarray, list[dict[str, Any]]], Example]


class BatchIterator(Iterator[Example]):
    """Batches from some step on; closed, it leaves neither threads nor processes."""

    def __init__(self, batches: Iterator[Example], *close: Callable[[], None]) -> None:
        """Batches, and what is to be called in the end."""
        self._batches, self._close = batches, close

    def __next__(self) -> Example:
        return next(self._batches)

    def close(self) -> None:
        """No further batch is needed."""
        for close in self._close:
            close()


class Batches:
    """Endless batches of one process, from the first one by `iter`, or from any other."""

    def __init__(
        self,
        examples: grain.MapDataset,
        batch_size: int,
        threads: int,
        process: int = 0,
        processes: int = 1,
        *,
        workers: int = 0,
        windows: Windows | None = None,
    ) -> None:
        """Batches of examples.

        Args:
            examples: what is at any position; as many as are asked for, so usually endless.
            batch_size: examples over all processes of the run, which divide it.
            threads: that load examples, where no worker does.
            process: index of this process of the run.
            processes: their number.
            workers: processes of this one that load windows.
            windows: examples are plans, of which it makes batches; by default they are dicts of
                arrays, and are stacked.
        """
        if batch_size % processes:
            raise ValueError(f"batch of {batch_size} does not divide over {processes} processes")
        self._rows, self._threads = batch_size // processes, threads
        self._windows, self._workers = windows, workers
        # A global batch is the parts of the processes in a row.
        parts = examples.batch(self._rows, drop_remainder=True, batch_fn=list)
        self._parts = parts.slice(slice(process, None, processes))

    def __iter__(self) -> BatchIterator:
        return self.after(0)

    def after(self, step: int) -> BatchIterator:
        """The batches after those of so many steps; costs as much at any step.

        Worker processes run until it is closed, or this process ends.
        """
        parts = self._parts.slice(slice(step, None))
        if self._windows is None:
            stacked = _two_ahead(parts.map(_stack))
            return BatchIterator(stacked, stacked.close)
        shape = (self._rows, WINDOW, WINDOW, 3)
        if self._workers:
            plans = (parts[i] for i in range(len(parts)))
            made = WorkerBatches(plans, self._windows.load, shape, self._workers)
            return BatchIterator(itertools.starmap(self._windows.collate, made), made.close)
        in_threads = _InThreads(self._windows, shape, self._threads)
        batches = _two_ahead(parts.map(in_threads))
        return BatchIterator(batches, batches.close, in_threads.close)


def _two_ahead(batches: grain.MapDataset) -> Any:
    """An iterator that has two batches made before they are wanted."""
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2)))


def _stack(examples: list[Example]) -> Example:
    return {name: np.stack([example[name] for example in examples]) for name in examples[0]}


class _InThreads:
    """Makes batches of windows by threads of this process."""

    def __init__(self, windows: Windows, shape: tuple[int, ...], threads: int) -> None:
        self._windows, self._slots, self._lock = windows, Slots(shape), threading.Lock()
        self._share = -(-shape[0] // threads)
        self._pool = ThreadPoolExecutor(threads, "decode")

    def __call__(self, plans: list[Plan]) -> Example:
        with self._lock:
            images = self._slots.lend(self._slots.take())
        starts = range(0, len(plans), self._share)
        shares = [slice(start, start + self._share) for start in starts]
        told = self._pool.map(lambda rows: self._load(plans[rows], images[rows]), shares)
        return self._windows.collate(plans, images, [facts for part in told for facts in part])

    def _load(self, plans: list[Plan], images: np.ndarray) -> list[dict[str, Any]]:
        return [self._windows.load(plan, out) for plan, out in zip(plans, images, strict=True)]

    def close(self) -> None:
        """Leaves what nobody waits for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


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
    workers: int = 0,
) -> Batches:
    """Endless batches of prepared photos, reshuffled every epoch.

    Args:
        records: from `open_records`.
        split: `train` or `validation`.
        batch_size: images over all processes; the processes divide it.
        seed: of the shuffling.
        threads: that decode, where no worker does.
        process: index of this process.
        processes: their number.
        labels: float32 [n, T], what is learned from each record of the split; by default
            `records.labels(split)`.
        describe: draws what takes the place of the pixels; all records are readable. There is
            nothing to decode then, and no worker is started.
        workers: processes that decode; 0: threads of this one. No effect on the batches.

    Returns:
        Batches, dicts: image uint8 [b, 256, 256, 3], size int32 [b, 2], targets float32 [b, T],
        group int32 [b], path [b] of str. With `describe`: description float32 [b, S] instead of
        image and size.
    """
    source = records.source(split)
    targets = records.labels(split) if labels is None else labels
    if len(targets) != len(source):
        raise ValueError(f"labels of {len(targets)} records given, the split has {len(source)}")
    columns = records.columns(split)

    def facts(index: Any) -> Example:
        """What is known of one record or of many."""
        return {
            "targets": targets[index],
            "group": (columns.group[index] % 2**31).astype(np.int32),
            "path": columns.path[index],
        }

    def load_described(index: int, rng: np.random.Generator) -> Example:
        assert describe is not None
        return {"description": describe(index, rng)[0], **facts(index)}

    def collate(plans: list[int], images: np.ndarray, _: Any) -> Example:
        size = np.full((len(plans), 2), WINDOW, np.int32)
        return {"image": images, "size": size, **facts(plans)}

    indices = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    if describe is not None:
        return Batches(indices.random_map(load_described), batch_size, threads, process, processes)
    windows = Windows(RecordWindows(source), collate)
    return Batches(
        indices, batch_size, threads, process, processes, workers=workers, windows=windows
    )


def labelled_batches(
    images: Sequence[LabelledImage],
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    threads: int,
    process: int = 0,
    processes: int = 1,
    describe: DrawDescription | None = None,
    workers: int = 0,
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

    def load_described(index: int, rng: np.random.Generator) -> Example:
        assert describe is not None
        description, failure = describe(index, rng)
        return {"description": description, **facts_of(images[index], failure)}

    def plan(index: int, rng: np.random.Generator) -> Plan:
        return index, drawing(rng)

    def collate(plans: list[Plan], pixels: np.ndarray, told: list[dict[str, Any]]) -> Example:
        chosen = [images[index] for index, _ in plans]
        reasons = [facts["reason"] for facts in told]
        return {
            "image": pixels,
            "size": np.array([facts["size"] for facts in told], np.int32),
            "label": np.array([image.label for image in chosen], np.int32),
            "valid": np.array([not reason for reason in reasons], np.float32),
            "path": np.array([str(image.path) for image in chosen]),
            "reason": np.array(reasons),
            "error": np.array([facts["error"] for facts in told]),
        }

    by_class = [
        grain.MapDataset.source([i for i, image in enumerate(images) if image.label == label])
        .seed(seed + label)
        .shuffle()
        .repeat()
        .random_map(plan if describe is None else load_described)
        for label in (0, 1)
    ]
    examples = grain.MapDataset.mix(by_class, weights=[0.5, 0.5])
    if describe is not None:
        return Batches(examples, batch_size, threads, process, processes)
    load = LabelledWindows([str(image.path) for image in images], augmentation)
    windows = Windows(load, collate)
    return Batches(
        examples, batch_size, threads, process, processes, workers=workers, windows=windows
    )
