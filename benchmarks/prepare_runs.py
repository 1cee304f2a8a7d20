"""Running `exif-jax prepare` as people do, watching its memory, killing it; and its bound."""

import contextlib
import dataclasses
import hashlib
import itertools
import multiprocessing
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from prepare_photos import Kind, decode_file

from data_pipelines.prepare.workspace import UNFINISHED
from data_pipelines.records import open_records

_ROOT = Path(__file__).resolve().parents[1]
_SAMPLE_MS = 20
_POLL_SECONDS = 0.005
_MOST_TASKS = 8  # for each process of the bound: few enough that passing them on costs nothing


@dataclasses.dataclass(frozen=True)
class Peaks:
    """Peak resident memory (VmHWM) of a run, libraries included, in bytes; 0 where unknown.

    Attributes:
        parent: of the process that was started.
        child: of the largest process below it.
    """

    parent: int = 0
    child: int = 0


@dataclasses.dataclass
class Prepare:
    """Runs of the command, each into a new directory.

    Attributes:
        scratch: where the directories are made; nobody else uses it.
        last: the latest of them.
        peaks: of memory, of every run that was watched.
    """

    scratch: Path
    last: Path = Path()
    peaks: list[Peaks] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self.scratch.mkdir(parents=True)

    def new(self) -> Path:
        """Names a directory that is not there."""
        self.last = self.scratch / f"{next(self._numbers):03d}"
        return self.last

    def clear(self) -> None:
        """Deletes what was made; not within a turn, as it takes time."""
        for path in self.scratch.iterdir():
            shutil.rmtree(path)

    def run(self, kind: Kind, workers: int, out: Path | None = None, watch: bool = False) -> None:
        """Runs the command to its end.

        Args:
            kind: what is prepared.
            workers: processes that read photos.
            out: to continue; a new one by default.
            watch: whether memory is observed.
        """
        with _started(kind, workers, out or self.new()) as process:
            if watch:
                self.peaks.append(_watch(process))

    def run_killed(self, kind: Kind, workers: int, num_parts: int) -> Path:
        """Kills the command when half of its parts are there; returns its directory."""
        out = self.new()
        parts = out / UNFINISHED / "parts"
        with _started(kind, workers, out, killed=True) as process:
            while process.poll() is None:
                if parts.is_dir() and len(list(parts.glob("*.rows"))) >= max(1, num_parts // 2):
                    process.kill()
                    break
                time.sleep(_POLL_SECONDS)
        return out


def command(kind: Kind, workers: int, out: Path) -> list[str]:
    """The command that is measured. Files are there several times under other names: accepted."""
    return [
        *(
            sys.executable,
            "-m",
            "exif_jax.cli",
            "prepare",
            str(kind.folder),
            "--out",
            str(out),
        ),
        *("--workers", str(workers), "--encoding", kind.encoding, "--accept", "duplicate"),
        *("--validation-fraction", "0"),
    ]


@contextlib.contextmanager
def _started(
    kind: Kind, workers: int, out: Path, killed: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the command, waits for its end, and raises if it failed (or was not killed)."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command(kind, workers, out), stdout=subprocess.DEVNULL, stderr=errors, cwd=_ROOT
        )
        try:
            yield process
            status = process.wait()
        finally:
            process.kill()
            process.wait()
        if killed and status == 0:
            raise RuntimeError("exif-jax prepare ended before it could be killed")
        if status and not (killed and status < 0):
            errors.seek(0)
            raise RuntimeError(f"exif-jax prepare failed: {errors.read().decode()[-2000:]}")


def _watch(process: subprocess.Popen[bytes]) -> Peaks:
    """Samples peak memory until the process ends."""
    if not hasattr(os, "pidfd_open") or not Path("/proc/self/status").is_file():
        process.wait()
        return Peaks()
    peaks: dict[int, int] = {}
    descriptor = os.pidfd_open(process.pid)  # so that the end is noticed at once
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        while not poll.poll(_SAMPLE_MS):
            for pid in _below(process.pid):
                peaks[pid] = max(peaks.get(pid, 0), _high_water(pid))
    finally:
        os.close(descriptor)
    parent = peaks.pop(process.pid, 0)
    return Peaks(parent, max(peaks.values(), default=0))


def _below(pid: int) -> Iterator[int]:
    """Yields a process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _below(int(child))


def _high_water(pid: int) -> int:
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return 1024 * int(found[1]) if found else 0
    return 0


class Decoders:
    """The bound: processes that decode files with Pillow and do nothing else.

    Args:
        processes: how many; they are kept.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        self._pool = ProcessPoolExecutor(processes, context)

    def decode(self, paths: Sequence[str]) -> None:
        """Decodes all files once."""
        share = max(1, len(paths) // (_MOST_TASKS * self._processes))
        for _ in self._pool.map(decode_file, paths, chunksize=share):
            pass

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown()


@contextlib.contextmanager
def decoders(processes: Sequence[int]) -> Iterator[dict[int, Decoders]]:
    """Bounds by number of processes."""
    with contextlib.ExitStack() as stack:
        made = {count: Decoders(count) for count in processes}
        for bound in made.values():
            stack.callback(bound.close)
        yield made


def digest_of_records(directory: Path) -> str:
    """SHA-256 of the training records of a directory, parsed, in order.

    The bytes of the shards say less: a record's fields are written in an order that differs from
    process to process.
    """
    digest = hashlib.sha256()
    source = open_records(directory).source("train")
    for index in range(len(source)):
        record = source[index]
        fields = record | record.pop("tags")
        digest.update(repr(sorted(fields.items())).encode())
    return digest.hexdigest()
