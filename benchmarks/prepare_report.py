"""Tables of the benchmark of `prepare`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from speed_report import heading


@dataclasses.dataclass
class Table:
    """One table of the report.

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


def spread(values: Any, digits: int = 2) -> str:
    """Median, and (lowest - highest) if there are several values."""
    values = np.atleast_1d(np.asarray(values, float))
    text = f"{np.median(values):.{digits}f}"
    if len(values) > 1:
        text += f" ({values.min():.{digits}f} - {values.max():.{digits}f})"
    return text


def render(table: Table) -> str:
    """Title, a Markdown table that also reads well on a terminal, notes."""
    cells = [table.header, *table.lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = "".join(f"\n\n{note}" for note in table.notes)
    body = "\n".join(lines) if table.lines else "Not measured."
    return f"## {table.title}\n\n{body}{notes}"


def report(
    tables: Sequence[Table], machine: Mapping[str, Any], remarks: Sequence[str], quick: bool
) -> str:
    """The whole Markdown text."""
    head = ["# Preparing photos", heading(machine, quick), *remarks]
    return "\n\n".join([*head, *map(render, tables)]) + "\n"
