"""SIGTERM, checkpoints by the clock and hanging steps: what happens to a run beside its steps.

A thread hears of signals also while the main thread compiles, evaluates or waits, and agrees with
the other processes on a step. No step waits for another process: only the agreement does.

- Between steps, all processes go on to the newest step that one of them has begun, save and end.
- Where all that was computed is saved already (while a run starts, in its first step, which
  compiles, and in an evaluation, before which the loop saves), processes end at once.
- A process that waits for data saves and ends if no other has begun the step that wants them.
"""

import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from data_pipelines.command_line import Exit, expected
from data_pipelines.early_signals import PREEMPTED
from data_pipelines.terminal import say
from exif_jax.training.processes import RESTART, Peers

_POLL: Final = 1.0  # seconds between two looks at what the other processes want


class Due(Enum):
    """What is to be done with the state after a step, before the next one."""

    GO = "go"
    SAVE = "save"
    STOP = "stop"


@dataclass(frozen=True)
class Position:
    """Where a process is in its run.

    Attributes:
        begun: newest step that it has begun.
        held: a step whose state is saved, if nothing after it can have been finished.
    """

    begun: int
    held: int | None

    @classmethod
    def parse(cls, text: str) -> "Position":
        """What `str` gives."""
        begun, held = text.split()
        return cls(int(begun), None if held == "-" else int(held))

    def __str__(self) -> str:
        return f"{self.begun} {'-' if self.held is None else self.held}"


def common_step(positions: list[Position]) -> int:
    """The step after which all processes stop or save.

    A step needs all processes. So while one is held, the others may have begun the next step but
    cannot finish it.
    """
    held = [position.held for position in positions if position.held is not None]
    return min(held) if held else max(position.begun for position in positions)


class Watch:
    """Watches over a run; the loop tells where it is and asks what is due.

    One that is not started hears of nothing, and saves by the clock in a single process only.
    """

    def __init__(self) -> None:
        """Before anything else; `start` makes it hear signals."""
        self._condition = threading.Condition()
        self._position = Position(0, 0)
        self._stop_after: int | None = None
        self._save_after: int | None = None
        self._ending = False
        self._before_end: Callable[[], None] = lambda: None
        self._peers: Peers | None = None
        self._alone = True
        self._told = 0  # how often to end
        self._saved_at = self._progress_at = time.monotonic()
        self._save_seconds = self._hang_seconds = 0.0
        self._thread: threading.Thread | None = None
        self._wakes: tuple[int, int] = (-1, -1)
        self._before: Any = signal.SIG_DFL

    # What the loop calls, in the main thread.

    def ending(self, before_end: Callable[[], None]) -> None:
        """What is to be done before the process ends, until `begin` says something else."""
        with self._condition:
            self._before_end = before_end

    def begin(
        self,
        step: int,
        before_end: Callable[[], None],
        *,
        alone: bool,
        checkpoint_minutes: float,
        hang_minutes: float,
    ) -> None:
        """The loop begins after a step.

        Args:
            step: the steps done, whose state is saved unless there are none.
            before_end: waits until what was saved is on disk; may run in another thread.
            alone: whether this is the only process.
            checkpoint_minutes: between two checkpoints, see `saved`; 0: no limit.
            hang_minutes: that a step may take, 0: any time.
        """
        with self._condition:
            self._end_here_if(self._ending)
            self._position = Position(step, step)
            self._before_end, self._alone = before_end, alone
            self._save_seconds, self._hang_seconds = 60 * checkpoint_minutes, 60 * hang_minutes
            self._saved_at = self._progress_at = time.monotonic()

    def wait_for(self, batch: Future[Any]) -> bool:
        """Waits for a batch; False: it is not needed, as the run stops before its step."""
        batch.add_done_callback(lambda _: self._notify())
        with self._condition:
            while not batch.done():
                self._end_here_if(self._ending)
                if self._stops():
                    return False
                self._condition.wait()
        return True

    def next_step(self) -> Due:
        """What is due before the next step; GO: the next step is begun."""
        with self._condition:
            self._end_here_if(self._ending)
            if self._peers is not None and self._peers.preempted_after(self._position.begun):
                self._stop_after = self._position.begun
            if self._stops():
                return Due.STOP
            begun, now = self._position.begun, time.monotonic()
            by_the_clock = self._alone and 0 < self._save_seconds <= now - self._saved_at
            if by_the_clock or self._save_after == begun:
                self._save_after = None
                return Due.SAVE
            self._position = Position(begun + 1, self._position.held)
            self._progress_at = now
            return Due.GO

    def release(self) -> None:
        """The first step was compiled and begun: from now on steps may be lost."""
        with self._condition:
            self._end_here_if(self._ending)
            self._position = Position(self._position.begun, None)

    def saved(self) -> None:
        """A checkpoint was written; from now on the clock counts to the next."""
        with self._condition:
            self._saved_at = self._progress_at = time.monotonic()

    def finish(self) -> None:
        """The loop is over: nothing hangs any more."""
        with self._condition:
            self._hang_seconds = 0.0

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Within, all that was computed is saved, and it may take as long as it likes.

        Raises:
            Exit: the run stops here.
        """
        with self._condition:
            self._end_here_if(self._ending)
            if self._stops():
                raise self.stopped()
            before, self._position = self._position, Position(*[self._position.begun] * 2)
            hang_seconds, self._hang_seconds = self._hang_seconds, 0.0
        try:
            yield
        finally:
            with self._condition:
                self._end_here_if(self._ending)
                self._position = before
                self._hang_seconds, self._progress_at = hang_seconds, time.monotonic()

    def stopped(self) -> Exit:
        """What to raise when all is saved."""
        step = self._position.begun if self._stop_after is None else self._stop_after
        done = f" after step {step}, which is saved" if step else ""
        return Exit(PREEMPTED, f"preempted (SIGTERM){done}; the same command continues")

    # What the command calls, in the main thread.

    def start(self) -> None:
        """Hears of SIGTERM from now on."""
        read, write = os.pipe()
        for end in (read, write):
            os.set_blocking(end, False)
        self._wakes = (read, write)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        # Python writes to the pipe, whatever the main thread does.
        self._before = signal.signal(signal.SIGTERM, _nothing)
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def meet(self, peers: Peers) -> None:
        """From now on there are other processes, and JAX has taken SIGTERM: takes it back."""
        with self._condition:
            self._peers = peers
        if self._thread is not None:
            signal.signal(signal.SIGTERM, _nothing)

    def close(self) -> None:
        """Hears of nothing any more."""
        if self._thread is None:
            return
        with self._condition:
            self._end_here_if(self._ending)
            thread, self._thread = self._thread, None
        # Its work is done; gone before the others, it would take them with it.
        signal.signal(signal.SIGTERM, self._before if self._peers is None else signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.write(self._wakes[1], b"\0")
        thread.join(2 * _POLL)  # it may be asking other processes, which are gone
        if not thread.is_alive():
            for end in self._wakes:
                os.close(end)

    # The thread.

    def _watch(self) -> None:
        while self._thread is not None:
            select.select([self._wakes[0]], [], [], _POLL)
            with suppress(BlockingIOError):
                self._told += os.read(self._wakes[0], 4096).count(signal.SIGTERM)
            if self._told > 1:
                os._exit(PREEMPTED)
            if self._peers is None:
                if self._told:
                    with self._condition:
                        self._stop(common_step([self._position]))
            else:
                self._agree(self._peers)
            self._end_if_it_hangs()

    def _agree(self, peers: Peers) -> None:
        """Asks the others to stop or to save, if that is due; does what somebody asked for."""
        if self._stop_after is None:
            if self._told:
                peers.ask(Due.STOP.value)
            elif peers.leads and self._clock_is_due():
                peers.ask(Due.SAVE.value)
        asked = peers.asked()
        if asked is None:
            return
        peers.meet()  # without the lock: others may come to it a second later
        with self._condition:
            positions = peers.exchange(str(self._position))
            if positions is None:
                return
            step = common_step([Position.parse(text) for text in positions])
            if asked == Due.STOP.value:
                self._stop(step)
            elif self._position.held is None and step >= self._position.begun:
                self._save_after = step  # else all have saved it already, before they evaluated

    def _stop(self, step: int) -> None:
        """Stops after a step: here, or where the loop asks next. The lock is held."""
        if self._stop_after is None:
            self._stop_after = step
        where = self._position
        if self._ending:
            return
        if where.held is not None or where.begun > self._stop_after:
            self._ending = True
            threading.Thread(target=self._end, name="end", daemon=True).start()
        self._condition.notify_all()

    def _end(self) -> None:
        """Ends the process, whatever the main thread does: what there is to save is saved."""
        end = self.stopped()
        try:
            self._before_end()
        except Exception as error:  # such as a full disk
            end = expected(error) or Exit(RESTART, f"error: {type(error).__name__}: {error}")
        say(end.line, file=sys.stderr)
        if self._peers is not None:
            self._peers.leave(end.status)
        os._exit(end.status)

    def _clock_is_due(self) -> bool:
        with self._condition:
            since = time.monotonic() - self._saved_at
            due = 0 < self._save_seconds <= since and self._save_after is None
            return due and self._position.held is None

    def _end_if_it_hangs(self) -> None:
        with self._condition:
            seconds = self._hang_seconds
            if not seconds or self._ending or time.monotonic() - self._progress_at < seconds:
                return
            step = self._position.begun
        faulthandler.dump_traceback(all_threads=True)
        say(
            f"error: step {step} or its batch hangs for {seconds / 60:g} minutes "
            "(config.hang_minutes), the stacks are above; the same command continues from the "
            "last checkpoint",
            file=sys.stderr,
        )
        os._exit(RESTART)

    def _notify(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def _stops(self) -> bool:
        return self._stop_after is not None and self._stop_after <= self._position.begun

    def _end_here_if(self, ending: bool) -> None:
        """Waits for the end, which another thread brings. The lock is held."""
        while ending:
            self._condition.wait()


def _nothing(*_: object) -> None:
    """Handles SIGTERM: the thread that reads the pipe does the rest."""
