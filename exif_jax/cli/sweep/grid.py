"""The grid of a sweep: fields, their values, seeds."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from data_pipelines.errors import UserError

_LONGEST_NAME = 120  # of a run's folder; file systems take 255 bytes


@dataclass(frozen=True)
class Point:
    """One run: a value for every field of the grid, and a seed.

    Attributes:
        fields: field -> value, as texts.
        seed: of the run.
    """

    fields: dict[str, str]
    seed: int

    @property
    def overrides(self) -> list[str]:
        """Words of the command line that make a run this one."""
        return [f"--config.{k}={v}" for k, v in {**self.fields, "seed": self.seed}.items()]

    @property
    def name(self) -> str:
        """Of the run's folder, such as optimizer.learning_rate=1e-4_seed=0."""
        parts = [f"{field}={_plain(value)}" for field, value in self.fields.items()]
        text = "_".join(parts)
        if len(text) > _LONGEST_NAME:
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            text = f"{text[: _LONGEST_NAME - len(digest)]}{digest}"
        return f"{text}_seed={self.seed}"


def _plain(value: str) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "-", re.sub(r"[\s()\[\]'\"]", "", value).replace(",", "+"))


def grid_points(grid: Sequence[str], seeds: str) -> list[Point]:
    """All combinations, seeds last.

    Args:
        grid: FIELD=VALUES each; see the command's help.
        seeds: numbers separated by commas.

    Raises:
        UserError: a text of another form, or a field, value or seed given twice.
    """
    values: dict[str, list[str]] = {}
    for text in grid:
        field, equals, listed = text.partition("=")
        found = [value.strip() for value in listed.split("|" if "|" in listed else ",")]
        if not equals or not field or not all(found):
            raise UserError(f"--grid {text}: write FIELD=VALUE,VALUE or 'FIELD=VALUE|VALUE'")
        if field in values or field == "seed":
            other = "--seeds" if field == "seed" else "another --grid"
            raise UserError(f"--grid {text}: {field} has its values from {other}")
        values[field] = found
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError as error:
        raise UserError(f"--seeds {seeds}: write whole numbers, such as 0,1,2") from error
    points = [
        Point(dict(zip(values, combination, strict=True)), seed)
        for combination in itertools.product(*values.values())
        for seed in numbers
    ]
    names = [point.name for point in points]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--grid and --seeds give {twice[0]} twice")
    return points
