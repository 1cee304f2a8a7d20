"""What all benchmarks measure with: turns, memory, the machine, and reports of plain rows.

What is compared takes turns within one run and is divided turn by turn, so that other load on the
machine disturbs the ratios little.
"""

import argparse
import contextlib
import datetime
import os
import platform
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.files import write_json, write_text
from data_pipelines.storage import local_path

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "pillow", "numpy", "scikit-learn")


def progress(text: str) -> None:
    """Tells what is being done."""
    print(text, file=sys.stderr, flush=True)


def take_turns(
    tasks: Mapping[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, np.ndarray]:
    """Seconds of every turn of every task, after one turn each that does not count.

    With `time.process_time` as the clock, those of all cores together.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            start = clock()
            jax.block_until_ready(task())
            if turn:
                seconds[name].append(clock() - start)
    return {name: np.array(values) for name, values in seconds.items()}


@contextlib.contextmanager
def peak_memory(pid: int, field: str = "VmHWM", every: float = 0.02) -> Iterator[dict[int, int]]:
    """Watches a process and all below it while a `with` lasts, by samples from /proc.

    Args:
        pid: of the process.
        field: of /proc/PID/status. `VmHWM` is the kernel's own peak, libraries included, so only
            growth in the last moment before a process ends is missed; `RssAnon` is memory that is
            no pages of files, of the moment.
        every: seconds between samples.

    Yields:
        Peaks in bytes by process id, the first one's first; empty where the system does not tell.
    """
    peaks: dict[int, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every):
            _look(peaks, field, pid)

    _look(peaks, field, pid)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        over.set()
        watcher.join()
        _look(peaks, field, pid)


def _look(peaks: dict[int, int], field: str, pid: int, parent: bytes = b"") -> None:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if command == parent:
            return  # not started yet: it still has its parent's memory
        status = Path(f"/proc/{pid}/status").read_text()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:  # it has ended
        return
    if found := re.search(rf"{field}:\s*(\d+) kB", status):
        peaks[pid] = max(peaks.get(pid, 0), 1024 * int(found[1]))
    for child in children:
        _look(peaks, field, child, command)


def shown(value: Any) -> str:
    """Text of a cell: of what was measured several times the median (lowest - highest)."""
    if isinstance(value, np.ndarray):
        numbers = (np.median(value), value.min(), value.max())
        text, *ends = (f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}" for x in numbers)
        return f"{text} ({ends[0]} - {ends[1]})" if value.size > 1 else text
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def table(rows: Sequence[Row]) -> str:
    """Rows in Markdown that also reads well on a terminal; columns are all keys, as they come."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    cells = [header, *([shown(row.get(name, "-")) for name in header] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def describe_machine() -> dict[str, Any]:
    """Device, processor, load by others, date and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        cpu = found[1].strip()
    device = jax.devices()[0]
    return {
        "device": f"{cpu} {os.cpu_count()} cores"
        if device.platform == "cpu"
        else device.device_kind,
        "devices": jax.device_count(),
        "platform": device.platform,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def command_line(doc: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has; `doc` is the module's docstring."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check the script")
    parser.add_argument(
        "--out",
        type=local_path,
        default=Path(__file__).parent / "results",
        help="folder of results",
    )
    return parser


def real_photos(parser: argparse.ArgumentParser) -> None:
    """Adds the option that says where real photos are, beside the project by default."""
    parser.add_argument(
        "--data",
        type=local_path,
        default=Path(__file__).resolve().parents[2] / "shared" / "data" / "dev",
        help="folder of real photos: windows of 256x256 in photos/, whole ones in full/photos/",
    )


class Report:
    """What a benchmark found; printed, and written anew, with every table that is added.

    Attributes:
        machine: from `describe_machine`.
        sizes: how much is measured here, an attribute for each name.
    """

    def __init__(
        self,
        name: str,
        options: argparse.Namespace,
        sizes: Mapping[str, tuple[Any, ...]],
        *remarks: str,
    ) -> None:
        """Looks at the machine.

        Args:
            name: of the script and of the files, NAME_DEVICE.md and .json.
            options: from `command_line`.
            sizes: name -> on a CPU, on an accelerator, with --quick.
            remarks: before the tables.
        """
        self.machine = machine = describe_machine()
        kind = 2 if options.quick else int(machine["platform"] != "cpu")
        self.sizes = types.SimpleNamespace(**{key: value[kind] for key, value in sizes.items()})
        slug = re.sub(r"[^a-z0-9]+", "_", machine["device"].lower()).strip("_")
        self._path = options.out / f"{name}_{slug}"
        self._quick = options.quick
        self._tables: dict[str, list[dict[str, Any]]] = {}
        versions = ", ".join(f"{key} {number}" for key, number in machine["versions"].items())
        self._parts = [
            f"# `python benchmarks/{name}.py`",
            *["QUICK CHECK OF THE SCRIPT: THE NUMBERS MEAN NOTHING."] * options.quick,
            f"{machine['device']} ({machine['devices']} x {machine['platform']}; host "
            f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before the "
            f"start), {machine['date']}.\nPython {machine['python']}, {versions}.",
            "Of what took several turns: median (lowest - highest).",
            *remarks,
        ]

    def add(self, title: str, rows: Sequence[Row], *notes: str) -> None:
        """Prints a table and writes everything so far.

        Args:
            title: above it.
            rows: column -> value; arrays hold one number for each turn.
            notes: below it.
        """
        part = "\n\n".join([f"## {title}", table(rows), *notes])
        print(f"\n{part}", flush=True)
        self._parts.append(part)
        self._tables[title] = [
            {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in row.items()}
            for row in rows
        ]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path.with_suffix(".md"), "\n\n".join(self._parts) + "\n")
        results = {
            "quick": self._quick,
            "machine": self.machine,
            "sizes": vars(self.sizes),
            "tables": self._tables,
        }
        write_json(self._path.with_suffix(".json"), results)
        progress(f"written: {self._path}.md and .json")
