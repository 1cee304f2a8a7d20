"""Timing in turns, and the table, of the speed benchmark."""

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

PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "pillow", "numpy", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: is measured.
        unit: of the values.
        values: one for each turn.
        ratios: how many times as fast as `against`, turn by turn; none for a reference.
        against: the reference.
    """

    what: str
    unit: str
    values: tuple[float, ...]
    ratios: tuple[float, ...] = ()
    against: str = ""


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


def table(rows: Sequence[Row], machine: Mapping[str, Any], quick: bool) -> str:
    """The results as Markdown that also reads well on a terminal."""
    head = ("measured", "median", "unit", "slowest - fastest", "times as fast as the line above")
    cells = [head]
    for row in rows:
        ratio = "-"
        if row.ratios:
            low, high = min(row.ratios), max(row.ratios)
            ratio = f"{np.median(row.ratios):.2f} ({low:.2f} - {high:.2f})"
        ends = sorted((min(row.values), max(row.values)), reverse=row.unit == "ms")
        cells.append(
            (
                row.what,
                f"{np.median(row.values):.1f}",
                row.unit,
                f"{ends[0]:.1f} - {ends[1]:.1f}",
                ratio,
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    text = (
        f"{machine['device']} ({machine['devices']} x {machine['platform']}; host {machine['cpu']},"
        f" {machine['cores']} cores, load {machine['load_before']} before the start),"
        f" {machine['date']}.\nPython {machine['python']}, {versions}.\n\n" + "\n".join(lines)
    )
    return ("QUICK CHECK OF THE SCRIPT: THE NUMBERS MEAN NOTHING.\n\n" if quick else "") + text
