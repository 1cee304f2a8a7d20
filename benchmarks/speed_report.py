"""Timing in turns, and the tables, of the benchmarks of speed."""

import dataclasses
import datetime
import os
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.files import write_json, write_text

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "pillow", "numpy", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured.
        unit: of the values.
        values: one for each turn.
        ratios: to `against`, turn by turn; none for a reference.
        against: the reference.
        digits: behind the point, of the values.
    """

    what: str
    unit: str
    values: tuple[float, ...]
    ratios: tuple[float, ...] = ()
    against: str = ""
    digits: int = 1


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


def rows_of(
    seconds: Mapping[str, np.ndarray],
    unit: str,
    value: Callable[[np.ndarray], np.ndarray],
    against: Mapping[str, str] | None = None,
) -> list[Row]:
    """Rows of tasks that took turns, `value` turning seconds into the unit.

    Their ratios say how many times as fast a task is as its reference.

    Args:
        seconds: from `take_turns`.
        unit: of the values.
        value: of an array of seconds.
        against: for each task that is compared, its reference.
    """
    rows = []
    for name, times in seconds.items():
        reference = (against or {}).get(name, "")
        ratios = tuple(map(float, seconds[reference] / times)) if reference else ()
        rows.append(Row(name, unit, tuple(map(float, value(times))), ratios, reference))
    return rows


def describe_machine() -> dict[str, Any]:
    """Device, processor, load by others, date and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        cpu = found[1].strip()
    device = jax.devices()[0]
    accelerator = "" if device.platform == "cpu" else device.device_kind
    return {
        "device": accelerator or f"{cpu} {os.cpu_count()} cores",
        "devices": jax.device_count(),
        "platform": device.platform,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def grid(rows: Sequence[Row], compared: str = "times as fast as the line above") -> str:
    """Rows as a Markdown table that also reads well on a terminal.

    Args:
        rows: of the table.
        compared: what their ratios say.
    """
    cells = [("measured", "median", "unit", "slowest - fastest", compared)]
    for row in rows:
        ratio, spread, digits = "-", "-", row.digits
        if row.ratios:
            low, high = min(row.ratios), max(row.ratios)
            ratio = f"{np.median(row.ratios):.2f}"
            if len(row.ratios) > 1:
                ratio += f" ({low:.2f} - {high:.2f})"
        if len(row.values) > 1:
            ends = sorted((min(row.values), max(row.values)), reverse=row.unit in ("ms", "s"))
            spread = f"{ends[0]:.{digits}f} - {ends[1]:.{digits}f}"
        cells.append((row.what, f"{np.median(row.values):.{digits}f}", row.unit, spread, ratio))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def heading(machine: Mapping[str, Any], quick: bool) -> str:
    """What was measured on, from `describe_machine`, and a warning if the numbers mean nothing."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    text = (
        f"{machine['device']} ({machine['devices']} x {machine['platform']}; host {machine['cpu']},"
        f" {machine['cores']} cores, load {machine['load_before']} before the start),"
        f" {machine['date']}.\nPython {machine['python']}, {versions}."
    )
    return ("QUICK CHECK OF THE SCRIPT: THE NUMBERS MEAN NOTHING.\n\n" if quick else "") + text


def table(rows: Sequence[Row], machine: Mapping[str, Any], quick: bool) -> str:
    """Heading and grid."""
    return f"{heading(machine, quick)}\n\n{grid(rows)}"


def write_results(
    folder: Path, name: str, text: str, machine: Mapping[str, Any], results: Mapping[str, Any]
) -> Path:
    """Writes NAME_DEVICE.md and .json, and returns their path without an ending."""
    slug = re.sub(r"[^a-z0-9]+", "_", machine["device"].lower()).strip("_")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_{slug}"
    write_text(path.with_suffix(".md"), text)
    write_json(path.with_suffix(".json"), results)
    return path
