"""The processes of a run: how they meet, agree, leave together, and hear that one has died.

Everything goes over the key-value store and the heartbeats that JAX's processes have anyway.
"""

import contextlib
import ctypes
import io
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from typing import Any, Final

import jax
from jax.experimental import multihost_utils

from data_pipelines.command_line import Exit, expected
from data_pipelines.early_signals import RESTART
from data_pipelines.errors import UserError

HEARTBEAT_SECONDS: Final = 20  # a process that is not heard of for so long has died
_LEAVING_SECONDS: Final = 15  # that process 0, by whom the others hear of each other, waits
_MEETING_SECONDS: Final = 60
_HELD_BACK: Final = 1.0  # seconds
_FATAL: Final = b"the JAX distributed service detected fatal errors"
_ROOT: Final = "exif_jax"


def join(address: str | None, processes: int | None, process: int | None) -> "Peers":
    """Joins the other processes; what is None, the cluster tells.

    Raises:
        UserError: they cannot be reached.
    """
    try:
        jax.distributed.initialize(
            address, processes, process, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the processes of this run do not meet: {reason}") from error
    return Peers()


class Peers:
    """The other processes, in rounds: one asks, all meet, all tell where they are."""

    def __init__(self) -> None:
        """After `jax.distributed.initialize`."""
        from jax._src import distributed  # as Orbax does: JAX has no other way to it

        self._client: Any = distributed.global_state.client
        self._index: int = distributed.global_state.process_id
        self._count: int = distributed.global_state.num_processes
        self._round = 0
        self._words = LastWords()

    @property
    def leads(self) -> bool:
        """Whether this is the process whose clock counts."""
        return self._index == 0

    def ask(self, what: str) -> None:
        """Asks all for something in this round, unless another has asked before."""
        with contextlib.suppress(Exception):  # it exists, or process 0 is gone
            self._client.key_value_set(self._key("asked"), what)

    def asked(self) -> str | None:
        """What somebody asked for in this round."""
        try:
            return str(self._client.key_value_try_get(self._key("asked")))
        except Exception:  # nothing, or process 0 is gone
            return None

    def meet(self) -> None:
        """Waits until all have heard of it."""
        with contextlib.suppress(Exception):  # `exchange` will fail, too
            self._client.wait_at_barrier(self._key("heard"), 1000 * _MEETING_SECONDS)

    def exchange(self, mine: str) -> list[str] | None:
        """What every process tells, the same everywhere; None if one is gone.

        Ends the round.
        """
        told = self._key("told")
        try:
            self._client.key_value_set(f"{told}/{self._index}", mine)
            self._client.wait_at_barrier(told, 1000 * _MEETING_SECONDS)
            return [str(text) for _, text in self._client.key_value_dir_get(told)]
        except Exception:
            return None
        finally:
            self._round += 1

    def preempted_after(self, step: int) -> bool:
        """Whether JAX was told, and not we, that a machine goes, and all agreed on this step.

        To be asked after every step: JAX counts by it.
        """
        return bool(multihost_utils.reached_preemption_sync_point(step))

    def leave(self, status: int) -> None:
        """Right before a process ends by itself; process 0 goes last, as all hear by it.

        Args:
            status: with which it ends.
        """
        self._words.leaving = status
        with contextlib.suppress(Exception):
            self._client.key_value_set(f"{_ROOT}/left/{self._index}", str(status))
            end = time.monotonic() + _LEAVING_SECONDS
            while self.leads and time.monotonic() < end:
                if len(self._client.key_value_dir_get(f"{_ROOT}/left")) == self._count:
                    return
                time.sleep(0.05)

    def exit_of(self, error: BaseException) -> Exit:
        """How this process ends by an error of its own, without the others.

        What no one expected may be a collective that failed as another process died: until that is
        certain it waits, and ends meanwhile, by `LastWords`, if it is so.
        """
        end = expected(error)
        if end is None:
            time.sleep(1.5 * HEARTBEAT_SECONDS)
            traceback.print_exception(error)
            end = Exit(1, "error: the stack trace is above; the other processes end, too")
        return Exit(end.status, end.line, lambda: self.leave(end.status))

    def _key(self, name: str) -> str:
        return f"{_ROOT}/{self._round}/{name}"


class LastWords:
    """Standard error of C++, shown a second late; what JAX says when another process died is not.

    JAX then aborts this process, after a trace of C++ and from a thread of its own, and has no
    other way to tell. Here that becomes one line and the status `RESTART`.
    """

    def __init__(self) -> None:
        """From now on."""
        self.leaving: int | None = None  # with what status this process is ending by itself
        self._lock, self._held = threading.Lock(), b""
        self._terminal = os.dup(2)
        self._read, write = os.pipe()
        os.dup2(write, 2)
        os.close(write)
        os.set_blocking(self._read, False)
        before = sys.stderr
        sys.stderr = io.TextIOWrapper(
            open(self._terminal, "wb", buffering=0, closefd=False),  # noqa: SIM115
            encoding=before.encoding,
            errors="backslashreplace",
            write_through=True,
        )
        self._on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._abort)
        ctypes.CDLL(None).signal(int(signal.SIGABRT), self._on_abort)
        threading.Thread(target=self._forward, name="standard error", daemon=True).start()

    def _forward(self) -> None:
        while True:
            select.select([self._read], [], [])
            time.sleep(_HELD_BACK)  # meanwhile comes what JAX says next
            with self._lock:
                self._held += self._rest()
                if _FATAL not in self._held:  # else it aborts, when it has traced its stack
                    self._write(self._held)
                    self._held = b""

    def _rest(self) -> bytes:
        parts = []
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._read, 65536):
                parts.append(part)
        return b"".join(parts)

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            while text:
                text = text[os.write(self._terminal, text) :]

    def _abort(self, number: int) -> None:
        """In the thread that aborts; when it returns, the process dies of it."""
        if self.leaving is not None:
            os._exit(self.leaving)
        with self._lock:
            self._held += self._rest()
            if _FATAL in self._held:
                self._write(f"error: {_who(self._held)}\n".encode())
                os._exit(RESTART)
            self._write(self._held)


def _who(text: bytes) -> str:
    """One line for what JAX says of the process that died."""
    found = re.search(rb"stopped sending heartbeats\):\s*([\d,\s]+)", text)
    if found:
        names = ", ".join(found[1].decode().replace(",", " ").split())
        who = f"process {names} of this run died or cannot be reached"
    elif b"leader" in text:
        who = "process 0 of this run died or cannot be reached"
    else:
        who = "another process of this run died or cannot be reached"
    return f"{who}; start all again: the same command continues from the last checkpoint"
