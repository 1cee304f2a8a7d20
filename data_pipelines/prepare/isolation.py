"""Reading photos in a child process that may hang, eat memory or die without harm.

Decoders of damaged files have bugs that no `except` catches. A child process reads one file at a
time within limits on memory (set by itself) and time (kept here); if it does not come back, it is
replaced and the file is rejected with that reason. What it says is JSON and bytes of bounded
length: a pool of `multiprocessing` or of pebble would unpickle it, and so run in this process what
a file made the child say.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

from data_pipelines.items import Item
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import PreparedPhoto, Reject, from_row, sizes_of_windows
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.prepare.worker import READY

COMMAND: Final = (sys.executable, "-m", "data_pipelines.prepare.worker")
_START_SECONDS: Final = 300.0  # importing from a slow disk, with many other processes
_MAX_LINE: Final = 2**22
_MAX_WINDOW: Final = 2**20  # bytes; raw pixels have a fifth of it
# A child's own threads would only take the cores from the other children, and address space.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class GuardedReader:
    """Reads photos in a child process; a context manager.

    Args:
        options: limits, and what `read_photo` needs.
        command: of the child.
    """

    def __init__(self, options: Options, command: Sequence[str] = COMMAND) -> None:
        self._options = options
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this object)

    def __enter__(self) -> "GuardedReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
        self._errors.close()

    def interrupt(self) -> None:
        """Kills the child under a `read` of another thread, which then returns a reject."""
        if self._child is not None:
            self._child.kill()

    def close(self) -> None:
        """Ends the child; the next `read` starts another."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def read(self, item: Item, sidecar: Entry | None = None) -> PreparedPhoto | Reject:
        """Reads one file; never raises on a bad one.

        Returns:
            What `read_photo` gives, or a reject "timed_out", "out_of_memory" or "crashed".

        Raises:
            RuntimeError: the child cannot be started at all.
        """
        request = {
            "item": dataclasses.asdict(item),
            "sidecar": sidecar and dataclasses.asdict(sidecar),
        }
        try:
            child = self._asked(request)
        except BrokenPipeError:  # it died while idle, which is not this file's fault
            self.close()
            child = self._asked(request)
        seconds = self._options.seconds_per_file
        with _killing(child, seconds) as expired:
            try:
                result = self._answer(child)
            except Exception:  # it ended, or what it says makes no sense
                result = None
        if result is None:
            result = Reject("timed_out", f"not read within {seconds:g} seconds")
            if not expired.is_set():
                detail = self._last_words(child)
                result = Reject("out_of_memory" if "MemoryError" in detail else "crashed", detail)
            self.close()
        elif expired.is_set() or (isinstance(result, Reject) and result.reason == "out_of_memory"):
            self.close()  # killed as it answered, or what is left of its memory may be in pieces
        return result

    def _asked(self, request: dict[str, Any]) -> "subprocess.Popen[bytes]":
        child = self._child or self._start()
        _send(child, request)
        return child

    def _answer(self, child: "subprocess.Popen[bytes]") -> PreparedPhoto | Reject:
        assert child.stdout is not None
        row = json.loads(child.stdout.readline(_MAX_LINE))
        size = sum(sizes_of_windows(row))
        if not 0 <= size <= _MAX_WINDOW * self._options.windows_per_photo:
            raise ValueError("no photo has so large windows")
        windows = child.stdout.read(size)
        if len(windows) < size:
            raise EOFError
        return from_row(row, windows)

    def _start(self) -> "subprocess.Popen[bytes]":
        self._errors.seek(0)
        self._errors.truncate()
        self._child = child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ENVIRONMENT},
        )
        assert child.stdout is not None
        with _killing(child, _START_SECONDS), contextlib.suppress(BrokenPipeError):
            _send(child, {"options": self._options.to_json()})
            if child.stdout.readline(_MAX_LINE) == READY:
                return child
        detail = self._last_words(child)
        self.close()
        raise RuntimeError(f"the process that reads photos does not start: {detail}")

    def _last_words(self, child: "subprocess.Popen[bytes]") -> str:
        """Says how the child ended, for the list of rejected files."""
        try:
            status = child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its process closed the connection, or said what makes no sense"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4096))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        ending = f"signal {-status}" if status < 0 else f"status {status}"
        return f"its process ended with {ending}" + (f": {last[:200]}" if last else "")


def _send(child: "subprocess.Popen[bytes]", message: dict[str, Any]) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(message).encode() + b"\n")
    child.stdin.flush()


@contextlib.contextmanager
def _killing(child: "subprocess.Popen[bytes]", seconds: float) -> Iterator[threading.Event]:
    """Kills a child unless the block ends within some seconds; the event tells whether it did."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        child.kill()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()
