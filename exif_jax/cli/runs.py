"""A table of runs: what each is, how far it came, how it stands and where its time went."""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, read_json_lines, reading
from data_pipelines.terminal import printable, say
from exif_jax.config import flat
from exif_jax.training.timeline import goodput, read_timeline, seconds_by_cause, state_of

Run = dict[str, Any]
_HEADER = ("run", "stage", "state", "step", "loss", "validation", "images/s", "goodput", "heard of")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run, or a folder of runs")
    parser.add_argument(
        "--json", action="store_true", help="a JSON list, with the seconds of each run by cause"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the table; returns the exit status: 1 if a run could not be read.

    Raises:
        UserError: there is no run.
    """
    runs = [described(folder, args.folder) for folder in _runs_in(args.folder)]
    if not runs:
        raise UserError(
            f"{args.folder}: no run is in this folder: none has a config.json of `train`"
        )
    if args.json:
        print(json.dumps(runs))
    else:
        say(*format_table(runs))
    return int(any("error" in one for one in runs))


def format_table(runs: Sequence[Run]) -> list[str]:
    """Lines of the table, with one below for each run that failed or cannot be read."""
    lines = [_HEADER, *map(_cells, runs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join(
            text.ljust(width) if column < 3 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    why = [(one["run"], one.get("error") or one.get("failure")) for one in runs]
    return table + [printable(f"{name}: {text}") for name, text in why if text]


def _runs_in(folder: Path) -> Iterator[Path]:
    """Runs at any depth; what is inside a run is not looked into."""
    for parent, folders, files in os.walk(folder):
        if "config.json" in files:
            folders.clear()
            yield Path(parent)
        folders.sort()


def described(folder: Path, root: Path) -> Run:
    """A row of the table: of a run in a folder below the one that was asked for."""
    name = str(folder.relative_to(root))
    name = folder.resolve().name if name == "." else name
    try:
        return {"run": name, **_facts(folder)}
    except UserError as error:
        return {"run": name, "state": "unreadable", "error": str(error)}


def _facts(folder: Path) -> Run:
    """What the files of a run say of it."""
    path, rows = folder / "config.json", read_timeline(folder)
    with reading(path, "restore it"):
        config = flat(read_json(path))
        stage, steps = str(config["stage"]), int(config["steps"])
    path = folder / "metrics.jsonl"
    metrics = read_json_lines(path)
    with reading(path, "restore it"):
        last = {row["split"]: row for row in metrics}
        step = max((int(row["step"]) for row in metrics), default=0)
        measured = {
            "loss": _number(last, "train", "loss"),
            "validation_loss": _number(last, "validation", "loss"),
            "images_per_second": _number(last, "train", "images_per_second"),
        }
    seconds = seconds_by_cause(rows)
    state = state_of(rows)
    if not rows and last.get("validation", {}).get("step", -1) >= steps:
        state = "finished"  # by an earlier version
    return {
        "stage": stage,
        "state": state,
        "step": step,
        "steps": steps,
        **measured,
        "goodput": goodput(seconds),
        "seconds": {cause: round(x, 3) for cause, x in seconds.items()},
        "starts": sum(row["event"] == "start" for row in rows),
        "heard": rows[-1]["at"] if rows else None,
        "failure": rows[-1].get("error") if state == "failed" else None,
    }


def _number(last: dict[str, Run], split: str, name: str) -> float | None:
    value = last.get(split, {}).get(name)
    return None if value is None else float(value)


def _cells(one: Run) -> tuple[str, ...]:
    if "error" in one:
        return (printable(one["run"]), "", one["state"], *[""] * (len(_HEADER) - 3))

    def number(name: str, form: str) -> str:
        return "" if one[name] is None else format(one[name], form)

    return (
        printable(one["run"]),
        printable(one["stage"]),
        printable(one["state"]),
        f"{one['step']}/{one['steps']}",
        number("loss", ".4g"),
        number("validation_loss", ".4g"),
        number("images_per_second", ".4g"),
        number("goodput", ".1%"),
        "" if one["heard"] is None else f"{_age(time.time() - one['heard'])} ago",
    )


def _age(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"
