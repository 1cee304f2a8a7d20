"""Thousands of hostile files through `exif-jax prepare`: no crash, no hang, bounded memory.

python -m tests.fuzzing.prepared --data DATA [--count 20000] [--out FOLDER]

Files are grown from the photos below DATA (photos in `photos` and `full`, any that are there) and
from crafted ones in all formats, see `hostile_files`; some dozens of good photos are mixed in. The
real command reads them three times: as people do; with nothing rejected for its EXIF, so that more
decoders get to see more; and, bombs and good photos only, within narrow limits, so that many child
processes are killed. Each time every file must be either in the records or in the list of rejected
files, every good photo must be in the records with the windows that it has when it is read alone,
and memory must stay within the limits. Exit status 1: a check failed. With --out, the tables and
numbers go to FOLDER/hostile.md and .json.
"""

import argparse
import collections
import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

from data_pipelines.files import write_json, write_text
from data_pipelines.images import EXTENSIONS
from data_pipelines.prepare.options import SWITCHES, Options
from data_pipelines.prepare.reader import PreparedPhoto, read_photo
from data_pipelines.prepare.run import REJECTS_FILE
from data_pipelines.records import open_records
from tests.fuzzing.bombs import BOMBS
from tests.fuzzing.files import EXPECTED, hostile_files
from tests.fuzzing.memory import MemoryWatch
from tests.fuzzing.seeds import crafted_photo, crafted_seeds, encode

ROOT = Path(__file__).resolve().parents[2]
USED = "a photo"
"""What became of a file that is in the records."""
# Otherwise files that differ in their EXIF only would count as copies of one photo.
ACCEPT_COPIES = ("--accept=duplicate",)
ACCEPT_ALL = tuple(f"--accept={name}" for name in SWITCHES)
NARROW_MEBIBYTES = 512
NARROW = (*ACCEPT_COPIES, "--seconds-per-file=2", f"--memory-per-file={NARROW_MEBIBYTES}")
PARENT_MEBIBYTES = 1024
_GOOD = 48
_SEEDS = 120  # windows; whole photos are added to them


@dataclasses.dataclass
class Pass:
    """What one run of the command gave.

    Attributes:
        name: for the table.
        files: read.
        seconds: it took.
        kinds: kind of file -> outcome -> how often.
        parent_mebibytes: peak memory of the command.
        worker_mebibytes: peak memory of its largest child.
        processes: children that it started.
        complaints: what should not have happened.
    """

    name: str
    files: int
    seconds: float
    kinds: dict[str, Counter[str]]
    parent_mebibytes: float
    worker_mebibytes: float
    processes: int
    complaints: list[str]

    @property
    def outcomes(self) -> Counter[str]:
        return sum(self.kinds.values(), Counter())


def put_files(folder: Path, data: Path, count: int, seed: int) -> dict[str, str]:
    """Writes hostile files and good photos; returns their kinds by name, of good ones `good`."""
    paths, whole = (
        [p for p in sorted(data.glob(f"{part}/**/*")) if p.suffix.lower() in EXTENSIONS]
        for part in ("photos", "full")
    )
    mixed = [paths[i] for i in np.random.default_rng(0).permutation(len(paths)).tolist()]
    seeds = [path.read_bytes() for path in (*mixed[:_SEEDS], *whole)]
    kinds = {}
    for number, (kind, content) in enumerate(
        hostile_files([*seeds, *crafted_seeds()], count, seed)
    ):
        name = f"{number:05d}_{kind}.jpg"
        (folder / name).write_bytes(content)
        kinds[name] = kind
    candidates = [path.read_bytes() for path in mixed[_SEEDS : _SEEDS + 4 * _GOOD]]
    good = [photo for photo in candidates if windows_alone(photo)][:_GOOD]
    if not good:
        good = [encode(crafted_photo(1000 + i), "JPEG", quality=90) for i in range(_GOOD)]
    for number, content in enumerate(good):  # spread among the others, as names decide the order
        name = f"{number * count // len(good):05d}_{number:02d}_good.jpg"
        (folder / name).write_bytes(content)
        kinds[name] = "good"
    return kinds


def windows_alone(content: bytes) -> list[bytes]:
    """The windows of a photo that is read here; none if it is rejected."""
    photo = read_photo(content, Options())
    return sorted(photo.windows) if isinstance(photo, PreparedPhoto) else []


def outcomes(out: Path) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """Reads what became of every file: a reason, or `USED`; and the windows of those used.

    Raises:
        AssertionError: a file is in two places.
    """
    windows: dict[str, list[bytes]] = collections.defaultdict(list)
    records = open_records(out)
    for source in map(records.source, records.splits):
        for i in range(len(source)):
            raw = source[i]
            windows[raw["path"]].append(raw["image"])
    lines = map(json.loads, (out / REJECTS_FILE).read_text().splitlines())
    rejects = [(line["path"], line["reason"]) for line in lines]
    found = {**dict.fromkeys(windows, USED), **dict(rejects)}
    assert len(found) == len(windows) + len(rejects), "a file is listed twice"
    return found, windows


def run_pass(
    name: str, files: Path, kinds: Mapping[str, str], workers: int, options: Sequence[str]
) -> Pass:
    """Prepares a folder with the real command and checks what came of every file.

    Raises:
        SystemExit: it ended with another status than 0.
    """
    print(f"{name}: {len(kinds)} files ...", flush=True)
    out = files.with_name(f"{files.name}_{name.replace(' ', '_')}")
    command = [sys.executable, "-m", "exif_jax.cli", "prepare", str(files), "--out", str(out)]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, f"--workers={workers}", *options], stdout=log, stderr=log, cwd=ROOT
        )
        with MemoryWatch(process.pid) as memory:
            status = process.wait()
        seconds = time.perf_counter() - start
        if status:
            log.seek(0)
            text = log.read().decode("utf-8", "replace")[-2000:]
            raise SystemExit(f"exif-jax prepare: status {status} after {seconds:.0f} s\n{text}")
    found, windows = outcomes(out)
    counts: dict[str, Counter[str]] = collections.defaultdict(Counter)
    for file in sorted(kinds, key=lambda file: kinds[file]):
        counts[kinds[file]][found.get(file, "missing")] += 1
    worker = max(memory.workers.values(), default=0.0)
    good = [file for file, kind in kinds.items() if kind == "good"]
    changed = [f for f in good if windows_alone((files / f).read_bytes()) != sorted(windows[f])]
    narrow = NARROW_MEBIBYTES if options == NARROW else Options().memory_per_file
    wrong = {
        "records and rejects are not all files": found.keys() != kinds.keys(),
        f"good photos with other windows: {changed}": changed,
        f"a child took {worker:.0f} MiB": worker > narrow,
        f"the parent took {memory.parent:.0f} MiB": memory.parent > PARENT_MEBIBYTES,
        **{
            f"{kind}: {dict(got)} instead of {sorted(EXPECTED[kind])}": not got.keys()
            <= EXPECTED[kind]
            for kind, got in counts.items()
            if kind in EXPECTED and options == ACCEPT_COPIES
        },
    }
    complaints = [f"{name}: {text}" for text, is_so in wrong.items() if is_so]
    processes = len(memory.workers)
    return Pass(
        name, len(kinds), seconds, dict(counts), memory.parent, worker, processes, complaints
    )


def _grid(rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * lines[0].count(" | ") + "---|", *lines[1:]])


def report(passes: Sequence[Pass], about: str) -> str:
    """Returns the results as Markdown."""
    numbers = {"files": "files", "wall time, s": "seconds", "child processes": "processes"}
    numbers |= {"largest peak memory of a child, MiB": "worker_mebibytes"}
    numbers |= {"peak memory of the parent, MiB": "parent_mebibytes"}
    rows = [("", *(each.name for each in passes))]
    rows += [
        (name, *(f"{getattr(each, field):.0f}" for each in passes))
        for name, field in numbers.items()
    ]
    reasons = sorted({reason for each in passes for reason in each.outcomes})
    rows += [(f"files: {r}", *(str(each.outcomes[r]) for each in passes)) for r in reasons]
    kinds = [
        (kind, *(", ".join(f"{n} {r}" for r, n in p.kinds[kind].most_common()) for p in passes[:2]))
        for kind in sorted(passes[0].kinds)
    ]
    complaints = [text for each in passes for text in each.complaints]
    verdict = "Complaints: " + "; ".join(complaints) if complaints else "Every check passed."
    parts = ["# Hostile files", about, verdict, _grid(rows), "What became of every kind:"]
    header = ("kind", *(each.name for each in passes[:2]))
    return "\n\n".join([*parts, _grid([header, *kinds])]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs everything; returns 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared = ROOT.parent / "shared" / "data" / "dev"
    parser.add_argument("--data", type=Path, default=shared, help="real photos")
    parser.add_argument("--count", type=int, default=5000, help="hostile files")
    parser.add_argument("--seed", type=int, default=0, help="of the hostile files")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="folder of results")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        files, narrow = Path(scratch, "files"), Path(scratch, "narrow")
        files.mkdir()
        narrow.mkdir()
        kinds = put_files(files, options.data, options.count, options.seed)
        few = {name: kind for name, kind in kinds.items() if kind in BOMBS or kind == "good"}
        for name in few:
            (narrow / name).hardlink_to(files / name)
        passes = [
            run_pass("as people do", files, kinds, options.workers, ACCEPT_COPIES),
            run_pass("any EXIF accepted", files, kinds, options.workers, ACCEPT_ALL),
            run_pass("bombs within narrow limits", narrow, few, options.workers, NARROW),
        ]
    packages = ("pillow", "numpy", "piexif", "turbojpeg", "pillow-heif")
    installed = {d.name.lower().replace("_", "-") for d in metadata.distributions()}
    versions = [f"{p} {metadata.version(p)}" if p in installed else f"no {p}" for p in packages]
    about = (
        f"{platform.platform()}, Python {platform.python_version()}, {', '.join(versions)}; "
        f"{datetime.datetime.now(datetime.UTC).date()}. {options.count} hostile files of seed "
        f"{options.seed}, {options.workers} workers; at most {Options().memory_per_file} MiB and "
        f"{Options().seconds_per_file:g} s a file, in the last column {NARROW_MEBIBYTES} and 2."
    )
    text = report(passes, about)
    print(f"\n{text}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / "hostile.md", text)
        results = {"about": about, "passes": list(map(vars, passes))}
        write_json(options.out / "hostile.json", results)
    return int(any(each.complaints for each in passes))


if __name__ == "__main__":
    sys.exit(main())
