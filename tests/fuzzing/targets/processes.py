"""Real commands in processes of their own, sent Ctrl-C or SIGTERM at random moments."""

import contextlib
import functools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from numpy.random import Generator

from tests.fuzzing.commands import COMMANDS, left_by, unfinished
from tests.fuzzing.target import ROOT, Case, FoundError, Target, check_said

_SIGNALS = {"SIGINT": (130, -signal.SIGINT), "SIGTERM": (143, -signal.SIGTERM)}
_LIMIT = 600.0  # seconds of any command
_PYTHONS_OWN = 0.08  # seconds of CPU until Python itself has started, whose traces are not ours


def make(rng: Generator) -> Case:
    """A command, and up to five moments as shares of the work that it does, each with a signal.

    One in four is a SIGTERM, as schedulers send it.
    """
    moments = [
        (round(float(rng.uniform(0.0, 0.9)), 4), "SIGTERM" if rng.integers(4) == 0 else "SIGINT")
        for _ in range(int(rng.integers(1, 6)))
    ]
    command = list(COMMANDS)[int(rng.integers(len(COMMANDS)))]
    return {"command": command.encode(), "moments": json.dumps(moments).encode()}


def run(case: Case, folder: Path) -> Counter[str]:
    """Interrupts a command and starts it again until it ends: the same as without."""
    # What a shell starts in the background ignores it, and so would those that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command, out = case["command"].decode(), folder / "out"
    seconds, wanted = _uninterrupted(command)
    outcomes: Counter[str] = Counter()
    for share, name in json.loads(case["moments"]):
        after = _PYTHONS_OWN + share * max(0.0, seconds - _PYTHONS_OWN)
        status, said = _start(command, out, after=after, name=name)
        if status == 0:
            outcomes[f"{command}: ended before"] += 1
            break
        if status not in _SIGNALS[name]:
            raise FoundError(f"{command}: status {status} after {name}: {said}")
        if status > 0 or any(said):
            check_said(130 if status == 130 else 1, *said)
        outcomes[f"{command}: {name}"] += 1
    else:
        # One that does not go on says that its output is there, if it was interrupted at its end.
        if command != "convert" or left_by(out) != wanted:
            status, said = _start(command, out)
            if status != 0:
                raise FoundError(f"{command}: status {status} when it goes on: {said}")
            check_said(status, *said)
    left = left_by(out)
    if differing := [k for k in wanted | left if wanted.get(k) != left.get(k)]:
        raise FoundError(f"{command}: another result after an interruption: {differing}")
    if more := unfinished(out):
        raise FoundError(f"{command}: left half-made: {more}")
    return outcomes


@functools.cache
def _uninterrupted(command: str) -> tuple[float, dict[str, Any]]:
    """Seconds of CPU that a command takes, all being compiled, and what it leaves."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as folder:
        _start(command, Path(first) / "out")
        out = Path(folder) / "out"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        status, said = _start(command, out)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if status != 0:
            raise FoundError(f"{command}: status {status} without an interruption: {said}")
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, left_by(out)


def _start(
    command: str, out: Path, after: float | None = None, name: str = "SIGINT"
) -> tuple[int, tuple[str, str]]:
    """Runs a command to its end; `after` so many seconds of CPU it gets a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exif_jax.cli", *COMMANDS[command](out)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        if after is not None:
            # Not by the clock, so that it is the same on a busy machine.
            while process.poll() is None and _used(process.pid) < after:
                time.sleep(0.02)
            if process.poll() is None and name == "SIGINT":  # a terminal sends it to all
                os.killpg(process.pid, signal.SIGINT)
            elif process.poll() is None:
                process.send_signal(signal.SIGTERM)
        try:
            said = process.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired as error:
            raise FoundError(f"{command}: hangs after {name}") from error
        return process.returncode, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _used(session: int) -> float:
    """Seconds of CPU that the processes of a session took, those that ended among them."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(
                    map(int, fields[11:15] if int(fields[2]) == session else fields[11:13])
                )
    return ticks / os.sysconf("SC_CLK_TCK")


TARGET = Target(make, run, cases=0, seconds=4 * _LIMIT, can_shrink=False)
