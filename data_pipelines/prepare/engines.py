"""Who makes the parts and the shards: processes of this machine, or Apache Beam.

Both call `parts.make_part` and `shards.make_shard`, so both give the same records, and each can
continue what the other left unfinished.
"""

import collections
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from tqdm import tqdm

from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.parts import make_part, read_todo
from data_pipelines.prepare.shards import make_shard
from data_pipelines.prepare.workspace import Workspace

T = TypeVar("T")


class Engine(Protocol):
    """Makes what is given by number; all of it is there when a method returns."""

    def make_parts(self, workspace: Workspace, parts: Sequence[int], options: Options) -> None:
        """Makes parts."""

    def make_shards(self, workspace: Workspace, shards: Sequence[int]) -> None:
        """Makes shards."""


class LocalEngine:
    """Child processes of this machine, one for each of `workers`.

    Args:
      workers: Photos read at a time.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def make_parts(self, workspace: Workspace, parts: Sequence[int], options: Options) -> None:
        """Makes parts, `workers` of them at a time; each worker keeps its child process."""
        # Every part but the last one has the same number of files.
        first, last = (len(read_todo(workspace.parts, part)) for part in (parts[0], parts[-1]))
        num_files = first * (len(parts) - 1) + last
        bar = tqdm(desc="reading photos", total=num_files, unit="photo", disable=None)
        with bar, contextlib.ExitStack() as stack:
            readers = [stack.enter_context(GuardedReader(options)) for _ in range(self._workers)]
            idle = collections.deque(readers)
            stopping = threading.Event()

            def make(part: int) -> None:
                reader = idle.pop()
                for count in make_part(workspace.parts, part, reader):
                    bar.update(count)
                    if stopping.is_set():
                        return
                idle.append(reader)

            with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
                try:
                    collections.deque(_map(pool, make, parts, 2 * self._workers), maxlen=0)
                except BaseException:
                    # Nothing is written from now on, so a killed child rejects no file.
                    stopping.set()
                    for reader in readers:
                        reader.interrupt()
                    raise

    def make_shards(self, workspace: Workspace, shards: Sequence[int]) -> None:
        """Makes shards one after the other: little but copying is left to do."""
        for shard in tqdm(shards, "writing records", unit="shard", disable=None):
            make_shard(workspace, shard)


def _map(
    pool: concurrent.futures.Executor, function: Callable[[int], T], items: Sequence[int], most: int
) -> Iterator[T]:
    """Maps with no more than some tasks waiting, so that an error ends it soon."""
    waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
