"""Who makes the parts and the shards: processes of this machine, or Apache Beam.

Both call `parts.make_part` and `shards.make_shard`, so both give the same records, and each can
continue what the other left unfinished.
"""

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Protocol

from tqdm import tqdm

from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.parts import make_part, read_todo
from data_pipelines.prepare.shards import make_shard
from data_pipelines.prepare.workspace import Workspace


class Engine(Protocol):
    """Makes what is given by number; all of it is there when a method returns."""

    def make_parts(self, workspace: Workspace, parts: Sequence[int], options: Options) -> None:
        """Makes parts."""

    def make_shards(self, workspace: Workspace, shards: Sequence[int]) -> None:
        """Makes shards."""


class LocalEngine:
    """Child processes of this machine, one for each of `workers`.

    Args:
        workers: photos read at a time; by default one for each CPU core.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or os.cpu_count() or 1

    def make_parts(self, workspace: Workspace, parts: Sequence[int], options: Options) -> None:
        """Makes parts, `workers` of them at a time; each worker keeps its child process."""
        # Every part but the last one has the same number of files.
        first, last = (len(read_todo(workspace.parts, part)) for part in (parts[0], parts[-1]))
        num_files = first * (len(parts) - 1) + last
        waiting, stopping = iter(parts), threading.Event()  # threads share the iterator
        bar = tqdm(desc="reading photos", total=num_files, unit="photo", disable=None)

        def work(reader: GuardedReader) -> None:
            for part in waiting:
                for count in make_part(workspace.parts, part, reader):
                    bar.update(count)
                    if stopping.is_set():
                        return

        with bar, contextlib.ExitStack() as stack:
            readers = [stack.enter_context(GuardedReader(options)) for _ in range(self._workers)]
            with concurrent.futures.ThreadPoolExecutor(self._workers) as pool:
                try:
                    for done in concurrent.futures.as_completed(
                        [pool.submit(work, reader) for reader in readers]
                    ):
                        done.result()
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
