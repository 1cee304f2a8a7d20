"""Running `exif-jax prepare` as people do, watching and killing it; its bound, only decoding."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from measuring import PeakMemory
from PIL import Image
from prepare_photos import Kind

_ROOT = Path(__file__).resolve().parents[1]
_MOST_TASKS = 8  # for each process of the bound: few enough that passing them on costs nothing


@dataclasses.dataclass
class Prepare:
    """Runs of the command, each into a new directory.

    Attributes:
        scratch: where the directories are made; nobody else uses it.
        last: the latest of them.
    """

    scratch: Path
    last: Path = Path()

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        self.scratch.mkdir(parents=True)

    def clear(self) -> None:
        """Deletes what was made; not within a turn, as it takes time."""
        for path in self.scratch.iterdir():
            shutil.rmtree(path)

    def run(
        self, kind: Kind, workers: int, out: Path | None = None, kill_after: float = 0.0
    ) -> PeakMemory:
        """Runs the command, and raises if it fails.

        Args:
            kind: what is prepared.
            workers: processes that read photos.
            out: to continue; a new directory by default.
            kill_after: seconds after which it is killed; 0: never.

        Returns:
            The memory of its processes.

        Raises:
            RuntimeError: it failed, or ended before it could be killed.
        """
        self.last = out or self.scratch / f"{next(self._numbers):03d}"
        # Real photos are there several times under other names: accepted.
        words = [
            *(sys.executable, "-m", "exif_jax.cli", "prepare", kind.folder, "--out", self.last),
            *("--workers", workers, "--encoding", kind.encoding, "--accept", "duplicate"),
            *("--validation-fraction", 0),
        ]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                list(map(str, words)), stdout=subprocess.DEVNULL, stderr=errors, cwd=_ROOT
            )
            try:
                with PeakMemory(process.pid) as memory:
                    status = process.wait(kill_after or None)
                if kill_after:
                    raise RuntimeError("exif-jax prepare ended before it could be killed")
            except subprocess.TimeoutExpired:
                status = 0
            finally:
                process.kill()
                process.wait()
            if status:
                errors.seek(0)
                raise RuntimeError(f"exif-jax prepare failed: {errors.read().decode()[-2000:]}")
        memory.peaks.setdefault(process.pid, 0)
        return memory


def parent_and_child(memory: PeakMemory) -> tuple[int, int]:
    """Peaks of the process that was started and of the largest below it, in bytes."""
    parent, *children = memory.peaks.values()
    return parent, max(children, default=0)


def _decode(path: str) -> None:
    with Image.open(path) as image:
        image.load()


def _decode_all(pool: ProcessPoolExecutor, processes: int, paths: Sequence[str]) -> None:
    share = max(1, len(paths) // (_MOST_TASKS * processes))
    for _ in pool.map(_decode, paths, chunksize=share):
        pass


@contextlib.contextmanager
def decoders(counts: Sequence[int]) -> Iterator[dict[int, partial[None]]]:
    """The bound: functions that decode files with Pillow, by number of processes, all kept."""
    with contextlib.ExitStack() as stack:
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        pools = {n: stack.enter_context(ProcessPoolExecutor(n, context)) for n in counts}
        yield {n: partial(_decode_all, pool, n) for n, pool in pools.items()}
