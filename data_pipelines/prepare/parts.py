"""Parts: some files each, read into one place on disk. A part is there whole or not at all.

Of part 12 there are `000012.todo`, the files to read; `000012.windows`, the bytes of all windows;
and, written last, `000012.rows`: a line of JSON for every file, a photo or a reject, in order.
Rows are read once, to decide what goes where; whoever wants windows is told then where they are.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import IO, Final

from etils import epath

from data_pipelines.files import write_bytes, write_text
from data_pipelines.items import Item
from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.looks import Look
from data_pipelines.prepare.reader import (
    PreparedPhoto,
    Reject,
    from_row,
    sizes_of_windows,
    to_row,
)
from data_pipelines.prepare.sidecars import Entry

_MOST_FILES: Final = 128
_FEWEST_FILES: Final = 2
_PARTS: Final = 64
_READ_AT_ONCE: Final = 16  # parts whose looks are in memory, half a megabyte each


def part_size(num_files: int) -> int:
    """Files in a part: few enough to share out and not to lose much, never more than 128."""
    return min(_MOST_FILES, max(_FEWEST_FILES, num_files // _PARTS))


def num_parts(num_files: int) -> int:
    """Number of parts that a number of files makes."""
    return -(-num_files // part_size(num_files))


def _path(directory: epath.Path, index: int, kind: str) -> epath.Path:
    return directory / f"{index:06d}.{kind}"


def write_todo(directory: epath.Path, items: Sequence[Item], sidecars: Mapping[str, Entry]) -> None:
    """Writes down which files belong to which part, with what sidecars say of them."""
    size = part_size(len(items))
    for index in range(num_parts(len(items))):
        rows = []
        for item in items[index * size : (index + 1) * size]:
            entry = sidecars.get(item.name)
            rows.append([dataclasses.asdict(item), entry and dataclasses.asdict(entry)])
        write_text(_path(directory, index, "todo"), json.dumps(rows))


def read_todo(directory: epath.Path, index: int) -> list[tuple[Item, Entry | None]]:
    """Reads which files belong to a part, each with what a sidecar says of it."""
    rows = json.loads(_path(directory, index, "todo").read_text())
    return [(Item(**item), Entry(**entry) if entry else None) for item, entry in rows]


def is_listed(directory: epath.Path, num_parts: int) -> bool:
    """Returns whether the todo files of all parts are there; they are written in order."""
    return bool(_path(directory, num_parts - 1, "todo").exists())


def is_done(directory: epath.Path, index: int) -> bool:
    """Returns whether a part is there."""
    return bool(_path(directory, index, "rows").exists())


def make_part(directory: epath.Path, index: int, reader: GuardedReader) -> Iterator[int]:
    """Reads the files of a part and writes it; yields 1 after every file, for a progress bar."""
    rows: list[str] = []
    windows: list[bytes] = []
    for item, entry in read_todo(directory, index):
        result = reader.read(item, entry)
        rows.append(json.dumps(to_row(result)) + "\n")
        if isinstance(result, PreparedPhoto):
            windows += result.windows
        yield 1
    write_bytes(_path(directory, index, "windows"), b"".join(windows))
    write_text(_path(directory, index, "rows"), "".join(rows))


def read_part(
    directory: epath.Path, index: int
) -> Iterator[tuple[PreparedPhoto | Reject, Sequence[int]]]:
    """Yields the result of every file of a part, its windows empty, and their sizes in bytes."""
    for line in _path(directory, index, "rows").read_text().splitlines():
        row = json.loads(line)
        yield from_row(row, b""), sizes_of_windows(row)


def reader_of_looks(directory: epath.Path, num_files: int) -> Callable[[int], Look | None]:
    """Returns what tells how the photo of a file looks; quick if files come nearly in order."""
    size = part_size(num_files)

    @functools.lru_cache(_READ_AT_ONCE)
    def of_part(part: int) -> list[Look | None]:
        results = (result for result, _ in read_part(directory, part))
        return [r.look if isinstance(r, PreparedPhoto) else None for r in results]

    return lambda file: of_part(file // size)[file % size]


def open_windows(directory: epath.Path, index: int) -> AbstractContextManager[IO[bytes]]:
    """Opens the windows of a part, which follow each other as their rows do."""
    file: AbstractContextManager[IO[bytes]] = _path(directory, index, "windows").open("rb")
    return file
