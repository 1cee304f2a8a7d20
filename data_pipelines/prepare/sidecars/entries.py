"""What sidecars hold, whatever their format."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Final

MAX_EXAMPLES: Final = 20
"""So many keys that name no photo are kept as examples."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a sidecar says of one photo.

    Attributes:
        raw: raw values by the EXIF names of `data_pipelines.exif`, wanted fields only; numbers and
            texts as `data_pipelines.tags.to_number` reads them, so that JSON can hold them.
        coded: the fourteen values of a released label vector, in the order of `RELEASED`: numbers
            of ranked tags, class ids of categorical ones, None where missing. None for all other
            formats.
    """

    raw: dict[str, Any]
    coded: tuple[float | None, ...] | None = None


@dataclasses.dataclass(frozen=True)
class SidecarFile:
    """One file that was read.

    Attributes:
        path: the file.
        kind: "exiftool", "flickr", "yfcc100m" or "sdaie".
        num_entries: entries in the file, malformed and empty ones included.
        num_matched: entries that name a photo and are well-formed.
    """

    path: str
    kind: str
    num_entries: int
    num_matched: int


@dataclasses.dataclass
class Sidecars:
    """All sidecars of a set of photos.

    Attributes:
        entries: entries by the name of their photo.
        files: the files that were read.
        num_unmatched: well-formed entries that name no photo, or more than one.
        unmatched: examples of the keys of those.
        skipped: files of given directories that hold no metadata of a known kind.
    """

    entries: dict[str, Entry] = dataclasses.field(default_factory=dict)
    files: list[SidecarFile] = dataclasses.field(default_factory=list)
    num_unmatched: int = 0
    unmatched: list[str] = dataclasses.field(default_factory=list)
    skipped: list[str] = dataclasses.field(default_factory=list)

    @property
    def coded(self) -> bool:
        """Whether the sidecars hold label vectors instead of EXIF values."""
        return any(entry.coded is not None for entry in self.entries.values())


def entry_of(values: Iterable[tuple[str, Any]]) -> Entry:
    """Makes an entry of EXIF names and what was read of them: the first that is not None counts."""
    raw: dict[str, Any] = {}
    for field, value in values:
        if value is not None:
            raw.setdefault(field, value)
    return Entry(raw)
