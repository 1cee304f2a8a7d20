"""Thousands of hostile files through `exif-jax prepare`: no crash, no hang, bounded memory.

python benchmarks/hostile.py --data DATA

Files are grown from the photos below DATA (photos in `photos` and `full`, any that are there) and
from crafted ones in all formats, see `hostile_files`; some dozens of good photos are mixed in. The
real command reads them all, while the memory of its processes is watched. Then every file must be
either in the records or in the list of rejected files, and every good photo must be in the records
with the windows that it has when it is read alone. In a second pass every file is read again,
timed, and with nothing rejected for its EXIF, so that more decoders get to see more. In a third one
the command reads the bombs and the good photos within narrow limits, so that many child processes
are killed. Results go to results/hostile_DEVICE.json and .md beside this file.
"""

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from hostile_bombs import BOMBS
from hostile_files import hostile_files
from hostile_report import NARROW_MEBIBYTES, NARROW_SECONDS, Facts, complaints, report
from hostile_seeds import crafted_photo, crafted_seeds, encode
from speed_report import describe_machine, write_results
from tqdm import tqdm

from data_pipelines.images import EXTENSIONS
from data_pipelines.prepare.isolation import COMMAND, GuardedReader
from data_pipelines.prepare.options import SWITCHES, Options
from data_pipelines.prepare.reader import Photo, read_photo
from data_pipelines.prepare.run import REJECTS_FILE
from data_pipelines.prepare.sources import Item
from data_pipelines.records import open_records

ROOT = Path(__file__).resolve().parents[1]
USED = "a photo"
"""What became of a file that is in the records."""
# Otherwise files that differ in their EXIF only would count as copies of one photo.
ACCEPT_COPIES = ("--accept", "duplicate")
_WORKER = COMMAND[-1].encode()
_GOOD = 48
_SEEDS = 120  # windows; whole photos are added to them


class MemoryWatch(threading.Thread):
    """Watches the resident memory of a process and of the processes that read photos below it.

    The kernel keeps each process's peak, so only what it grows by in the very last moment before
    its end is missed.

    Attributes:
      parent: Peak of the process itself, MiB.
      workers: Peak of every process that read photos, by id, MiB.
    """

    def __init__(self, pid: int, seconds: float = 0.05) -> None:
        super().__init__(daemon=True)
        self._pid, self._seconds = pid, seconds
        self._ended = threading.Event()
        self.parent = 0.0
        self.workers: dict[int, float] = {}

    def __enter__(self) -> "MemoryWatch":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Looks again and again until the context is left."""
        while not self._ended.wait(self._seconds):
            self.parent = max(self.parent, _peak_mebibytes(self._pid))
            for child in _children(self._pid):
                # In this order: a child that is not started yet still has its parent's memory.
                if _WORKER in _proc(child, "cmdline"):
                    peak = max(self.workers.get(child, 0.0), _peak_mebibytes(child))
                    self.workers[child] = peak


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def _peak_mebibytes(pid: int) -> float:
    lines = dict(line.split(b":", 1) for line in _proc(pid, "status").splitlines() if b":" in line)
    return int(lines.get(b"VmHWM", b"0 kB").split()[0]) / 1024


def _children(pid: int) -> list[int]:
    """Processes that any thread of a process started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:  # it has ended
        return []
    return [int(c) for task in tasks for c in _proc(pid, f"task/{task.name}/children").split()]


def find_seeds(data: Path) -> tuple[list[bytes], list[Path]]:
    """Returns files to grow hostile ones from, and good photos that are none of them."""
    paths = [p for p in sorted(data.glob("photos/**/*")) if p.suffix.lower() in EXTENSIONS]
    whole = [p for p in sorted(data.glob("full/**/*")) if p.suffix.lower() in EXTENSIONS]
    order = np.random.default_rng(0).permutation(len(paths))
    mixed = [paths[i] for i in order.tolist()]
    seeds = [path.read_bytes() for path in (*mixed[:_SEEDS], *whole)]
    return [*seeds, *crafted_seeds()], mixed[_SEEDS : _SEEDS + 4 * _GOOD]


def put_files(folder: Path, data: Path, count: int, seed: int) -> tuple[dict[str, str], set[str]]:
    """Writes hostile files and good photos.

    Returns:
      Kinds of the hostile files by name, and the names of the good photos.
    """
    seeds, candidates = find_seeds(data)
    kinds = {}
    for number, (kind, content) in enumerate(hostile_files(seeds, count, seed)):
        name = f"{number:05d}_{kind}.jpg"
        (folder / name).write_bytes(content)
        kinds[name] = kind
    good = [content for path in candidates if is_good(content := path.read_bytes())][:_GOOD]
    if not good:
        good = [encode(crafted_photo(1000 + i), "JPEG", quality=90) for i in range(_GOOD)]
    # Spread among the others, as names decide the order.
    names = [f"{i * count // len(good):05d}_{i:02d}_good.jpg" for i in range(len(good))]
    for name, content in zip(names, good, strict=True):
        (folder / name).write_bytes(content)
    return kinds, set(names)


def is_good(content: bytes) -> bool:
    """Tells whether a photo can be used."""
    return isinstance(read_photo(content, Options()), Photo)


def run_prepare(folder: Path, out: Path, workers: int, *limits: str) -> tuple[float, MemoryWatch]:
    """Runs the real command; returns seconds and memory.

    Raises:
      SystemExit: It ended with another status than 0.
    """
    command = [str(Path(sys.executable).with_name("exif-jax")), "prepare", str(folder)]
    command += ["--out", str(out), "--workers", str(workers), *ACCEPT_COPIES, *limits]
    start = time.perf_counter()
    with (out.parent / "log").open("w+b") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        with MemoryWatch(process.pid) as memory:
            status = process.wait()
        seconds = time.perf_counter() - start
        if status:
            log.seek(0)
            text = log.read().decode("utf-8", "replace")[-2000:]
            raise SystemExit(f"exif-jax prepare: status {status} after {seconds:.0f} s\n{text}")
    return seconds, memory


def run_narrow(folder: Path, kinds: Mapping[str, str], good: set[str], workers: int) -> Facts:
    """Lets the command read bombs and good photos within narrow limits."""
    files, out = folder / "narrow", folder / "narrow_records"
    files.mkdir()
    names = good | {name for name, kind in kinds.items() if kind in BOMBS}
    for name in names:
        (files / name).hardlink_to(folder / "files" / name)
    limits = (f"--seconds-per-file={NARROW_SECONDS}", f"--memory-per-file={NARROW_MEBIBYTES}")
    seconds, memory = run_prepare(files, out, workers, *limits)
    found, windows = outcomes(out)
    assert found.keys() == names, "not every file is in the records or rejected"
    return {
        "files": len(names),
        "seconds": seconds,
        "outcomes": dict(Counter(found.values()).most_common()),
        "worker_mebibytes": max(memory.workers.values()),
        "parent_mebibytes": memory.parent,
        "processes": len(memory.workers),
        "good_missing": sum(found[name] != USED for name in good),
        "good_changed": changed_windows(files, good, windows),
    }


def outcomes(out: Path) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """Reads what became of every file: a reason, or `USED`; and the windows of those used.

    Raises:
      AssertionError: A file is in two places.
    """
    windows: dict[str, list[bytes]] = defaultdict(list)
    records = open_records(out)
    for split in records.splits:
        source = records.source(split)
        for i in range(len(source)):
            raw = source[i]
            windows[raw["path"]].append(raw["image"])
    lines = map(json.loads, (out / REJECTS_FILE).read_text().splitlines())
    rejects = [(line["path"], line["reason"]) for line in lines]
    found = {**dict.fromkeys(windows, USED), **dict(rejects)}
    assert len(found) == len(windows) + len(rejects), "a file is listed twice"
    return found, windows


def changed_windows(folder: Path, names: Iterable[str], windows: Mapping[str, list[bytes]]) -> int:
    """Counts photos whose windows in the records are not those of the photo read alone."""
    changed = 0
    for name in names:
        alone = read_photo((folder / name).read_bytes(), Options())
        changed += not (isinstance(alone, Photo) and sorted(alone.windows) == sorted(windows[name]))
    return changed


@dataclasses.dataclass(frozen=True)
class Timing:
    """One file of the second pass."""

    name: str
    seconds: float
    outcome: str


def time_files(folder: Path, names: Sequence[str], workers: int) -> tuple[list[Timing], float]:
    """Reads every file in `workers` child processes, whatever its EXIF is like.

    Returns:
      Timings, slowest first, and the largest peak of a child, MiB.
    """
    options = Options(reject=())
    timings: list[Timing] = []
    bar = tqdm(total=len(names), desc="reading again", unit="file", disable=None)

    def read(some: Sequence[str]) -> None:
        with GuardedReader(options) as reader:
            for name in some:
                start = time.perf_counter()
                result = reader.read(Item(name, str(folder / name)))
                seconds = time.perf_counter() - start
                outcome = USED if isinstance(result, Photo) else result.reason
                timings.append(Timing(name, seconds, outcome))
                bar.update()

    threads = [threading.Thread(target=read, args=(names[i::workers],)) for i in range(workers)]
    with bar, MemoryWatch(os.getpid()) as memory:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(timings) == len(names), "a file was not read: see the error above"
    return sorted(timings, key=lambda t: -t.seconds), max(memory.workers.values())


def by_kind(kinds: Mapping[str, str], found: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Counts outcomes for each kind."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for name, kind in kinds.items():
        counts[kind][found[name]] += 1
    return {kind: dict(counter.most_common()) for kind, counter in sorted(counts.items())}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Makes the files, runs both passes and gathers what is reported."""
    files, out = folder / "files", folder / "records"
    files.mkdir()
    kinds, good = put_files(files, options.data, options.count, options.seed)
    names = sorted(path.name for path in files.iterdir())
    megabytes = sum((files / name).stat().st_size for name in kinds) / 1e6
    print(f"{len(names)} files, {megabytes:.0f} MB; preparing ...", flush=True)
    seconds, memory = run_prepare(files, out, options.workers)
    found, windows = outcomes(out)
    assert found.keys() == set(names), "not every file is in the records or rejected"
    start = time.perf_counter()
    timings, again_mebibytes = time_files(files, names, options.workers)
    again_seconds = time.perf_counter() - start
    again = {timing.name: timing.outcome for timing in timings}
    counted = Counter(found.values())
    times = [timing.seconds for timing in timings]
    real = "real photographs and crafted images"
    return {
        "command": shlex.join(["python", "benchmarks/hostile.py", *options.shown]),
        "seeds": real if find_seeds(options.data)[1] else "crafted images only",
        "workers": options.workers,
        "files": len(names),
        "hostile": len(kinds),
        "megabytes": megabytes,
        "good": len(good),
        "photos": counted[USED],
        "rejects": counted.total() - counted[USED],
        "good_missing": sum(found[name] != USED for name in good),
        "good_changed": changed_windows(files, good, windows),
        "seconds": seconds,
        "again_seconds": again_seconds,
        "narrow": run_narrow(folder, kinds, good, options.workers),
        "outcomes": dict(counted.most_common()),
        "again": dict(Counter(again.values()).most_common()),
        "worker_mebibytes": max(memory.workers.values()),
        "again_mebibytes": again_mebibytes,
        "parent_mebibytes": memory.parent,
        "processes": len(memory.workers),
        "median_seconds": float(np.median(times)),
        "p99_seconds": float(np.quantile(times, 0.99)),
        "slowest": [(kinds.get(t.name, "good"), t.seconds, t.outcome) for t in timings[:12]],
        "kinds": by_kind(kinds, found),
        "again_kinds": by_kind(kinds, again),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs everything and writes the results; returns 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data" / "dev", help="real photos"
    )
    parser.add_argument("--count", type=int, default=5000, help="hostile files")
    parser.add_argument("--seed", type=int, default=0, help="of the hostile files")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, help="keep the files in this new directory")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of results"
    )
    options = parser.parse_args(argv)
    options.shown = [f"--{name}={getattr(options, name)}" for name in ("count", "seed", "workers")]
    machine = describe_machine()
    for name in ("pillow-heif", "piexif", "turbojpeg"):
        try:
            machine["versions"][name] = version(name)
        except PackageNotFoundError:
            machine["versions"][name] = "absent"
    if options.work:
        options.work.mkdir(parents=True)
        facts = measure(options.work, options)
    else:
        with tempfile.TemporaryDirectory() as folder:
            facts = measure(Path(folder), options)
    text = report(facts, machine, quick=options.count < 1000)
    print(f"\n{text}")
    results = {"machine": machine, "switches": sorted(SWITCHES), "complaints": complaints(facts)}
    path = write_results(options.out, "hostile", text, machine, {**results, **facts})
    print(f"written: {path}.md and .json")
    return 1 if complaints(facts) else 0


if __name__ == "__main__":
    sys.exit(main())
