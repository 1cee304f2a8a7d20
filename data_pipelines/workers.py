"""Processes that make examples: batches in their order, in memory that is shared with them.

Grain has such processes, too. These were written because a batch of Grain's comes in shared memory
that is new every time, whose first touch takes as long as decoding (`recycling`); because its
processes import JAX; and because they are stopped one after the other.
"""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from data_pipelines.command_line import Exit
from data_pipelines.early_signals import RESTART
from data_pipelines.errors import UserError
from data_pipelines.examples import Loader, Plan
from data_pipelines.recycling import Slots, nameless_file

_AHEAD: Final = 2  # batches that a process is asked for before they are wanted
# The packages are where this process has found them.
_START: Final = (
    "import sys; sys.path[:] = sys.argv[3:]; from data_pipelines.input_worker import main; main()"
)
# A process' own threads would only take the cores from the others.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

Batch = tuple[list[Plan], np.ndarray, list[dict[str, Any]]]
"""Plans of examples, their pixels uint8 [b, 256, 256, 3], and what else is told of each."""


class WorkerError(RuntimeError):
    """An error that nobody expected, in a process that makes examples: its stack trace."""


class _Worker:
    """One process; what is asked first is answered first."""

    def __init__(self, first: int, shape: tuple[int, ...]) -> None:
        self._slots = Slots(shape)
        self._asked: deque[tuple[int, list[Plan]]] = deque()
        self._failure: Exception | None = None
        with _signals_blocked():
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(self._slots.file), str(first), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(self._slots.file, first),
                env={**os.environ, **_ENVIRONMENT},
            )

    @property
    def waits(self) -> int:
        """How many batches were asked for and not fetched."""
        return len(self._asked)

    def ask(self, plans: list[Plan]) -> None:
        slot = self._slots.take()
        self._asked.append((slot, plans))
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"slot": slot, "plans": plans}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    def fetch(self) -> Batch:
        """Waits for the batch that was asked for first."""
        assert self.process.stdout is not None
        if self._failure is not None:  # there is no batch after it
            raise self._failure
        line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._died()
        answer = json.loads(line)
        if "error" in answer:
            self._failure = raised(answer["error"])
            raise self._failure
        slot, plans = self._asked.popleft()
        return plans, self._slots.lend(slot), answer["facts"]

    def _died(self) -> Exit:
        self.process.kill()
        status = self.process.wait()
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        return Exit(
            RESTART,
            f"error: a process that reads data (config.data.workers) ended {how}, perhaps for want "
            "of memory; the same command continues from the last checkpoint",
        )


class WorkerBatches(Iterator[Batch]):
    """Batches of plans, made by processes in turn; to be closed."""

    def __init__(
        self, plans: Iterator[list[Plan]], load: Loader, shape: tuple[int, ...], workers: int
    ) -> None:
        """Starts the processes.

        Args:
            plans: of each batch.
            load: makes an example of a plan; picklable.
            shape: of the pixels of a batch.
            workers: number of processes; no effect on the batches.
        """
        self._plans, self._workers = plans, deque[_Worker]()
        self._close = weakref.finalize(self, _end, self._workers)
        with os.fdopen(nameless_file(), "w+b") as first:  # larger than what a pipe holds
            pickle.dump((load, shape), first)
            first.flush()
            for _ in range(workers):
                self._workers.append(_Worker(first.fileno(), shape))
        self._is_new = True

    def __next__(self) -> Batch:
        if self._is_new:
            self._is_new = False
            for _ in range(_AHEAD):
                self._ask_all()
        worker = self._workers[0]
        if not worker.waits:
            raise StopIteration
        batch = worker.fetch()
        self._ask(worker)
        self._workers.rotate(-1)
        return batch

    def close(self) -> None:
        """Ends the processes, at once."""
        self._close()

    def _ask_all(self) -> None:
        for worker in self._workers:
            self._ask(worker)

    def _ask(self, worker: _Worker) -> None:
        plans = next(self._plans, None)
        if plans is not None:
            worker.ask(plans)


def raised(told: dict[str, Any]) -> Exception:
    """The error that a process told of by `input_worker.told`."""
    if "user" in told:
        return UserError(told["user"])
    if "errno" in told:
        return OSError(told["errno"], os.strerror(told["errno"]), told["file"])
    return WorkerError(f"in a process that reads data:\n{told['trace']}")


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.wait()
        for pipe in filter(None, (worker.process.stdin, worker.process.stdout)):
            with contextlib.suppress(OSError):  # what was written and not sent
                pipe.close()


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """A process that starts within hears of no signal before it can ignore them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
