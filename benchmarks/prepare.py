"""Speed and memory of `exif-jax prepare`, and of reading what it made.

python benchmarks/prepare.py

What is compared takes turns within one run, and the ratios are of neighbouring turns, so that other
load on the machine disturbs them little. The tables go to the terminal and, with the machine and
the versions, to results/prepare_DEVICE.md and .json beside this file, written anew after every
section. Real photos are measured where they are there; all others are SIMULATED and said to be.
`--quick` checks the script itself within a minute, with sizes whose numbers mean nothing.
"""

import argparse
import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from prepare_growth import measure_growth, measure_interruption, measure_plan
from prepare_photos import (
    JPEG,
    PNG,
    SMALL,
    TIFF,
    Format,
    Kind,
    first_photos,
    link_photos,
    photos_in,
    simulate_photos,
)
from prepare_report import Table, render, report, spread
from prepare_runs import Prepare, decoders
from prepare_steps import measure_steps
from prepare_windows import measure_encodings, measure_reading, thread_counts
from speed_report import describe_machine, take_turns, write_results

from data_pipelines.prepare.report.tag_report import load_report
from data_pipelines.records import open_records

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "dev"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: turns that each side of a comparison takes.
        copies: of every whole original.
        small: real windows at most.
        photos: for each simulated kind, its width and height, and how many.
        coded: photos of each format that is decoded whole.
        steps: photos of each kind in the table of steps.
        base: simulated photos of the smallest set that grows.
        planned: numbers of photos whose plan is made.
        windows: of a photo in the comparison of encodings.
        images: read in a turn.
        batch: images of a batch.
        threads: of the readers.
        workers: of the command.
        every: of so many kinds of photos only one is timed.
    """

    rounds: int
    copies: int
    small: int
    photos: tuple[tuple[tuple[int, int], int], ...]
    coded: int
    steps: int
    base: int
    planned: tuple[int, ...]
    windows: int
    images: int
    batch: int
    threads: tuple[int, ...]
    workers: tuple[int, ...] = (1, 2)
    every: int = 1


_LARGE = (((4000, 3000), 32), ((6000, 4000), 16))
SIZES = {
    "full": Sizes(
        3, 4, 640, _LARGE, 16, 4, 24, (100_000, 1_000_000), 4, 1024, 32, tuple(thread_counts())
    ),
    "quick": Sizes(1, 1, 8, (((800, 600), 2),), 2, 2, 1, (1000,), 2, 32, 4, (1, 2), (2,), 4),
}


@dataclasses.dataclass(frozen=True)
class Bench:
    """What the sections share.

    Attributes:
        sizes: how much.
        scratch: folder for everything that is made.
        originals: whole real photos, or none.
        small: real windows of 256x256, or none.
    """

    sizes: Sizes
    scratch: Path
    originals: tuple[Path, ...]
    small: tuple[Path, ...]

    def simulated(self, size: tuple[int, int], count: int, form: Format) -> tuple[str, Path]:
        """Name and folder of simulated photos, made when they are first asked for."""
        name = f"SIMULATED {size[0] * size[1] / 1e6:.3g} megapixels, {form.name}"
        folder = self.scratch / f"simulated_{form.name}_{size[0]}_{count}"
        if not folder.exists():
            progress(f"making {count} photos: {name} ...")
        return name, simulate_photos(folder, count, size, form)

    def small_folder(self) -> Path:
        """Folder of some of the real windows, of all cameras alike."""
        step = max(1, len(self.small) // self.sizes.small)
        return link_photos(self.scratch / "small", self.small[::step][: self.sizes.small], 1)

    def kinds(self) -> list[Kind]:
        """All kinds of photos whose preparing is timed."""
        sizes, kinds = self.sizes, []
        if self.originals:
            folder = link_photos(self.scratch / "originals", self.originals, sizes.copies)
            kinds += [Kind("real whole photos, JPEG", folder)]
            kinds += [Kind("the same as pixels", folder, "pixels")]
        if self.small:
            folder = self.small_folder()
            kinds.append(Kind("real windows 256x256, JPEG", folder))
        for size, count in sizes.photos:
            kinds.append(Kind(*self.simulated(size, count, JPEG)))
        size, _ = sizes.photos[0]
        name, folder = self.simulated(*sizes.photos[0], JPEG)
        some = first_photos(self.scratch / "as_pixels", sizes.coded, folder)
        kinds.append(Kind(f"{name}, as pixels", some, "pixels"))
        for form in (PNG, TIFF):
            kinds.append(Kind(*self.simulated(size, sizes.coded, form), "pixels"))
        return kinds

    def growing(self) -> list[Kind]:
        """Simulated photos of a megapixel: some, four and sixteen times as many, all different."""
        base = self.sizes.base
        _, folder = self.simulated(SMALL, 16 * base, JPEG)
        sets = [
            Kind(f"{n} x", first_photos(self.scratch / f"times{n}", n * base, folder))
            for n in (1, 4)
        ]
        return [*sets, Kind("16 x", folder)]


def progress(text: str) -> None:
    """Tells what is being done."""
    print(text, file=sys.stderr, flush=True)


def measure_speed(bench: Bench) -> list[Table]:
    """The whole command against processes that only decode, by kind and workers."""
    sizes, table = bench.sizes, Table("Photos against only decoding them", ())
    table.header = ("photos", "files, of MB", "workers", "decoding, photos/s", "prepare, photos/s")
    table.header += ("MB/s a core", "prepare / decoding", "the same without the start")
    kinds = bench.kinds()[:: sizes.every]
    first = Kind("start", first_photos(bench.scratch / "start", 1, bench.growing()[0].folder))
    prepare = Prepare(bench.scratch / "speed")
    progress("measuring: the start of the command ...")
    starts = take_turns({"start": partial(prepare.run, first, 1)}, sizes.rounds)["start"]
    start = float(np.median(starts))
    table.measured["start_seconds"] = starts.tolist()
    with decoders(sizes.workers) as bounds:
        for kind in kinds:
            progress(f"measuring: {kind.name} ...")
            paths, megabytes = kind.paths, kind.megabytes
            tasks: dict[str, Callable[[], Any]] = {}
            for workers in sizes.workers:
                tasks[f"decode {workers}"] = partial(bounds[workers].decode, paths)
                tasks[f"prepare {workers}"] = partial(prepare.run, kind, workers)
            seconds = take_turns(tasks, sizes.rounds)
            used = load_report(prepare.last)["num_photos"]
            table.measured[kind.name] = {
                "files": len(paths),
                "used": used,
                "megabytes": megabytes,
                "seconds": {name: values.tolist() for name, values in seconds.items()},
            }
            for workers in sizes.workers:
                table.lines.append(_speed_line(kind, used, seconds, workers, start))
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


def _speed_line(
    kind: Kind, used: int, seconds: Mapping[str, np.ndarray], workers: int, start: float
) -> tuple[str, ...]:
    files = len(kind.paths)
    bound, whole = seconds[f"decode {workers}"], seconds[f"prepare {workers}"]
    some = f" ({used})" if used != files else ""
    more = whole - start
    # Sets as small as those of --quick take no longer than the start.
    rest = spread(bound / more) if (more > 0.1 * start).all() else "-"
    return (
        kind.name,
        f"{files}{some}, {kind.megabytes / files:.2g}",
        str(workers),
        f"{np.median(files / bound):.1f}",
        f"{np.median(files / whole):.1f}",
        f"{np.median(kind.megabytes / whole) / workers:.1f}",
        spread(bound / whole),
        rest,
    )


def measure_inside(bench: Bench) -> list[Table]:
    """The time of one photo by step."""
    kinds = bench.kinds()[:: bench.sizes.every]
    progress("measuring: steps ...")
    return [measure_steps(kinds, bench.sizes.rounds, bench.sizes.steps)]


def measure_windows(bench: Bench) -> list[Table]:
    """Encodings of a window."""
    paths, origin = list(bench.originals), "real photos"
    if not paths:
        size, count = bench.sizes.photos[0]
        _, folder = bench.simulated(size, count, JPEG)
        paths, origin = sorted(folder.iterdir()), "SIMULATED photos"
    progress("measuring: encodings ...")
    return [measure_encodings(paths, origin, bench.sizes.windows, bench.sizes.rounds)]


def measure_more(bench: Bench) -> list[Table]:
    """More photos, an interruption, and the plan of very many."""
    sizes, kinds, prepare = bench.sizes, bench.growing(), Prepare(bench.scratch / "growth")
    progress("measuring: more photos ...")
    tables = [measure_growth(kinds, prepare, sizes.workers[-1], sizes.rounds)]
    progress("measuring: an interruption ...")
    tables.append(measure_interruption(kinds[-1], prepare, sizes.workers[-1], sizes.rounds))
    progress("measuring: the plan ...")
    tables.append(measure_plan(kinds[1], bench.scratch / "planned", sizes.planned))
    return tables


def measure_read(bench: Bench) -> list[Table]:
    """Reading the records with Grain."""
    sizes = bench.sizes
    if bench.small:
        folder = bench.small_folder()
        kind, origin = Kind("small", folder), "real photos"
    else:
        kind, origin = bench.growing()[-1], "SIMULATED photos"
    prepare = Prepare(bench.scratch / "reading")
    prepare.run(kind, sizes.workers[-1])
    progress("measuring: reading the records ...")
    records = open_records(prepare.last)
    return [
        measure_reading(
            records, origin, sizes.images, sizes.batch, 2 * sizes.rounds - 1, sizes.threads
        )
    ]


SECTIONS: dict[str, Callable[[Bench], list[Table]]] = {
    "speed": measure_speed,
    "steps": measure_inside,
    "windows": measure_windows,
    "growth": measure_more,
    "reading": measure_read,
}


def remarks(bench: Bench, words: Sequence[str]) -> list[str]:
    """What was run, on which photos."""
    lines = [
        f"`python benchmarks/prepare.py {shlex.join(words)}`".replace(" `", "`"),
        "Ratios are of neighbouring turns: median (lowest - highest). What is called SIMULATED is "
        "a smooth scene with noise like a sensor's, JPEG of quality 92 and 4:2:0, with EXIF.",
    ]
    if not bench.originals:
        lines.append("No whole real photos were there (`--photos`): not measured.")
    if not bench.small:
        lines.append("No real windows of 256x256 were there (`--small`): not measured.")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check the script")
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), help="these sections"
    )
    parser.add_argument(
        "--photos", type=Path, default=_DATA / "full" / "photos", help="folder of whole photos"
    )
    parser.add_argument(
        "--small", type=Path, default=_DATA / "photos", help="folder of 256x256 JPEG windows"
    )
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of results"
    )
    options = parser.parse_args(argv)
    machine = describe_machine()
    sizes = SIZES["quick" if options.quick else "full"]
    words = ["--quick"] if options.quick else []
    words += ["--only", *options.only] if options.only != list(SECTIONS) else []
    tables: list[Table] = []
    path = Path()
    with tempfile.TemporaryDirectory() as scratch:
        originals, small = (photos_in(folder) for folder in (options.photos, options.small))
        bench = Bench(sizes, Path(scratch), tuple(originals), tuple(small))
        told = remarks(bench, words)
        for name in SECTIONS:
            if name not in options.only:
                continue
            for table in SECTIONS[name](bench):
                print(f"\n{render(table)}", flush=True)
                tables.append(table)
            results = {
                "quick": options.quick,
                "machine": machine,
                "remarks": told,
                "sizes": dataclasses.asdict(sizes),
                "tables": {table.title: table.measured for table in tables},
            }
            text = report(tables, machine, told, options.quick)
            path = write_results(options.out, "prepare", text, machine, results)
    print(f"\nwritten: {path}.md and .json")


if __name__ == "__main__":
    main()
