"""Ctrl-C at any call of a command that runs in this process: the same moment every time."""

import functools
import logging
import signal
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

from numpy.random import Generator

from exif_jax.cli import __main__ as cli
from tests.fuzzing.commands import COMMANDS, left_by, unfinished
from tests.fuzzing.target import Case, FoundError, Target, run_command

# Of training most happens in libraries, of a sweep in other processes: see `processes`.
_COMMANDS = ("prepare", "tags", "eval", "detect", "convert")


def make(rng: Generator) -> Case:
    """A command, and after which share of its calls of functions it is interrupted."""
    command = _COMMANDS[int(rng.integers(len(_COMMANDS)))]
    return {"command": command.encode(), "share": f"{rng.uniform():.6f}".encode()}


def run(case: Case, folder: Path) -> str:
    """Interrupts the command, and starts it again: the same result as without."""
    # What a shell starts in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = case["command"].decode()
    calls, wanted = _uninterrupted(command)
    out = folder / "out"
    status, _ = _run(command, out, int(float(case["share"]) * calls))
    if status not in (0, 130):
        raise FoundError(f"{command}: status {status} after an interruption")
    # One that does not go on says that its output is there, if it was interrupted at its end.
    is_over = not status or (command == "convert" and left_by(out) == wanted)
    if not is_over and (again := _run(command, out)[0]):
        raise FoundError(f"{command}: status {again} when it goes on")
    left = left_by(out)
    if differing := [k for k in wanted | left if wanted.get(k) != left.get(k)]:
        raise FoundError(f"{command}: another result after an interruption: {differing}")
    if more := unfinished(out):
        raise FoundError(f"{command}: left half-made: {more}")
    return f"{command}: {'interrupted' if status else 'ended before'}"


@functools.cache
def _uninterrupted(command: str) -> tuple[int, dict[str, Any]]:
    """Number of calls of a command, and what it leaves; the second time, as the first imports."""
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            status, calls = _run(command, Path(folder) / "out")
            if status:
                raise FoundError(f"{command}: status {status} without an interruption")
            left = left_by(Path(folder) / "out")
    return calls, left


def _run(command: str, out: Path, interrupt_at: int | None = None) -> tuple[int, int]:
    """Status, and number of calls; the signal comes at one of them."""
    calls = 0

    def count(frame: types.FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call":
            calls += 1
            if calls == interrupt_at:
                signal.raise_signal(signal.SIGINT)

    def main(words: Any) -> int:
        sys.setprofile(count)
        try:
            return cli.main(words)
        finally:
            sys.setprofile(None)

    try:
        status, _, _ = run_command(main, COMMANDS[command](out))
    finally:
        for package in ("exif_jax", "data_pipelines", "configs"):  # that wrote to this run
            logging.getLogger(package).handlers.clear()
    return status, calls


TARGET = Target(make, run, cases=3, seconds=240.0, can_shrink=False)
