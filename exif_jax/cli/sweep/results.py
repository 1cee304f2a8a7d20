"""What came of a sweep: kept after every run, and summarised over seeds at the end."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, reading, write_csv, write_json
from data_pipelines.terminal import printable
from exif_jax.cli.sweep.grid import Point

STATE = "sweep.json"


@dataclass
class Run:
    """What came of a point of the grid.

    Attributes:
        point: of the grid.
        command: words after `exif-jax`; a run that was finished by the same ones is not repeated.
        log: the file with all that it said.
        status: of the process: 0 finished, negative: killed by that signal; None: not yet run.
        error: last line of what a failed run said.
        metrics: the last validation numbers.
    """

    point: Point
    command: list[str]
    log: Path
    status: int | None = None
    error: str = ""
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """All seeds of one combination of values.

    Attributes:
        fields: the values.
        runs: their number.
        metrics: name -> one number of each finished run that has it.
    """

    fields: dict[str, str]
    runs: int
    metrics: dict[str, list[float]]

    @property
    def finished(self) -> int:
        """Number of runs that are finished."""
        return max(map(len, self.metrics.values()), default=0)

    def mean(self, name: str) -> float | None:
        """Of a metric over seeds; None if no run has it."""
        numbers = self.metrics.get(name)
        return float(np.mean(numbers)) if numbers else None

    def spread(self, name: str) -> float | None:
        """Sample standard deviation over seeds; None of fewer than two."""
        numbers = self.metrics.get(name, [])
        return float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None


def summarise(runs: Sequence[Run]) -> list[Summary]:
    """The runs by their values, in the order of the grid."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for one in runs:
        groups.setdefault(tuple(one.point.fields.values()), []).append(one)
    return [
        Summary(
            group[0].point.fields,
            len(group),
            {
                name: [one.metrics[name] for one in group if name in one.metrics]
                for name in _names(group)
            },
        )
        for group in groups.values()
    ]


def take_up(workdir: Path, runs: Sequence[Run]) -> None:
    """Marks the runs that an earlier call of the same commands finished."""
    state = workdir / STATE
    with reading(state, "delete it: runs that are finished say so themselves"):
        earlier = {row["run"]: row for row in read_json(state)["runs"]} if state.exists() else {}
        for one in runs:
            row = earlier.get(one.point.name, {})
            same = row.get("command") == one.command and (workdir / one.point.name).is_dir()
            if same and row["status"] == 0:
                one.status = 0
                one.metrics = {str(name): float(x) for name, x in row["metrics"].items()}


def write(workdir: Path, runs: Sequence[Run]) -> None:
    """Writes sweep.json: runs and summaries, and sweep.csv: a line for every run."""
    names = _names(runs)
    rows: list[dict[str, Any]] = [
        {
            "run": one.point.name,
            "fields": one.point.fields,
            "seed": one.point.seed,
            "status": one.status,
            "error": one.error,
            "log": str(one.log),
            "command": one.command,
            "metrics": one.metrics,
        }
        for one in runs
    ]
    points = [
        {
            "fields": summary.fields,
            "runs": summary.runs,
            "finished": summary.finished,
            "metrics": {
                name: {"mean": summary.mean(name), "spread": summary.spread(name)}
                for name in summary.metrics
            },
        }
        for summary in summarise(runs)
    ]
    header = ["run", *runs[0].point.fields, "seed", "status", *names]
    lines = (
        [
            *(one.point.name, *one.point.fields.values(), one.point.seed, one.status),
            *map(one.metrics.get, names),
        ]
        for one in runs
    )
    write_csv(workdir / "sweep.csv", header, lines)
    write_json(workdir / STATE, {"runs": rows, "points": points})


def chosen_metrics(runs: Sequence[Run], text: str) -> list[str]:
    """Names for table and plot: the loss, and those of --metrics, or means and AUROCs.

    Raises:
        UserError: no run has a metric of --metrics.
    """
    names = _names(runs)
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if names and name not in names:
            raise UserError(f"--metrics: no run has {name!r}; known are {', '.join(names)}")
    summaries = [n for n in names if n.endswith(("/mean", "auroc"))]
    return list(dict.fromkeys(["loss", *(wanted or summaries)]))


def format_table(summaries: Sequence[Summary], metrics: Sequence[str]) -> str:
    """An aligned table for a terminal: mean and spread of every metric."""
    fields = list(summaries[0].fields)
    lines = [[*fields, "runs", *metrics]]
    for summary in summaries:
        cells = [_cell(summary.mean(name), summary.spread(name)) for name in metrics]
        values = map(printable, summary.fields.values())
        lines.append([*values, f"{summary.finished}/{summary.runs}", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([texts[0], "-" * (sum(widths) + 2 * len(widths) - 2), *texts[1:]])


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for one in runs for name in one.metrics))


def _cell(mean: float | None, spread: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"
