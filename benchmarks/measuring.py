"""What all benchmarks measure with: turns, memory, the machine, tables and the files they go to.

What is compared takes turns within one run and is divided turn by turn, so that other load on the
machine disturbs the ratios little.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.files import write_json, write_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "pillow", "numpy", "scikit-learn")


def progress(text: str) -> None:
    """Tells what is being done."""
    print(text, file=sys.stderr, flush=True)


def take_turns(tasks: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of every turn of every task, after one turn each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            jax.block_until_ready(task())
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


class PeakMemory(threading.Thread):
    """Peak memory of a process and of all below it while a `with` lasts, sampled from /proc.

    Attributes:
        peaks: bytes by process id; empty where the system does not tell.
    """

    def __init__(self, pid: int, field: str = "VmHWM", every: float = 0.02) -> None:
        """Nothing is watched yet.

        Args:
            pid: of the process.
            field: of /proc/PID/status. `VmHWM` is the kernel's own peak, libraries included, so
                only growth in the last moment before a process ends is missed; `RssAnon` is
                memory that is no pages of files, of the moment.
            every: seconds between samples.
        """
        super().__init__(daemon=True)
        self._pid, self._field, self._every = pid, field, every
        self._over = threading.Event()
        self.peaks: dict[int, int] = {}

    def __enter__(self) -> "PeakMemory":
        self._look(self._pid)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._look(self._pid)

    def run(self) -> None:
        """Looks again and again until the context is left."""
        while not self._over.wait(self._every):
            self._look(self._pid)

    def _look(self, pid: int, parent: bytes = b"") -> None:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if command == parent:
                return  # not started yet: it still has its parent's memory
            status = Path(f"/proc/{pid}/status").read_text()
            tasks = list(Path(f"/proc/{pid}/task").iterdir())
            children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
        except OSError:  # it has ended
            return
        if found := re.search(rf"{self._field}:\s*(\d+) kB", status):
            self.peaks[pid] = max(self.peaks.get(pid, 0), 1024 * int(found[1]))
        for child in children:
            self._look(child, command)


@dataclasses.dataclass
class Table:
    """One table of a report.

    Attributes:
        title: above it.
        header: names of its columns.
        lines: text of its cells.
        notes: below it.
        measured: everything as numbers, for the JSON file.
    """

    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        """Title, a Markdown table that also reads well on a terminal, notes."""
        cells = [self.header, *self.lines]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
            for line in cells
        ]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        body = "\n".join(lines) if self.lines else "Not measured."
        return "\n\n".join([f"## {self.title}", body, *self.notes])


def comparison(title: str, compared: str) -> Table:
    """An empty table for `add_row`.

    Args:
        title: above it.
        compared: what the ratios say.
    """
    return Table(title, ("measured", "median", "unit", "slowest - fastest", compared))


def add_row(
    table: Table,
    what: str,
    unit: str,
    values: Sequence[float] | np.ndarray,
    ratios: Sequence[float] | np.ndarray = (),
    digits: int = 1,
) -> None:
    """Adds a line to a table of `comparison`.

    Args:
        table: gets the line.
        what: is measured.
        unit: of the values.
        values: one for each turn.
        ratios: to the reference, turn by turn; none for a reference.
        digits: behind the point, of the values.
    """
    ends = sorted((min(values), max(values)), reverse=unit in ("ms", "s"))
    span = " - ".join(f"{end:.{digits}f}" for end in ends) if len(values) > 1 else "-"
    ratio = spread(ratios) if len(ratios) else "-"
    table.lines.append((what, f"{np.median(values):.{digits}f}", unit, span, ratio))
    row = {"unit": unit, "values": [*map(float, values)], "ratios": [*map(float, ratios)]}
    table.measured[what] = row


def spread(values: Any, digits: int = 2) -> str:
    """Median, and (lowest - highest) if there are several values."""
    values = np.atleast_1d(np.asarray(values, float))
    text = f"{np.median(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({values.min():.{digits}f} - {values.max():.{digits}f})"
    return text


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
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of results"
    )
    return parser


@dataclasses.dataclass
class Report:
    """What a benchmark found; printed, and written anew, with every table that is added.

    Attributes:
        name: of the files, NAME_DEVICE.md and .json.
        title: of the page.
        options: from `command_line`.
        all_sizes: by `quick`, `cpu` or `accelerator`: a dataclass of how much is measured.
        remarks: between the head and the tables.
        tables: so far.
        machine: from `describe_machine`.
    """

    name: str
    title: str
    options: argparse.Namespace
    all_sizes: Mapping[str, Any]
    remarks: list[str] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    machine: dict[str, Any] = dataclasses.field(default_factory=describe_machine)

    @property
    def sizes(self) -> Any:
        """How much is measured: tiny with --quick, more on an accelerator than on a CPU."""
        kind = "cpu" if self.machine["platform"] == "cpu" else "accelerator"
        return self.all_sizes["quick" if self.options.quick else kind]

    def add(self, *tables: Table) -> None:
        """Prints tables and writes everything so far."""
        for table in tables:
            print(f"\n{table}", flush=True)
            self.tables.append(table)
        slug = re.sub(r"[^a-z0-9]+", "_", self.machine["device"].lower()).strip("_")
        path = self.options.out / f"{self.name}_{slug}"
        self.options.out.mkdir(parents=True, exist_ok=True)
        write_text(path.with_suffix(".md"), self.text())
        results = {
            "quick": self.options.quick,
            "machine": self.machine,
            "remarks": self.remarks,
            "sizes": dataclasses.asdict(self.sizes),
            "tables": {table.title: table.measured for table in self.tables},
        }
        write_json(path.with_suffix(".json"), results)
        progress(f"written: {path}.md and .json")

    def text(self) -> str:
        """The page, in Markdown."""
        machine = self.machine
        versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
        head = (
            f"{machine['device']} ({machine['devices']} x {machine['platform']}; host "
            f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before the "
            f"start), {machine['date']}.\nPython {machine['python']}, {versions}."
        )
        script = f"`python benchmarks/{self.name}.py`"
        warning = ["QUICK CHECK OF THE SCRIPT: THE NUMBERS MEAN NOTHING."] * self.options.quick
        parts = [f"# {self.title}", *warning, head, script, *self.remarks, *map(str, self.tables)]
        return "\n\n".join(parts) + "\n"
