"""Parts -> the final shards: every photo's windows with their tags and groups, one shard a call."""

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines.columns import Columns
from data_pipelines.files import replacing_file, write_bytes, write_text
from data_pipelines.prepare.parts import read_part
from data_pipelines.prepare.plan import Shard
from data_pipelines.prepare.reader import PreparedPhoto
from data_pipelines.prepare.workspace import Workspace
from data_pipelines.records import Record, index_path, shard_path, write_description, write_shard
from data_pipelines.tags import TAGS


def records_of_shard(
    workspace: Workspace, photos: Sequence[Sequence[int]] | np.ndarray
) -> Iterator[Record]:
    """Yields a record for every window of the photos of a shard, given as in `plan.Shard`."""
    for part, members in itertools.groupby(photos, key=lambda photo: int(photo[0])):
        results = list(read_part(workspace.parts, part, with_windows=True))
        for _, number, group in members:
            name, photo = results[number]
            assert isinstance(photo, PreparedPhoto)
            for (x, y), window in zip(photo.corners, photo.windows, strict=True):
                yield {
                    "image": window,
                    "tags": {tag.name: photo.values.get(tag.name, tag.missing) for tag in TAGS},
                    "photo": photo.photo,
                    "group": int(group),
                    "path": name,
                    "x": x,
                    "y": y,
                    "width": photo.width,
                    "height": photo.height,
                }


def write_todo(workspace: Workspace, shards: Sequence[Shard]) -> None:
    """Writes down which photos belong to which shard."""
    for number, shard in enumerate(shards):
        row = {**vars(shard), "photos": shard.photos.tolist()}
        write_text(workspace.shards / f"{number:06d}.todo", json.dumps(row))


def read_todo(workspace: Workspace, number: int) -> dict[str, Any]:
    """Reads what `write_todo` wrote of a shard."""
    todo: dict[str, Any] = json.loads((workspace.shards / f"{number:06d}.todo").read_text())
    return todo


def is_done(workspace: Workspace, number: int) -> bool:
    """Returns whether a shard is there."""
    return bool((workspace.shards / f"{number:06d}.columns").exists())


def make_shard(workspace: Workspace, number: int) -> int:
    """Writes a shard; returns its number of records."""
    todo = read_todo(workspace, number)
    target = shard_path(workspace.out, todo["split"], todo["index"], todo["num_shards"])
    with replacing_file(target) as file:
        size, columns = write_shard(file, records_of_shard(workspace, todo["photos"]))
    write_text(workspace.shards / f"{number:06d}.size", json.dumps([len(columns), size]))
    write_bytes(workspace.shards / f"{number:06d}.columns", columns.to_bytes())
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
        write_bytes(index_path(workspace.out, split), Columns.join(columns).to_bytes())
    write_description(workspace.out, sizes)
