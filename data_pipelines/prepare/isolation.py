"""Reading photos in a child process that may hang, eat memory or die without harm.

Decoders of damaged files have bugs that no `except` catches. A child process reads one file at a
time within limits on memory (set by itself) and time (kept here); if it does not come back, it is
replaced and the file is rejected with that reason.
"""

import dataclasses
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import IO, Final

from data_pipelines.prepare.items import Item
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import Photo, Reject, photo_from_json
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.prepare.worker import READY

COMMAND: Final = (sys.executable, "-m", "data_pipelines.prepare.worker")
_START_SECONDS: Final = 300.0  # importing from a slow disk, with many other processes
_PIECE: Final = 2**20
# A child's own threads would only take the cores from the other children, and address space.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class _ChildDied(Exception):
    """The child closed its pipe."""


class GuardedReader:
    """Reads photos in a child process; a context manager.

    Args:
      options: Limits, and what `read_photo` needs.
      command: Of the child.
    """

    def __init__(self, options: Options, command: Sequence[str] = COMMAND) -> None:
        self._options = options
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._pending = bytearray()

    def __enter__(self) -> "GuardedReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        self._pending = bytearray()

    def read(self, item: Item, sidecar: Entry | None = None) -> Photo | Reject:
        """Reads one file; never raises on a bad one.

        Returns:
          What `read_photo` gives, or a reject "timed_out", "out_of_memory" or "crashed".

        Raises:
          RuntimeError: The child cannot be started at all.
        """
        request = {
            "item": dataclasses.asdict(item),
            "sidecar": sidecar and dataclasses.asdict(sidecar),
        }
        line = json.dumps(request).encode() + b"\n"
        try:
            self._send(line)
        except _ChildDied:  # it died while idle, which is not this file's fault
            self.close()
            self._send(line)
        seconds = self._options.seconds_per_file
        deadline = time.monotonic() + seconds
        try:
            answer = json.loads(self._read_line(deadline))
            body = self._read_bytes(sum(answer.get("photo", {}).get("windows", ())), deadline)
        except TimeoutError:
            self.close()
            return Reject("timed_out", f"not read within {seconds:g} seconds")
        except _ChildDied:
            detail = self._last_words()
            self.close()
            memory = "MemoryError" in detail
            return Reject("out_of_memory" if memory else "crashed", detail)
        if "photo" in answer:
            return photo_from_json(answer["photo"], body)
        reject = Reject(**answer["reject"])
        if reject.reason == "out_of_memory":
            self.close()  # what is left of its memory may be in pieces
        return reject

    def _send(self, line: bytes) -> None:
        child = self._child or self._start()
        assert child.stdin is not None
        try:
            child.stdin.write(line)
            child.stdin.flush()
        except BrokenPipeError as error:
            raise _ChildDied from error

    def _start(self) -> "subprocess.Popen[bytes]":
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the child)
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **_ENVIRONMENT},
        )
        try:
            self._send(json.dumps({"options": self._options.to_json()}).encode() + b"\n")
            ready = self._read_line(time.monotonic() + _START_SECONDS)
        except (_ChildDied, TimeoutError) as error:
            detail = self._last_words()
            self.close()
            raise RuntimeError(f"the process that reads photos does not start: {detail}") from error
        assert ready + b"\n" == READY
        return self._child

    def _last_words(self) -> str:
        """Says how the child ended, for the list of rejected files."""
        assert self._child is not None
        assert self._errors is not None
        try:
            status = self._child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its process closed the connection"
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 4096))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        ending = f"signal {-status}" if status < 0 else f"status {status}"
        return f"its process ended with {ending}" + (f": {last[:200]}" if last else "")

    def _receive(self, deadline: float) -> None:
        """Adds what the child wrote to the pending bytes."""
        assert self._child is not None
        assert self._child.stdout is not None
        pipe = self._child.stdout.fileno()
        poll = select.poll()
        poll.register(pipe, select.POLLIN | select.POLLHUP)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(pipe, _PIECE)
        if not piece:
            raise _ChildDied
        self._pending += piece

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._pending:
            self._receive(deadline)
        end = self._pending.index(b"\n")
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        return line

    def _read_bytes(self, size: int, deadline: float) -> bytes:
        while len(self._pending) < size:
            self._receive(deadline)
        body = bytes(self._pending[:size])
        del self._pending[:size]
        return body
