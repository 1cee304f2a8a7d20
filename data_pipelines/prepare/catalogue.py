"""What is known of all files, so that millions fit: a photo of four windows takes 218 bytes."""

import dataclasses
import math
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from data_pipelines.capture_times import ClockTime
from data_pipelines.columns import Texts
from data_pipelines.tags import TAGS

EXAMPLES: Final = 5
"""Rejected files that are kept as examples for each reason."""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The photos that can be used, n of them in the order of the sources, and what was rejected.

    Attributes:
        photo: int64 [n], ids from the image data: equal for duplicates.
        camera: int32 [n], indices into `cameras`, -1 where neither make nor model is known.
        seconds: float64 [n], capture times by the camera's clock, NaN if unknown.
        zone: float32 [n], seconds by which that clock is ahead of UTC, NaN if unknown.
        timed: bool [n], whether EXIF has the time; otherwise it is from the file's name.
        place: int64 [n], in a series of file numbers, see `file_names.place_in_series`.
        digest: int64 [n], hash of the EXIF block, 0 if there is none.
        num_windows: int32 [n].
        size_differs: bool [n], whether EXIF states another pixel size.
        file: int32 [n], positions among all files.
        width, height: int32 [n], of the stored pixels.
        offset: int64 [n], where its windows begin in those of its part, in bytes.
        first_window: int64 [n], row of its first window in `windows`.
        look: int64 [n], hash of how it looks, see `looks.look_hash`; -1 if there is none.
        values: by tag name: float64 [n] of a ranked tag, NaN where missing; int32 [n] of a
            categorical one, indices into `words`, -1 where missing.
        cameras: names of camera models.
        words: by name of a categorical tag, its values.
        windows: int32 [w, 3], x, y and bytes of each window, a photo's own in a row.
        skipped_windows: windows left out, by reason.
        rejected: reason, name and detail of the other files.
    """

    photo: np.ndarray
    camera: np.ndarray
    seconds: np.ndarray
    zone: np.ndarray
    timed: np.ndarray
    place: np.ndarray
    digest: np.ndarray
    num_windows: np.ndarray
    size_differs: np.ndarray
    file: np.ndarray
    width: np.ndarray
    height: np.ndarray
    offset: np.ndarray
    first_window: np.ndarray
    look: np.ndarray
    values: Mapping[str, np.ndarray]
    cameras: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]]
    windows: np.ndarray
    skipped_windows: Counter[str]
    rejected: Sequence[tuple[str, str, str]]

    def __len__(self) -> int:
        return len(self.photo)

    @property
    def rejects(self) -> Counter[str]:
        """Number of rejected files by reason."""
        return Counter(reason for reason, _, _ in self.rejected)

    @property
    def examples(self) -> dict[str, list[tuple[str, str]]]:
        """The first few rejected files by reason, each with its name and detail."""
        examples: dict[str, list[tuple[str, str]]] = {}
        for reason, name, detail in self.rejected:
            if len(found := examples.setdefault(reason, [])) < EXAMPLES:
                found.append((name, detail))
        return examples

    def select(self, keep: np.ndarray) -> "Catalogue":
        """Returns the catalogue of photos given by bool [n] or indices, with the same rejects."""
        columns = {name: getattr(self, name)[keep] for name in _COLUMNS}
        values = {name: column[keep] for name, column in self.values.items()}
        return dataclasses.replace(self, **columns, values=values)

    def windows_of(self, photo: int) -> np.ndarray:
        """Returns x, y and bytes of each window of a photo, int32 [k, 3]."""
        first = self.first_window[photo]
        return self.windows[first : first + self.num_windows[photo]]

    def values_of(self, photo: int) -> dict[str, str | float]:
        """Returns the valid tag values of a photo by name."""
        values: dict[str, str | float] = {}
        for name, column in self.values.items():
            value = column[photo].item()
            if name not in self.words:
                if not math.isnan(value):
                    values[name] = value
            elif value >= 0:
                values[name] = self.words[name][value]
        return values

    def with_rejects(self, reason: str, rejected: Iterable[tuple[str, str]]) -> "Catalogue":
        """Returns the catalogue with (name, detail) of more rejected files."""
        more = ((reason, name, detail) for name, detail in rejected)
        return dataclasses.replace(self, rejected=[*self.rejected, *more])


_COLUMNS: Final = {
    "photo": "q",
    "camera": "i",
    "seconds": "d",
    "zone": "f",
    "timed": "b",
    "place": "q",
    "digest": "q",
    "num_windows": "i",
    "size_differs": "b",
    "file": "i",
    "width": "i",
    "height": "i",
    "offset": "q",
    "first_window": "q",
    "look": "q",
}
"""Plain columns and the type codes they are gathered with."""


class CatalogueBuilder:
    """Gathers a catalogue photo by photo."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {name: array(code) for name, code in _COLUMNS.items()}
        self._values = {tag.name: tag.column() for tag in TAGS}
        self._cameras = Texts()
        self._windows = array("i")
        self._skipped: Counter[str] = Counter()
        self._rejected: list[tuple[str, str, str]] = []

    def add_photo(
        self,
        *,
        camera: str,
        time: ClockTime | None,
        values: Mapping[str, str | float],
        windows: Sequence[tuple[int, int, int]],
        skipped_windows: Mapping[str, int],
        **numbers: int,
    ) -> None:
        """Adds a photo; see `Catalogue` for the arguments, `numbers` are its other columns."""
        self._columns["seconds"].append(math.nan if time is None else time.seconds)
        zone = None if time is None else time.zone
        self._columns["zone"].append(math.nan if zone is None else zone)
        numbers["num_windows"] = len(windows)
        numbers["first_window"] = len(self._windows) // 3
        for window in windows:
            self._windows.extend(window)
        for name, number in numbers.items():
            self._columns[name].append(number)
        self._cameras.append(camera)
        for name, column in self._values.items():
            column.append(values.get(name))
        self._skipped.update(skipped_windows)

    def add_reject(self, reason: str, name: str, detail: str, skipped: Mapping[str, int]) -> None:
        """Adds a rejected file and the windows that were looked at in vain."""
        # Most details are those of many files, so each text is kept once.
        self._rejected.append((sys.intern(reason), name, sys.intern(detail)))
        self._skipped.update(skipped)

    def build(self) -> Catalogue:
        """Returns the catalogue."""
        columns = {name: np.array(column) for name, column in self._columns.items()}
        columns |= {name: columns[name].astype(bool) for name in ("size_differs", "timed")}
        columns["camera"] = self._cameras.build()
        return Catalogue(
            **columns,
            values={name: column.build() for name, column in self._values.items()},
            cameras=self._cameras.words,
            words={n: c.words for n, c in self._values.items() if isinstance(c, Texts)},
            windows=np.array(self._windows).reshape(-1, 3),
            skipped_windows=self._skipped,
            rejected=self._rejected,
        )


def count_words(catalogue: Catalogue, keep: np.ndarray) -> dict[str, dict[str, int]]:
    """Counts the values of every categorical tag, by its name, over photos given by bool [n]."""
    counts = {}
    for name, words in catalogue.words.items():
        codes = catalogue.values[name][keep]
        numbers = np.bincount(codes[codes >= 0], minlength=len(words))
        counts[name] = {w: int(k) for w, k in zip(words, numbers, strict=True) if k}
    return counts
