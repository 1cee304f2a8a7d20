"""Where the time of a run went, over all its starts: time.jsonl, its goodput and its state.

Rows are appended and never changed, so a process that is killed leaves what it wrote:

    start     a process opened the run: host, pid, and when that process was born
    begin     the loop goes on after `step`; `heard`: when the process before was last heard of
    beat      every minute
    saved     the state after `step` is on its way to the disk
    evaluated the evaluation of `step` is written
    end       `state`: finished, preempted, interrupted or failed; `step` if nothing is lost

All have `at`, seconds since 1970, and all but the first `seconds` by cause, since the start.
No JAX here: `exif-jax runs` reads hundreds of runs in a moment.
"""

import contextlib
import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from data_pipelines.command_line import expected
from data_pipelines.early_signals import INTERRUPTED, PREEMPTED
from data_pipelines.files import append_text, read_json_lines, reading, write_json_lines

TIME_FILE: Final = "time.jsonl"
BEAT_SECONDS: Final = 60.0
# Causes of the time of a process; `lost` and `down` follow from what came after it.
CAUSES: Final = (
    *("train", "wait", "compile", "restore", "save", "evaluate", "start"),
    *("lost", "down"),
)
_REDONE: Final = ("train", "wait", "save", "evaluate")  # what a step that is done again took
_KEPT: Final = ("begin", "saved", "evaluated", "end")  # with a step, all before them is kept
_SILENT_SECONDS: Final = 3 * BEAT_SECONDS  # after which one of another host is taken for dead

Row = dict[str, Any]


def record_start(workdir: Path) -> None:
    """A process opens the run."""
    path = workdir / TIME_FILE
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        write_json_lines(path, read_json_lines(path))  # without a line that a crash tore
    host, pid = socket.gethostname(), os.getpid()
    _append(workdir, "start", {"host": host, "pid": pid, "born": _born(pid)})


def opened(workdir: Path, writes: bool) -> float:
    """Seconds since this process opened the run, which it does now if it has not."""
    rows = read_timeline(workdir) if writes else []
    if rows and rows[-1]["event"] == "start" and _is_mine(rows[-1]):
        return max(0.0, time.time() - float(rows[-1]["at"]))
    if writes:
        workdir.mkdir(parents=True, exist_ok=True)
        record_start(workdir)
    return 0.0


def identity_of(rows: Sequence[Row]) -> str:
    """A name for the run that no other has, wherever it lies."""
    return hashlib.sha256(json.dumps(rows[:1]).encode()).hexdigest()[:16]


def record_end(workdir: Path, error: BaseException | None) -> None:
    """This process is done with the run, unless that is recorded, or it never opened it."""
    with contextlib.suppress(Exception):  # the disk may be what failed
        rows = read_timeline(workdir)
        if rows and rows[-1]["event"] != "end" and _is_mine(_parts(rows)[-1][0]):
            _append(workdir, "end", end_of(error))


def end_of(error: BaseException | None) -> Row:
    """What an end says of what raised it."""
    if error is None:
        return {"state": "finished"}
    end = expected(error)
    status = None if end is None else end.status
    state = {INTERRUPTED: "interrupted", PREEMPTED: "preempted"}.get(status or 0, "failed")
    line = f"{type(error).__name__}: {error}" if end is None else end.line
    return {"state": state, "error": line[:500]} if state == "failed" else {"state": state}


class Timeline:
    """The part of this process; it appends only where it is told to."""

    def __init__(
        self, workdir: Path, read: Callable[[], Mapping[str, float]], writes: bool
    ) -> None:
        """Goes on where `record_start` began.

        Args:
            workdir: of the run.
            read: gives the seconds by cause since then.
            writes: whether this is the process that does.
        """
        self.workdir, self._read, self._writes = workdir, read, writes
        self._done, self._stop, self._lock = False, threading.Event(), threading.Lock()
        self._kept: int | None = None
        self.begun = False  # whether there was anything left to do

    def begin(self, step: int) -> None:
        """The loop begins after a step; from now on it beats."""
        self.begun = True
        if self._writes:
            self.add("begin", step, heard=_heard(self.workdir))
            threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def add(self, event: str, step: int | None = None, **facts: Any) -> None:
        """Appends a row."""
        with self._lock:
            if self._writes and not self._done:
                seconds = {cause: round(x, 3) for cause, x in self._read().items() if x}
                of_step = {} if step is None else {"step": step}
                self._kept = self._kept if step is None else step
                _append(self.workdir, event, of_step | facts | {"seconds": seconds})

    def end(self, error: BaseException | None) -> str | None:
        """Appends the end, after which nothing comes; gives the state, None if it has ended."""
        self._stop.set()
        facts = end_of(error)
        saved = facts["state"] in ("finished", "preempted")
        with contextlib.suppress(OSError):  # the disk may be what failed
            self.add("end", self._kept if saved else None, **facts)
        with self._lock:
            before, self._done = self._done, True
        return None if before else str(facts["state"])

    def _beat(self) -> None:
        with contextlib.suppress(OSError):  # the loop will say it
            while not self._stop.wait(BEAT_SECONDS):
                self.add("beat")


def read_timeline(workdir: Path) -> list[Row]:
    """The rows of a run; none if it has not begun, or began before there were any.

    Raises:
        UserError: the file is damaged.
    """
    path = workdir / TIME_FILE
    rows = read_json_lines(path)
    with reading(path, "delete it: only the account of time goes with it"):
        for row in rows:
            numbers = [row["at"], row.get("step", 0), row.get("heard") or 0]
            numbers += row.get("seconds", {}).values()
            if not all(isinstance(x, int | float) for x in numbers):
                raise ValueError("no number where one belongs")
            if not all(isinstance(row.get(name, ""), str) for name in ("event", "state", "error")):
                raise ValueError("no text where one belongs")
            if "event" not in row:
                raise ValueError("no event")
    if rows and rows[0]["event"] != "start":
        rows = [{**rows[0], "event": "start"}, *rows]
    return rows


def state_of(rows: Sequence[Row]) -> str:
    """running, finished, preempted, failed, or interrupted: by Ctrl-C, or without a word."""
    last = _parts(rows)[-1] if rows else []
    if not last:
        return "interrupted"
    if last[-1]["event"] == "end":
        return str(last[-1].get("state"))
    return "running" if _is_alive(last) else "interrupted"


def seconds_by_cause(rows: Sequence[Row]) -> dict[str, float]:
    """Where the time since the first start went; the time of a finished run does not count on.

    What `train`, `wait`, `save` and `evaluate` took is `lost` if a later start did it again.
    `down` is between the death or end of a process and the next start.
    """
    total = dict.fromkeys(CAUSES, 0.0)
    # Seconds by cause between two rows, and the step whose state the second one keeps.
    spans: list[tuple[int | None, dict[str, float]]] = []
    before: list[Row] = []
    for part in _parts(rows):
        finished = bool(before) and before[-1].get("state") == "finished"
        if finished and not part[-1].get("seconds", {}).get("train"):
            continue  # looked at again: nothing was left to do
        if before and not finished:
            heard = _last_heard(before, part)
            spans.append((None, {"train": heard - before[-1]["at"]}))
            total["down"] += max(0.0, part[0]["at"] - heard)
        known: dict[str, float] = {}
        for row in part:
            if row["event"] == "begin":
                total["lost"] += _lose(spans, row.get("step", 0))
            now = row.get("seconds", known)
            span = {cause: seconds - known.get(cause, 0.0) for cause, seconds in now.items()}
            spans.append((row.get("step") if row["event"] in _KEPT else None, span))
            known = now
        before = part
    for _, span in spans:
        for cause in span.keys() & total.keys():
            total[cause] += span[cause]
    return {cause: max(0.0, seconds) for cause, seconds in total.items()}


def goodput(seconds: Mapping[str, float]) -> float | None:
    """The share of all time that training took, without what was lost; None: no time yet."""
    whole = sum(seconds.values())
    return seconds["train"] / whole if whole and seconds["train"] else None


def in_words(seconds: Mapping[str, float]) -> str:
    """One line, such as "goodput 91.2% of 2.31 h: train 91.2%, compile 5.0%, evaluate 3.8%"."""
    whole = sum(seconds.values()) or 1.0
    unit, name = (3600, "h") if whole >= 3600 else (60, "min") if whole >= 60 else (1, "s")
    shares = (f"{c} {x / whole:.1%}" for c, x in seconds.items() if x / whole >= 0.0005)
    return f"goodput {goodput(seconds) or 0:.1%} of {whole / unit:.3g} {name}: {', '.join(shares)}"


def _lose(spans: list[tuple[int | None, dict[str, float]]], step: int) -> float:
    """Empties the spans after the last one that a start after a step keeps; their seconds."""
    lost = 0.0
    for mark, span in reversed(spans):
        if mark is not None and mark <= step:
            break
        lost += sum(span.pop(cause, 0.0) for cause in _REDONE)
    return lost


def _last_heard(part: Sequence[Row], following: Sequence[Row]) -> float:
    """When the process of a part was last heard of: by its rows, or by what it wrote besides."""
    at = float(part[-1]["at"])
    if part[-1]["event"] == "end":
        return at
    heard = float(following[1].get("heard") or at) if len(following) > 1 else at
    return min(max(at, heard), at + BEAT_SECONDS, float(following[0]["at"]))


def _heard(workdir: Path) -> float | None:
    """When the metrics were last written, before the loop drops what it will write again."""
    try:
        return round((workdir / "metrics.jsonl").stat().st_mtime, 3)
    except OSError:
        return None


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    parts: list[list[Row]] = []
    for row in rows:
        if row["event"] == "start":
            parts.append([])
        parts[-1].append(row)
    return parts


def _append(workdir: Path, event: str, facts: Row) -> None:
    row = {"at": round(time.time(), 3), "event": event, **facts}
    append_text(workdir / TIME_FILE, json.dumps(row) + "\n")


def _is_mine(start: Row) -> bool:
    here = (socket.gethostname(), os.getpid(), _born(os.getpid()))
    return (start.get("host"), start.get("pid"), start.get("born")) == here


def _is_alive(part: Sequence[Row]) -> bool:
    start = part[0]
    if start.get("host") != socket.gethostname():
        return time.time() - float(part[-1]["at"]) < _SILENT_SECONDS
    pid = start.get("pid")
    return isinstance(pid, int) and _exists(pid) and _born(pid) == start.get("born")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _born(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None where Linux is not.

    Numbers of processes come again, and those of containers are small.
    """
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
