"""Parts -> the final shards: every photo's windows with their tags and groups, one shard a call."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines.columns import Columns
from data_pipelines.prepare.parts import read_rows, read_windows
from data_pipelines.prepare.plan import Shard
from data_pipelines.prepare.reader import Photo, photo_from_json
from data_pipelines.prepare.workspace import Workspace, put, put_json, putting
from data_pipelines.records import (
    Record,
    index_path,
    shard_path,
    tags_for_record,
    write_description,
    write_shard,
)


def photos_of_shard(
    workspace: Workspace, photos: Sequence[Sequence[int]] | np.ndarray
) -> Iterator[tuple[str, Photo, int]]:
    """Yields name, photo and group of the photos of a shard, given as in `plan.Shard`."""
    loaded, named = -1, []
    for part, number, group in photos:
        if part != loaded:
            loaded, named = int(part), list(_photos_of_part(workspace, int(part)))
        name, photo = named[number]
        yield name, photo, int(group)


def _photos_of_part(workspace: Workspace, part: int) -> Iterator[tuple[str, Photo]]:
    windows = memoryview(read_windows(workspace.parts, part))
    start = 0
    for row in read_rows(workspace.parts, part):
        if "photo" in row:
            end = start + sum(row["photo"]["windows"])
            yield row["name"], photo_from_json(row["photo"], windows[start:end])
            start = end


def records_of_photos(photos: Iterable[tuple[str, Photo, int]]) -> Iterator[Record]:
    """Yields a record for every window of photos given with their names and groups."""
    for name, photo, group in photos:
        for (x, y), window in zip(photo.corners, photo.windows, strict=True):
            yield {
                "image": window,
                "tags": tags_for_record(photo.values),
                "photo": photo.photo,
                "group": group,
                "path": name,
                "x": x,
                "y": y,
                "width": photo.width,
                "height": photo.height,
            }


def write_todo(workspace: Workspace, shards: Sequence[Shard]) -> None:
    """Writes down which photos belong to which shard."""
    for number, shard in enumerate(shards):
        row = {
            "split": shard.split,
            "index": shard.index,
            "num_shards": shard.num_shards,
            "photos": shard.photos.tolist(),
        }
        put_json(workspace.shards / f"{number:06d}.todo", row)


def read_todo(workspace: Workspace, number: int) -> dict[str, Any]:
    """Reads what `write_todo` wrote of a shard."""
    todo: dict[str, Any] = json.loads((workspace.shards / f"{number:06d}.todo").read_text())
    return todo


def is_done(workspace: Workspace, number: int) -> bool:
    """Returns whether a shard is there."""
    return (workspace.shards / f"{number:06d}.columns").exists()


def make_shard(workspace: Workspace, number: int) -> int:
    """Writes a shard; returns its number of records."""
    todo = read_todo(workspace, number)
    target = shard_path(workspace.out, todo["split"], todo["index"], todo["num_shards"])
    with putting(target) as file:
        size, columns = write_shard(
            file, records_of_photos(photos_of_shard(workspace, todo["photos"]))
        )
    put_json(workspace.shards / f"{number:06d}.size", [len(columns), size])
    put(workspace.shards / f"{number:06d}.columns", columns.to_bytes())
    return len(columns)


def finish(workspace: Workspace, shards: Sequence[Shard]) -> None:
    """Writes what describes the finished shards: the index of every split, and their sizes."""
    sizes: dict[str, list[tuple[int, int]]] = {}
    parts: dict[str, list[Columns]] = {}
    for number, shard in enumerate(shards):
        count, size = json.loads((workspace.shards / f"{number:06d}.size").read_text())
        sizes.setdefault(shard.split, []).append((count, size))
        data = (workspace.shards / f"{number:06d}.columns").read_bytes()
        parts.setdefault(shard.split, []).append(Columns.from_bytes(data))
    for split, columns in parts.items():
        put(index_path(workspace.out, split), Columns.join(columns).to_bytes())
    write_description(workspace.out, sizes)
