"""What is known of all photos, in columns: about 150 bytes a photo, so that millions fit."""

import dataclasses
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from data_pipelines.tags import TAGS

EXAMPLES: Final = 5
"""Rejected files that are kept as examples for each reason."""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The photos that can be used, n of them in the order of the sources, and what was rejected.

    Attributes:
        photo: int64 [n], ids from the image data: equal for duplicates.
        camera: int32 [n], indices into `cameras`, -1 where neither make nor model is known.
        seconds: float64 [n], capture times from an arbitrary origin, NaN if unknown.
        digest: int64 [n], hash of the EXIF block, 0 if there is none.
        num_windows: int32 [n].
        size_differs: bool [n], whether EXIF states another pixel size.
        part: int32 [n], the part on disk that holds the photo.
        values: by tag name: float64 [n] of a ranked tag, NaN where missing; int32 [n] of a
            categorical one, indices into `words`, -1 where missing.
        cameras: names of camera models.
        words: by name of a categorical tag, its values.
        skipped_windows: windows left out, by reason.
        rejects: rejected files by reason.
        examples: by reason, (name, detail) of the first few rejected files.
    """

    photo: np.ndarray
    camera: np.ndarray
    seconds: np.ndarray
    digest: np.ndarray
    num_windows: np.ndarray
    size_differs: np.ndarray
    part: np.ndarray
    values: Mapping[str, np.ndarray]
    cameras: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    skipped_windows: Counter[str]
    rejects: Counter[str]
    examples: Mapping[str, list[tuple[str, str]]]

    def __len__(self) -> int:
        return len(self.photo)

    def select(self, keep: np.ndarray) -> "Catalogue":
        """Returns the catalogue of some of the photos, with the same rejects.

        Args:
            keep: bool [n] or indices.
        """
        columns = {name: getattr(self, name)[keep] for name in _COLUMNS}
        values = {name: column[keep] for name, column in self.values.items()}
        return dataclasses.replace(self, **columns, values=values)

    def with_rejects(self, reason: str, rejected: Sequence[tuple[str, str]]) -> "Catalogue":
        """Returns the catalogue with (name, detail) of more rejected files."""
        if not rejected:
            return self
        rejects = self.rejects + Counter({reason: len(rejected)})
        examples = [*self.examples.get(reason, []), *rejected][:EXAMPLES]
        return dataclasses.replace(
            self, rejects=rejects, examples={**self.examples, reason: examples}
        )


_COLUMNS: Final = {
    "photo": "q",
    "camera": "i",
    "seconds": "d",
    "digest": "q",
    "num_windows": "i",
    "size_differs": "b",
    "part": "i",
}
"""Plain columns and the type codes they are gathered with."""


class _Words:
    """Gives every new text the next index; "" has -1."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self.index.setdefault(text, len(self.index)) if text else -1


def _or_nan(value: str | float | None) -> float:
    return math.nan if value is None else float(value)


class CatalogueBuilder:
    """Gathers a catalogue photo by photo."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {name: array(code) for name, code in _COLUMNS.items()}
        self._values: dict[str, Any] = {
            tag.name: array("d" if tag.kind == "ranked" else "i") for tag in TAGS
        }
        self._words = {t.name: _Words() for t in TAGS if t.kind == "categorical"}
        self._cameras = _Words()
        self._skipped: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()
        self._examples: dict[str, list[tuple[str, str]]] = {}

    def add_photo(
        self,
        *,
        camera: str,
        seconds: float | None,
        values: Mapping[str, str | float],
        skipped_windows: Mapping[str, int],
        **numbers: int,
    ) -> None:
        """Adds a photo; see `Catalogue` for the arguments, `numbers` are its other columns."""
        numbers["camera"] = self._cameras(camera)
        for name, column in self._columns.items():
            column.append(numbers[name] if name != "seconds" else _or_nan(seconds))
        for tag in TAGS:
            value = values.get(tag.name)
            known = self._words.get(tag.name)
            column = self._values[tag.name]
            column.append(known(str(value or "")) if known else _or_nan(value))
        self._skipped.update(skipped_windows)

    def add_reject(self, reason: str, name: str, detail: str, skipped: Mapping[str, int]) -> None:
        """Adds a rejected file and the windows that were looked at in vain."""
        self._rejects[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append((name, detail))
        self._skipped.update(skipped)

    def build(self) -> Catalogue:
        """Returns the catalogue."""
        columns = {name: np.array(column) for name, column in self._columns.items()}
        columns["size_differs"] = columns["size_differs"].astype(bool)
        return Catalogue(
            **columns,
            values={name: np.array(column) for name, column in self._values.items()},
            cameras=tuple(self._cameras.index),
            words={name: tuple(words.index) for name, words in self._words.items()},
            skipped_windows=self._skipped,
            rejects=self._rejects,
            examples=self._examples,
        )


def count_words(catalogue: Catalogue, keep: np.ndarray) -> dict[str, dict[str, int]]:
    """Counts the values of every categorical tag, by tag name, over some of the photos.

    Args:
        catalogue: of n photos.
        keep: bool [n].
    """
    counts = {}
    for name, words in catalogue.words.items():
        codes = catalogue.values[name][keep]
        numbers = np.bincount(codes[codes >= 0], minlength=len(words))
        counts[name] = {w: int(k) for w, k in zip(words, numbers, strict=True) if k}
    return counts
