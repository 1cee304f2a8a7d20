"""Speed and memory of `exif-jax prepare`, and of reading what it made.

python benchmarks/prepare.py

Results go to results/prepare_DEVICE.md and .json beside this file, written anew after every
section. Real photos are measured where they are there; all others are SIMULATED and said to be.
`--quick` checks the script itself within a minute, with sizes whose numbers mean nothing.
"""

import cProfile
import dataclasses
import os
import pstats
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Report, Table, command_line, progress, spread, take_turns
from prepare_photos import Kind, first, linked, simulated
from prepare_runs import Prepare, decoders, parent_and_child
from prepare_windows import measure_encodings, measure_reading

from data_pipelines.images import find_images
from data_pipelines.prepare.reader import read_photo
from data_pipelines.prepare.run import Options
from data_pipelines.records import open_records

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "dev"
_SMALL = (1152, 864)  # of the simulated photos of a megapixel
_MEBI = 2**20
_CORES = os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: turns that each side of a comparison takes.
        copies: of every whole original.
        small: real windows at most.
        photos: for each simulated kind, its width and height, and how many.
        coded: photos of each format that is decoded whole.
        profiled: photos of each kind whose time is divided by function.
        base: simulated photos of the smallest set that grows.
        windows: of a photo in the comparison of encodings.
        images: read in a turn.
        batch: images of a batch.
        threads: of the readers.
        workers: of the command.
        every: of so many kinds of photos only one is timed.
    """

    rounds: int = 3
    copies: int = 4
    small: int = 640
    photos: tuple[tuple[tuple[int, int], int], ...] = (((4000, 3000), 32), ((6000, 4000), 16))
    coded: int = 16
    profiled: int = 4
    base: int = 24
    windows: int = 4
    images: int = 1024
    batch: int = 32
    threads: tuple[int, ...] = tuple(n for n in (1, 2, 4, 8, 16, 32, 64) if n <= 2 * _CORES)
    workers: tuple[int, ...] = (1, 2)
    every: int = 1


QUICK = Sizes(1, 1, 8, (((800, 600), 2),), 2, 2, 1, 2, 32, 4, (1, 2), (2,), 4)
SIZES = {"cpu": Sizes(), "accelerator": Sizes(), "quick": QUICK}


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the sections share.

    Attributes:
        sizes: how much.
        scratch: folder for everything that is made.
        originals: whole real photos, or none.
        windows: real windows of 256x256, or none.
    """

    sizes: Sizes
    scratch: Path
    originals: Sequence[Path]
    windows: Sequence[Path]

    @property
    def small(self) -> Kind:
        """Some of the real windows, of all cameras alike."""
        some = self.windows[:: max(1, len(self.windows) // self.sizes.small)][: self.sizes.small]
        return Kind("real windows 256x256, JPEG", linked(self.scratch / "small", some))

    @property
    def kinds(self) -> list[Kind]:
        """All kinds of photos whose preparing is timed."""
        sizes, kinds = self.sizes, []
        if self.originals:
            folder = linked(self.scratch / "originals", self.originals, sizes.copies)
            kinds += [Kind("real whole photos, JPEG", folder)]
            kinds += [Kind("the same as pixels", folder, "pixels")]
        if self.windows:
            kinds.append(self.small)
        kinds += [simulated(self.scratch, *photos) for photos in sizes.photos]
        jpeg = simulated(self.scratch, *sizes.photos[0])
        kinds.append(first(jpeg, sizes.coded, name=f"{jpeg.name}, as pixels", encoding="pixels"))
        size, _ = sizes.photos[0]
        kinds += [simulated(self.scratch, size, sizes.coded, form) for form in ("PNG", "TIFF")]
        return kinds[:: sizes.every]

    @property
    def growing(self) -> list[Kind]:
        """Simulated photos of a megapixel: some, four and sixteen times as many, all different."""
        base = self.sizes.base
        most = simulated(self.scratch, _SMALL, 16 * base)
        return [first(most, base), first(most, 4 * base), most]


def measure_speed(bench: Bench) -> list[Table]:
    """The whole command against processes that only decode, by kind and workers."""
    sizes, table = bench.sizes, Table("Photos against only decoding them", ())
    table.header = ("photos", "files, of MB", "workers", "decoding, photos/s", "prepare, photos/s")
    table.header += ("MB/s a core", "prepare / decoding", "the same without the start")
    prepare = Prepare(bench.scratch / "speed")
    progress("measuring: the start of the command ...")
    one = first(bench.growing[0], 1)
    starts = take_turns({"start": partial(prepare.run, one, 1)}, sizes.rounds)["start"]
    table.measured["start_seconds"] = starts.tolist()
    with decoders(sizes.workers) as bounds:
        for kind in bench.kinds:
            progress(f"measuring: {kind.name} ...")
            paths, megabytes = kind.paths, kind.megabytes
            tasks: dict[str, Callable[[], Any]] = {}
            for workers in sizes.workers:
                tasks[f"decode {workers}"] = partial(bounds[workers], paths)
                tasks[f"prepare {workers}"] = partial(prepare.run, kind, workers)
            seconds = take_turns(tasks, sizes.rounds)
            source = open_records(prepare.last).source("train")
            used = len({source[i]["path"] for i in range(len(source))})
            table.measured[kind.name] = {
                **{"files": len(paths), "used": used, "megabytes": megabytes},
                "seconds": {name: values.tolist() for name, values in seconds.items()},
            }
            some = f" ({used})" if used != len(paths) else ""
            files = f"{len(paths)}{some}, {megabytes / len(paths):.2g}"
            for workers in sizes.workers:
                bound, whole = seconds[f"decode {workers}"], seconds[f"prepare {workers}"]
                more = whole - np.median(starts)
                # Sets as small as those of --quick take no longer than the start.
                rest = spread(bound / more) if (more > 0.1 * np.median(starts)).all() else "-"
                cells = (
                    f"{np.median(len(paths) / bound):.1f}",
                    f"{np.median(len(paths) / whole):.1f}",
                    f"{np.median(megabytes / whole) / workers:.1f}",
                )
                ratios = (spread(bound / whole), rest)
                table.lines.append((kind.name, files, str(workers), *cells, *ratios))
            prepare.clear()
    table.notes = [
        f"The start of the command, {spread(starts)} s for one photo, is in all numbers but those "
        "of the last column, where its median is taken off each time. Decoding alone is by Pillow, "
        "in as many processes as there are workers, which were started before. Above 1: quicker "
        "than decoding, as DCT blocks are moved and not decoded. 'as pixels': `--encoding pixels`, "
        "decoded and stored as PNG, as photos that are no JPEG files always are.",
        "Files: how many were read; in brackets how many were used, where some were rejected.",
    ]
    return [table]


def measure_functions(bench: Bench) -> list[Table]:
    """Where the time of reading one photo goes, by function, from Python's profiler."""
    table = Table("One photo, by function", ("photos", "ms a photo", "of it in"))
    for kind in bench.kinds:
        progress(f"profiling: {kind.name} ...")
        files = [Path(path).read_bytes() for path in kind.paths[: bench.sizes.profiled]]
        options = Options(encoding="dct" if kind.encoding == "dct" else "pixels")
        profile = cProfile.Profile()
        for data in files:
            read_photo(data, options)  # what is loaded once does not count
            profile.runcall(read_photo, data, options)
        stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
        own = {key: 1e3 * row[2] / len(files) for key, row in stats.items()}
        whole = sum(own.values())
        largest = sorted(own.items(), key=lambda item: -item[1])[:6]
        parts = {f"{Path(file).stem}.{name}": ms for (file, _, name), ms in largest}
        text = ", ".join(f"`{name}` {ms / whole:.0%}" for name, ms in parts.items())
        table.lines.append((kind.name, f"{whole:.1f}", text))
        table.measured[kind.name] = {"photos": len(files), "ms": whole, "functions": parts}
    table.notes = ["Time inside a function without those that it calls; the profiler slows Python."]
    return [table]


def measure_windows(bench: Bench) -> list[Table]:
    """Encodings of a window."""
    paths, origin = bench.originals, "real photos"
    if not paths:
        kind, origin = simulated(bench.scratch, *bench.sizes.photos[0]), "SIMULATED photos"
        paths = list(map(Path, kind.paths))
    return [measure_encodings(paths, origin, bench.sizes.windows, bench.sizes.rounds)]


def measure_growth(bench: Bench) -> list[Table]:
    """Time and peak memory as photos grow in number, and an interruption."""
    sizes, kinds, prepare = bench.sizes, bench.growing, Prepare(bench.scratch / "growth")
    workers = sizes.workers[-1]
    counts = [len(kind.paths) for kind in kinds]
    peaks: dict[int, list[tuple[int, int]]] = {count: [] for count in counts}

    def run(kind: Kind, count: int) -> None:
        peaks[count].append(parent_and_child(prepare.run(kind, workers)))

    progress("measuring: more photos ...")
    tasks = {str(n): partial(run, kind, n) for kind, n in zip(kinds, counts, strict=True)}
    seconds = take_turns(tasks, sizes.rounds)
    prepare.clear()
    table = Table(
        "More photos",
        (
            *("SIMULATED photos of a megapixel", "s", "ms a photo", "ms each further photo"),
            *("relative", "peak MiB, parent", "peak MiB, largest child"),
        ),
        notes=[
            f"{workers} workers. 'Further' is the time beyond that of the line above, so without "
            "the start of the command. Memory is resident, libraries included, the highest of all "
            "turns; 0: this system does not tell.",
        ],
    )
    slopes: list[np.ndarray] = []
    for count, before in zip(counts, [0, *counts], strict=False):
        times, further = seconds[str(count)], ("-", "-")
        if before:
            slopes.append(1e3 * (times - seconds[str(before)]) / (count - before))
            further = (spread(slopes[-1], 1), spread(slopes[-1] / slopes[0]))
        highest = [f"{max(values) / _MEBI:.0f}" for values in zip(*peaks[count], strict=True)]
        each = f"{np.median(1e3 * times / count):.1f}"
        table.lines.append((str(count), spread(times, 1), each, *further, *highest))
        table.measured[str(count)] = {"seconds": times.tolist(), "peaks": peaks[count]}
    return [table, measure_interruption(bench)]


def measure_interruption(bench: Bench) -> Table:
    """A run that is killed at half its time and continued, and a finished one started again."""
    kind, workers = bench.growing[-1], bench.sizes.workers[-1]
    prepare = Prepare(bench.scratch / "interruption")
    laps: dict[str, list[float]] = {"until killed": [], "continued": []}
    usual, finished = 0.0, Path()

    def whole() -> None:
        nonlocal usual, finished
        start = time.perf_counter()
        prepare.run(kind, workers)
        usual, finished = time.perf_counter() - start, prepare.last

    def killed() -> None:
        start = time.perf_counter()
        prepare.run(kind, workers, kill_after=usual / 2)
        middle = time.perf_counter()
        prepare.run(kind, workers, out=prepare.last)
        laps["until killed"].append(middle - start)
        laps["continued"].append(time.perf_counter() - middle)

    tasks: Mapping[str, Callable[[], Any]] = {
        "not interrupted": whole,
        "killed at half and continued": killed,
        "finished, started again": lambda: prepare.run(kind, workers, out=finished),
    }
    progress("measuring: an interruption ...")
    seconds = take_turns(tasks, bench.sizes.rounds)
    prepare.clear()
    table = Table(
        "An interruption",
        (f"{len(kind.paths)} SIMULATED photos", "s", "relative"),
        notes=["Killed (SIGKILL) after half of the time of the uninterrupted run of the turn."],
    )
    for name, times in seconds.items():
        table.lines.append((name, spread(times), spread(times / seconds["not interrupted"])))
    for name, values in laps.items():
        table.lines.append((f"of that: {name}", spread(values[1:]), "-"))
    times_of_all = {name: times.tolist() for name, times in seconds.items()}
    table.measured = {"photos": len(kind.paths), "seconds": times_of_all | laps}
    return table


def measure_read(bench: Bench) -> list[Table]:
    """Reading the records with Grain."""
    sizes = bench.sizes
    kind = bench.small if bench.windows else bench.growing[-1]
    origin = "real photos" if bench.windows else "SIMULATED photos"
    prepare = Prepare(bench.scratch / "reading")
    prepare.run(kind, sizes.workers[-1])
    arguments = (sizes.images, sizes.batch, 2 * sizes.rounds - 1, sizes.threads)
    return [measure_reading(open_records(prepare.last), origin, *arguments)]


SECTIONS: dict[str, Callable[[Bench], list[Table]]] = {
    "speed": measure_speed,
    "functions": measure_functions,
    "windows": measure_windows,
    "growth": measure_growth,
    "reading": measure_read,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="these sections"
    )
    parser.add_argument(
        "--photos", type=Path, default=_DATA / "full" / "photos", help="folder of whole photos"
    )
    parser.add_argument(
        "--small", type=Path, default=_DATA / "photos", help="folder of 256x256 JPEG windows"
    )
    options = parser.parse_args(argv)
    report = Report("prepare", "Preparing photos", options, SIZES)
    originals, windows = (
        find_images([folder]) if folder.is_dir() else []
        for folder in (options.photos, options.small)
    )
    report.remarks = [
        "Ratios are of neighbouring turns: median (lowest - highest). What is called SIMULATED is "
        "a smooth scene with noise like a sensor's, JPEG of quality 92 and 4:2:0, with EXIF."
    ]
    if not originals:
        report.remarks.append("No whole real photos were there (`--photos`): not measured.")
    if not windows:
        report.remarks.append("No real windows of 256x256 were there (`--small`): not measured.")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(report.sizes, Path(scratch), originals, windows)
        for name in options.only:
            report.add(*SECTIONS[name](bench))


if __name__ == "__main__":
    main()
