"""What the tag report says of one tag, from its column of values: one class for each kind of tag.

A new kind of tag gets a class here, in `KINDS`, and a macro in `templates/cards.html.j2`.
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from data_pipelines.prepare.catalogue import Catalogue
from data_pipelines.prepare.report.text import format_value
from data_pipelines.tags import OTHER, TAG_BY_NAME
from data_pipelines.targets import Target
from data_pipelines.terminal import printable

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
LOG_UNITS: Final = ("f-number", "s", "ISO", "mm")
"""Units that photographers count in stops or multiples."""
NAME_TAGS: Final = ("Make", "Model")
"""Categorical tags with open vocabularies."""
BINS: Final = 24
MAX_VALUES: Final = 30
_SHOWN_CLASSES: Final = 10  # in the text

Summary = Mapping[str, Any]
"""What the report holds of one tag; a JSON object."""


@dataclasses.dataclass(frozen=True)
class Column(abc.ABC):
    """The values of one tag.

    Attributes:
        target: the tag's target.
        values: [n], as in the catalogue, with missing ones.
        words: values of a categorical tag by index.
    """

    target: Target
    values: np.ndarray
    words: Sequence[str]

    @property
    @abc.abstractmethod
    def present(self) -> np.ndarray:
        """The values that are not missing."""

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Returns what the report holds of a tag of this kind."""

    @abc.abstractmethod
    def show(self, value: Any) -> str:
        """Returns one of `present` as people write it."""

    @staticmethod
    @abc.abstractmethod
    def line(summary: Summary) -> str:
        """Returns what the text for a terminal says of the values, from `summary`."""

    def untaught(self, trained: np.ndarray) -> list[str]:
        """Returns the classes that no photo with `trained`, bool [n], is of."""
        return []

    def summary(self) -> dict[str, Any]:
        """Returns kind, number and fraction of photos with a value, and `describe`."""
        num = len(self.present)
        coverage = num / len(self.values) if num else 0.0
        return {"kind": self.target.kind, "num": num, "coverage": coverage, **self.describe()}


class _RankedColumn(Column):
    """Numbers in the tag's unit; NaN is missing."""

    @property
    def present(self) -> np.ndarray:
        return self.values[~np.isnan(self.values)]

    def describe(self) -> dict[str, Any]:
        values, unit = self.present, TAG_BY_NAME[self.target.name].unit
        if not len(values):
            return {"unit": unit}
        quantiles = np.quantile(values, QUANTILES)
        return {
            "unit": unit,
            "min": float(values.min()),
            "quantiles": {str(q): float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
            "max": float(values.max()),
            "histogram": _histogram(values, unit in LOG_UNITS),
        }

    def show(self, value: Any) -> str:
        return format_value(value, TAG_BY_NAME[self.target.name].unit)

    @staticmethod
    def line(summary: Summary) -> str:
        if not summary["num"]:
            return "none"
        middle = " ".join(f"{summary['quantiles'][q]:.4g}" for q in ("0.25", "0.5", "0.75"))
        return f"{summary['min']:.4g} | {middle} | {summary['max']:.4g} {summary['unit']}"


class _CategoricalColumn(Column):
    """Indices into `words`; -1 is missing."""

    @property
    def present(self) -> np.ndarray:
        return self.values[self.values >= 0]

    def describe(self) -> dict[str, Any]:
        counts = np.bincount(self.present, minlength=len(self.words))
        classes = {"classes": self._count_classes(counts)}
        if self.target.name not in NAME_TAGS:
            return classes
        # Stable: equal counts stay in the order of the photos.
        order = np.argsort(-counts, kind="stable")[:MAX_VALUES]
        return {**classes, "values": {self.words[i]: int(counts[i]) for i in order if counts[i]}}

    def show(self, value: Any) -> str:
        return self.words[value]

    @staticmethod
    def line(summary: Summary) -> str:
        rows = [f"{printable(name)} {count}" for name, count in summary["classes"].items()]
        more = [f"{len(rows) - _SHOWN_CLASSES} more"] if len(rows) > _SHOWN_CLASSES else []
        return ", ".join(rows[:_SHOWN_CLASSES] + more)

    def untaught(self, trained: np.ndarray) -> list[str]:
        if self.target.name not in NAME_TAGS:
            return []
        values = self.values[trained]
        counts = np.bincount(values[values >= 0], minlength=len(self.words))
        return [name for name, count in self._count_classes(counts).items() if not count]

    def _count_classes(self, counts: np.ndarray) -> dict[str, int]:
        """Counts photos by class, given the photos of every word; some words have no class."""
        sums = dict.fromkeys(self.target.classes, 0)
        for word, count in zip(self.words, counts, strict=True):
            name = word if word in sums else OTHER
            if name in sums:
                sums[name] += int(count)
        return sums


KINDS: Final[dict[str, type[Column]]] = {
    "ranked": _RankedColumn,
    "categorical": _CategoricalColumn,
}


def column_of(target: Target, catalogue: Catalogue) -> Column:
    """Returns the column of a target's tag."""
    name = target.name
    return KINDS[target.kind](target, catalogue.values[name], catalogue.words.get(name, ()))


def _histogram(values: np.ndarray, multiples: bool) -> dict[str, Any]:
    """Counts values in bins of equal width, on a logarithmic scale if `multiples` and all > 0."""
    low, high = float(values.min()), float(values.max())
    log = multiples and low > 0
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-6):  # one value: one bin around it
        edges = np.array([low / 1.1, high * 1.1] if log else [low - 0.5, high + 0.5])
    else:
        edges = (np.geomspace if log else np.linspace)(low, high, BINS + 1)
    counts, _ = np.histogram(values, edges)
    return {
        "scale": "log" if log else "linear",
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }
