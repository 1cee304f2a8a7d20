"""What sidecars hold, whatever their format."""

import dataclasses
from typing import Any, Final, NamedTuple

MAX_EXAMPLES: Final = 20
"""So many keys that name no photo are kept as examples."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a sidecar says of one photo.

    Attributes:
      raw: Raw values by the EXIF names of `data_pipelines.exif`, wanted fields only; numbers and
        texts as `data_pipelines.tags.to_number` reads them, so that JSON can hold them.
      coded: The fourteen values of a released label vector, in the order of `RELEASED`: numbers of
        ranked tags, class ids of categorical ones, None where missing. None for all other formats.
    """

    raw: dict[str, Any]
    coded: tuple[float | None, ...] | None = None


@dataclasses.dataclass(frozen=True)
class SidecarFile:
    """One file that was read.

    Attributes:
      path: The file.
      kind: "exiftool", "flickr", "yfcc100m" or "sdaie".
      num_entries: Entries in the file, malformed and empty ones included.
      num_matched: Entries that name a photo and are well-formed.
    """

    path: str
    kind: str
    num_entries: int
    num_matched: int


@dataclasses.dataclass(frozen=True)
class Sidecars:
    """All sidecars of a set of photos.

    Attributes:
      entries: Entries by the name of their photo.
      files: The files that were read.
      num_unmatched: Well-formed entries that name no photo, or more than one.
      unmatched: Examples of the keys of those.
      skipped: Files of given directories that hold no metadata of a known kind.
    """

    entries: dict[str, Entry]
    files: tuple[SidecarFile, ...]
    num_unmatched: int
    unmatched: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def coded(self) -> bool:
        """Whether the sidecars hold label vectors instead of EXIF values."""
        return any(entry.coded is not None for entry in self.entries.values())


class Item(NamedTuple):
    """An entry before it is read: most of a large sidecar names no photo and is never read.

    Attributes:
      key: What names the photo: a path, a file name or an id; empty if the entry names none.
      body: The entry as its format's `read` takes it.
    """

    key: str
    body: Any
