"""Batches for training against a bare loop that reads and decodes: images a second, CPU, memory."""

import contextlib
import io
import itertools
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np
from absl import flags
from array_record.python.array_record_data_source import ArrayRecordDataSource
from measuring import Report, command_line, progress, real_photos
from PIL import Image

from data_pipelines.examples import Loader, RecordWindows
from data_pipelines.images import WINDOW, decode_image, find_images, random_window
from data_pipelines.jpeg_pixels import decode
from data_pipelines.labelled import LabelledImage
from data_pipelines.perturbations import Augmentation
from data_pipelines.pipeline import Batches, labelled_batches, record_batches
from data_pipelines.prepare.run import Options, prepare
from data_pipelines.records import Records, open_records
from data_pipelines.simulated import make_dataset

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")
SIZES = {
    "rounds": (5, 7, 1),
    "images": (1024, 4096, 32),  # of a turn, and files
    "large": (96, 384, 8),  # of a turn, of whole photos
    "batch": (32, 64, 4),
    "ways": (  # threads, workers
        ((1, 0), (2, 0), (1, 1), (1, 2)),
        ((1, 0), (8, 0), (1, 1), (1, 2), (1, 4), (1, 8)),
        ((1, 0), (1, 1)),
    ),
}
_NOTHING = Augmentation(resize_probability=0, blur_probability=0, jpeg_probability=0)


@dataclass
class Case:
    """What is read: batches by (threads, workers), and loops that make an image of an index."""

    name: str
    batches: Callable[[int, int], Batches]
    bare: dict[str, Callable[[int], Any]]
    count: int
    images: int


class _Way:
    """One way to get images; `turn` takes some and tells seconds and CPU seconds of each."""

    def __init__(self, get: Iterator[int], settle: int) -> None:
        """Steps that tell how many images they made, and how many steps do not count at first."""
        self._get, self._settle = get, settle

    def turn(self, images: int) -> np.ndarray:
        """Seconds an image; CPU seconds of this process, and of those below it."""
        for _ in range(self._settle):  # what was made ahead, and the caches
            next(self._get)
        began, made = _clocks(), 0
        while made < images:
            made += next(self._get)
        seconds = _clocks() - began
        time.sleep(0.5)  # workers make their next batches
        return seconds / made


def _clocks() -> np.ndarray:
    below = [
        int((task / "schedstat").read_text().split()[0]) / 1e9
        for child in _children("self")
        for task in Path(f"/proc/{child}/task").iterdir()
    ]
    return np.array([time.perf_counter(), time.process_time(), sum(below)])


def _children(pid: str) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended
            children += map(int, (task / "children").read_text().split())
    return children


def _memory(pid: int) -> dict[str, float]:
    """MB of a process: in all, its share, and what is its alone."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kb = {name: int(number) for name, number in re.findall(r"(\w+):\s+(\d+) kB", text)}
    alone = kb["Private_Clean"] + kb["Private_Dirty"]
    return {"RSS, MB": kb["Rss"] / 1e3, "PSS, MB": kb["Pss"] / 1e3, "alone, MB": alone / 1e3}


def _loop(make: Callable[[int], Any], order: Sequence[int]) -> Iterator[int]:
    while True:
        for index in order:
            make(index)
            yield 1


def _sizes(batches: Iterator[Any]) -> Iterator[int]:
    for batch in batches:
        count = len(batch["image"])
        del batch  # as in training, nothing is kept
        yield count


@dataclass(frozen=True)
class _GrainBatch:
    """A batch as one of Grain's own worker processes would make it."""

    load: Loader

    def __call__(self, plans: list[Any]) -> dict[str, np.ndarray]:
        images = np.empty((len(plans), WINDOW, WINDOW, 3), np.uint8)
        for plan, out in zip(plans, images, strict=True):
            self.load(plan, out)
        return {"image": images}


def grains_own(records: Records, batch: int) -> Any:
    """The same batches by one worker process of Grain's."""
    source = records.source("train")
    indices = grain.MapDataset.range(len(source)).seed(0).shuffle().repeat()
    made = indices.batch(batch, drop_remainder=True, batch_fn=_GrainBatch(RecordWindows(source)))
    options = grain.MultiprocessingOptions(num_workers=1, per_worker_buffer_size=2)
    flags.FLAGS.mark_as_parsed()
    read = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(made.to_iter_dataset(read).mp_prefetch(options))


def measure(report: Report, case: Case, *others: tuple[str, Any]) -> None:
    """All ways of a case in turns, against its bare loops."""
    progress(f"measuring: {case.name} ...")
    sizes = report.sizes
    order = np.random.default_rng(0).permutation(case.count).tolist()
    ways = {f"bare loop, {name}": _Way(_loop(f, order), 8) for name, f in case.bare.items()}
    first = next(iter(ways))
    with contextlib.ExitStack() as stack:
        memory: dict[str, dict[str, float]] = {}
        for threads, workers in sizes.ways:
            before = set(_children("self"))
            iterator = stack.enter_context(contextlib.closing(iter(case.batches(threads, workers))))
            name = f"{workers} workers" if workers else f"{threads} threads"
            ways[name] = _Way(_sizes(iterator), 2 * workers or 2)
            ways[name].turn(sizes.batch)
            if new := set(_children("self")) - before:
                memory[name] = _memory(min(new))
        for name, iterator in others:
            stack.enter_context(contextlib.closing(iterator))
            ways[name] = _Way(_sizes(iterator), 3)
        turns: dict[str, list[np.ndarray]] = {name: [] for name in ways}
        for turn in range(sizes.rounds + 1):
            for name, way in ways.items():
                seconds = way.turn(case.images)
                if turn:
                    turns[name].append(seconds)
    rows = []
    measured = {name: np.array(each).T for name, each in turns.items()}
    for name, (wall, own, below) in measured.items():
        bare, bare_cpu, _ = measured[first]
        row = {"": name, "images/s": 1 / wall, "of the bare loop": bare / wall}
        row |= {"CPU here, us an image": 1e6 * own}
        if "worker" in name:
            row |= {"CPU of workers, us": 1e6 * below, "bare loop's / that": bare_cpu / below}
            row |= {"of 1 worker": measured["1 workers"][0] / wall}
            own = own + below
        row |= {"CPU beyond the bare loop, us": 1e6 * (own - bare_cpu)}
        rows.append(row | memory.get(name, {}))
    report.add(
        case.name,
        rows,
        f"{case.images} images a turn, shuffled, of {case.count}; batches of {sizes.batch}. "
        "Memory is of one worker, its arrays included.",
    )


def records_case(report: Report, records: Records, origin: str) -> Case:
    """Prepared windows."""
    raw = ArrayRecordDataSource(sorted(map(str, records.directory.glob("*-train.array_record*"))))
    # As in training, the images of a batch are all kept until it is whole.
    place = itertools.cycle(np.empty((report.sizes.batch, WINDOW, WINDOW, 3), np.uint8))

    def image_file(index: int) -> bytes:
        """Found by its first bytes; nothing else of the record is parsed."""
        record = raw[index]
        return record[min(at for at in map(record.find, _MAGIC) if at >= 0) :]

    def pillow(data: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as file:
            return np.asarray(file)

    def turbo(index: int) -> np.ndarray:
        data = image_file(index)
        pixels = decode(data, next(place))
        return pillow(data) if pixels is None else pixels

    return Case(
        f"Prepared windows of {origin}",
        lambda threads, workers: record_batches(
            records, "train", report.sizes.batch, 0, threads, workers=workers
        ),
        {"libjpeg-turbo": turbo, "Pillow": lambda index: pillow(image_file(index))},
        len(raw),
        report.sizes.images,
    )


def labelled_case(report: Report, paths: Sequence[Path], origin: str, images: int) -> Case:
    """Labelled files, without augmentation."""
    labelled = [LabelledImage(path, i % 2, str(i)) for i, path in enumerate(paths)]
    rng = np.random.default_rng(0)

    def pillow(index: int) -> np.ndarray:
        with Image.open(paths[index]) as file:
            return random_window(np.asarray(file.convert("RGB")), rng)

    return Case(
        f"Labelled files: {origin}",
        lambda threads, workers: labelled_batches(
            labelled, _NOTHING, report.sizes.batch, 0, threads, workers=workers
        ),
        {
            "libjpeg-turbo": lambda index: random_window(decode_image(paths[index]), rng),
            "Pillow, damage not looked for": pillow,
        },
        len(paths),
        images,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    parser = command_line(__doc__)
    real_photos(parser)
    options = parser.parse_args(argv)
    report = Report("reading", options, SIZES, "Ratios are of neighbouring turns.")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folders = [options.data / "photos", options.data / "full" / "photos"]
        if not options.quick and all(folder.is_dir() for folder in folders):
            windows, whole = (find_images([folder]) for folder in folders)
            origin = "real photos"
        else:
            make_dataset(scratch / "made", photos=40, labelled=0, test=0)
            windows, whole, origin = find_images([scratch / "made" / "photos"]), [], "SIMULATED"
        kept = windows[:: -(-len(windows) // 2 // report.sizes.images) or 1]
        prepare(kept, scratch / "records", Options())
        records = open_records(scratch / "records")
        own = grains_own(records, report.sizes.batch)
        measure(report, records_case(report, records, origin), ("Grain's own, 1 worker", own))
        measure(report, labelled_case(report, kept, f"windows, {origin}", report.sizes.images))
        if whole:
            megapixels = np.mean([np.prod(Image.open(path).size) for path in whole]) / 1e6
            name = f"{len(whole)} whole photos of {megapixels:.1f} megapixels"
            measure(report, labelled_case(report, whole, name, report.sizes.large))


if __name__ == "__main__":
    main()
