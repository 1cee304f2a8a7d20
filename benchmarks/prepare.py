"""Speed and memory of `exif-jax prepare`, and of reading what it made.

python benchmarks/prepare.py

Results go to results/prepare_DEVICE.md and .json beside this file, written anew after every
section. Real photos are measured where they are there; all others are SIMULATED and said to be.
`--quick` checks the script itself within a minute, with sizes whose numbers mean nothing.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Report, Rows, command_line, progress, real_photos, shown, take_turns
from prepare_photos import Kind, Prepare, decode, first, linked, simulated
from prepare_windows import measure_encodings

from data_pipelines.images import find_images
from data_pipelines.records import open_records

_SMALL = (1152, 864)  # of the simulated photos of a megapixel
_CORES = os.cpu_count() or 1


_PHOTOS = (((4000, 3000), 32), ((6000, 4000), 16))
# On a CPU, on an accelerator, with --quick.
SIZES = {
    "rounds": (3, 3, 1),  # turns that each side of a comparison takes
    "copies": (4, 4, 1),  # of every whole original
    "small": (640, 640, 8),  # real windows at most
    "photos": (_PHOTOS, _PHOTOS, (((800, 600), 2),)),  # of each simulated kind: sides, how many
    "coded": (16, 16, 2),  # photos of each format that is decoded whole
    "base": (24, 24, 1),  # simulated photos of the smallest set that grows
    "windows": (4, 4, 2),  # of a photo in the comparison of encodings
    "workers": ((1, 2), (1, 2), (2,)),  # of the command
    "every": (1, 1, 4),  # of so many kinds of photos only one is timed
}


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the sections share.

    Attributes:
        report: gets the tables.
        scratch: folder for everything that is made.
        originals: whole real photos, or none.
        windows: real windows of 256x256, or none.
    """

    report: Report
    scratch: Path
    originals: Sequence[Path]
    windows: Sequence[Path]

    @property
    def small(self) -> Kind:
        """Some of the real windows, of all cameras alike."""
        most = self.report.sizes.small
        some = self.windows[:: max(1, len(self.windows) // most)][:most]
        return Kind("real windows 256x256, JPEG", linked(self.scratch / "small", some))

    @property
    def kinds(self) -> list[Kind]:
        """All kinds of photos whose preparing is timed."""
        sizes, kinds = self.report.sizes, []
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
        base = self.report.sizes.base
        most = simulated(self.scratch, _SMALL, 16 * base)
        return [first(most, base), first(most, 4 * base), most]


def measure_speed(bench: Bench) -> None:
    """The whole command against processes that only decode, by kind and workers."""
    sizes, table = bench.report.sizes, Rows()
    prepare = Prepare(bench.scratch / "speed")
    progress("measuring: the start of the command ...")
    one = first(bench.growing[0], 1)
    starts = take_turns({"start": partial(prepare.run, one, 1)}, sizes.rounds)["start"]
    with contextlib.ExitStack() as stack:
        spawning = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        pools = {n: stack.enter_context(spawning.Pool(n)) for n in sizes.workers}
        for kind in bench.kinds:
            progress(f"measuring: {kind.name} ...")
            paths, megabytes = kind.paths, kind.megabytes
            tasks: dict[str, Callable[[], Any]] = {}
            for workers in sizes.workers:
                # Few shares of the files, so that passing them on costs nothing.
                share = max(1, len(paths) // (8 * workers))
                tasks[f"decode {workers}"] = partial(pools[workers].map, decode, paths, share)
                tasks[f"prepare {workers}"] = partial(prepare.run, kind, workers)
            seconds = take_turns(tasks, sizes.rounds)
            used = len(set(open_records(prepare.last).columns("train").path))
            for workers in sizes.workers:
                bound, whole = seconds[f"decode {workers}"], seconds[f"prepare {workers}"]
                row = {
                    **{"photos": kind.name, "files": len(paths), "used": used},
                    "MB a file": round(megabytes / len(paths), 3),
                    "workers": workers,
                    "decoding, photos/s": len(paths) / bound,
                    "prepare, photos/s": len(paths) / whole,
                    "MB/s a core": megabytes / whole / workers,
                    "prepare / decoding": bound / whole,
                }
                more = whole - np.median(starts)
                # Sets as small as those of --quick take no longer than the start.
                if (more > 0.1 * np.median(starts)).all():
                    row["the same without the start"] = bound / more
                table.append(row)
            prepare.clear()
    bench.report.add(
        "Photos against only decoding them",
        table,
        f"The start of the command, {shown(starts)} s for one photo, is in all numbers but those "
        "of the last column, where its median is taken off each time. Above 1: quicker than "
        "decoding. 'as pixels': `--encoding pixels`.",
    )


def measure_windows(bench: Bench) -> None:
    """Encodings of a window."""
    paths, origin = bench.originals, "real photos"
    if not paths:
        kind, origin = simulated(bench.scratch, *bench.report.sizes.photos[0]), "SIMULATED photos"
        paths = list(map(Path, kind.paths))
    measure_encodings(bench.report, paths, origin)


def measure_growth(bench: Bench) -> None:
    """Time and peak memory as photos grow in number."""
    sizes, kinds, prepare = bench.report.sizes, bench.growing, Prepare(bench.scratch / "growth")
    workers = sizes.workers[-1]
    peaks: dict[str, list[list[int]]] = {str(len(kind.paths)): [] for kind in kinds}

    def run(kind: Kind, count: str) -> None:
        peaks[count].append(prepare.run(kind, workers))

    progress("measuring: more photos ...")
    tasks = {n: partial(run, kind, n) for kind, n in zip(kinds, peaks, strict=True)}
    seconds = take_turns(tasks, sizes.rounds)
    prepare.clear()
    table, slopes = Rows(), list[np.ndarray]()
    for number, (count, times) in enumerate(seconds.items()):
        photos = int(count)
        row = {"SIMULATED photos": photos, "s": times, "ms a photo": 1e3 * times / photos}
        if number:
            before = table[-1]
            slopes.append(1e3 * (times - before["s"]) / (photos - before["SIMULATED photos"]))
            row |= {"ms each further photo": slopes[-1], "relative": slopes[-1] / slopes[0]}
        row["peak MiB, parent"] = np.array([max(of_turn[0] for of_turn in peaks[count]) / 2**20])
        children = (max(of_turn[1:], default=0) for of_turn in peaks[count])
        row["peak MiB, largest child"] = np.array([max(children) / 2**20])
        table.append(row)
    bench.report.add(
        "More photos",
        table,
        f"Photos of a megapixel, {workers} workers. 'Further' is the time beyond that of the line "
        "above. Memory is the highest of all turns; 0: this system does not tell.",
    )


def measure_interruption(bench: Bench) -> None:
    """A run that is killed at half its time and continued, and a finished one started again."""
    kind, workers = bench.growing[-1], bench.report.sizes.workers[-1]
    prepare = Prepare(bench.scratch / "interruption")
    usual, finished = 0.0, Path()

    def whole() -> None:
        nonlocal usual, finished
        start = time.perf_counter()
        prepare.run(kind, workers)
        usual, finished = time.perf_counter() - start, prepare.last

    tasks: dict[str, Callable[[], Any]] = {
        "not interrupted": whole,
        "killed at half": lambda: prepare.run(kind, workers, kill_after=usual / 2),
        "continued": lambda: prepare.run(kind, workers, out=prepare.last),
        "finished, started again": lambda: prepare.run(kind, workers, out=finished),
    }
    progress("measuring: an interruption ...")
    seconds = take_turns(tasks, bench.report.sizes.rounds)
    prepare.clear()
    seconds["killed and continued"] = seconds["killed at half"] + seconds["continued"]
    bench.report.add(
        "An interruption",
        [
            {"run": name, "s": times, "relative": times / seconds["not interrupted"]}
            for name, times in seconds.items()
        ],
        f"{len(kind.paths)} SIMULATED photos. Killed (SIGKILL) after half of the time of the "
        "uninterrupted run of the turn.",
    )


SECTIONS: dict[str, Callable[[Bench], None]] = {
    "speed": measure_speed,
    "windows": measure_windows,
    "growth": measure_growth,
    "interruption": measure_interruption,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="these sections"
    )
    real_photos(parser)
    options = parser.parse_args(argv)
    windows, originals = (
        find_images([folder]) if folder.is_dir() else []
        for folder in (options.data / "photos", options.data / "full" / "photos")
    )
    report = Report(
        "prepare",
        options,
        SIZES,
        "Ratios are of neighbouring turns. What is called SIMULATED is a smooth scene with noise "
        "like a sensor's, JPEG of quality 92 and 4:2:0, with EXIF.",
        f"Real photos in {options.data.name}/: {len(originals)} whole ones and {len(windows)} "
        "windows of 256x256; what there is none of is not measured.",
    )
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(report, Path(scratch), originals, windows)
        for name in options.only:
            SECTIONS[name](bench)


if __name__ == "__main__":
    main()
