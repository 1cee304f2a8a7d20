"""Parts: some files each, read into one place on disk. A part is there whole or not at all.

Of part 12 there are `000012.todo`, the files to read; `000012.windows`, the bytes of all windows;
and, written last, `000012.rows`: a line of JSON for every file, a photo or a reject, in order.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from etils import epath

from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.items import Item
from data_pipelines.prepare.reader import Photo, photo_to_json
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.prepare.workspace import put, put_json

_MOST_FILES: Final = 128
_FEWEST_FILES: Final = 2
_PARTS: Final = 64

Row = dict[str, Any]


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
        put_json(_path(directory, index, "todo"), rows)


def read_todo(
    directory: epath.Path, index: int
) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Reads which files belong to a part: fields of each `Item`, and of its `Entry` if any."""
    return [tuple(row) for row in json.loads(_path(directory, index, "todo").read_text())]


def is_done(directory: epath.Path, index: int) -> bool:
    """Returns whether a part is there."""
    return _path(directory, index, "rows").exists()


def make_part(directory: epath.Path, index: int, reader: GuardedReader) -> Iterator[int]:
    """Reads the files of a part and writes it; yields 1 after every file, for a progress bar."""
    rows: list[Row] = []
    windows: list[bytes] = []
    for item, entry in read_todo(directory, index):
        result = reader.read(Item(**item), Entry(**entry) if entry else None)
        if isinstance(result, Photo):
            rows.append({"name": item["name"], "photo": photo_to_json(result)})
            windows += result.windows
        else:
            rows.append({"name": item["name"], "reject": dataclasses.asdict(result)})
        yield 1
    put(_path(directory, index, "windows"), b"".join(windows))
    put(_path(directory, index, "rows"), b"".join(json.dumps(r).encode() + b"\n" for r in rows))


def read_rows(directory: epath.Path, index: int) -> list[Row]:
    """Reads {"name": ..., "photo": ...} or {"name": ..., "reject": ...} of every file of a part."""
    return [json.loads(line) for line in _path(directory, index, "rows").read_text().splitlines()]


def read_windows(directory: epath.Path, index: int) -> bytes:
    """Reads the windows of all photos of a part, one after the other."""
    return _path(directory, index, "windows").read_bytes()
