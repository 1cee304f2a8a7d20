"""Parts -> the final shards: every photo's windows with their tags and groups, one shard a call."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from data_pipelines.columns import Columns
from data_pipelines.files import replacing_file, write_bytes, write_text
from data_pipelines.items import Item
from data_pipelines.prepare.parts import open_windows, part_size
from data_pipelines.prepare.plan import Plan, Shard
from data_pipelines.prepare.workspace import Workspace
from data_pipelines.records import Record, index_path, shard_path, write_description, write_shard
from data_pipelines.tags import TAGS


def write_todo(workspace: Workspace, plan: Plan, items: Sequence[Item]) -> None:
    """Writes down which photos belong to which shard, with all that its records say of them.

    So no row of a part is read again, however many shards have photos of it.

    Args:
        workspace: where.
        plan: what was decided of some files.
        items: these files.
    """
    for number, shard in enumerate(plan.shards):
        photos = [_photo(plan, photo, items) for photo in shard.photos.tolist()]
        row = {**vars(shard), "photos": photos}
        write_text(workspace.shards / f"{number:06d}.todo", json.dumps(row))


def _photo(plan: Plan, photo: int, items: Sequence[Item]) -> dict[str, Any]:
    """Returns where the windows of a photo are, and its part of their records, for JSON."""
    catalogue, file = plan.catalogue, int(plan.catalogue.file[photo])
    return {
        "part": file // part_size(len(items)),
        "offset": int(catalogue.offset[photo]),
        "windows": catalogue.windows_of(photo).tolist(),
        "tags": catalogue.values_of(photo),
        "record": {
            "photo": int(catalogue.photo[photo]),
            "group": int(plan.group[photo]),
            "path": items[file].name,
            "width": int(catalogue.width[photo]),
            "height": int(catalogue.height[photo]),
        },
    }


def read_todo(workspace: Workspace, number: int) -> dict[str, Any]:
    """Reads what `write_todo` wrote of a shard."""
    todo: dict[str, Any] = json.loads((workspace.shards / f"{number:06d}.todo").read_text())
    return todo


def records_of_shard(workspace: Workspace, todo: Mapping[str, Any]) -> Iterator[Record]:
    """Yields a record for every window of the photos of a shard, given by `read_todo`."""
    for part, photos in itertools.groupby(todo["photos"], key=lambda photo: int(photo["part"])):
        with open_windows(workspace.parts, part) as file:
            for photo in photos:
                tags = {tag.name: photo["tags"].get(tag.name, tag.missing) for tag in TAGS}
                file.seek(photo["offset"])
                for x, y, size in photo["windows"]:
                    yield {
                        **photo["record"],
                        "image": file.read(size),
                        "tags": tags,
                        "x": x,
                        "y": y,
                    }


def is_done(workspace: Workspace, number: int) -> bool:
    """Returns whether a shard is there."""
    return bool((workspace.shards / f"{number:06d}.columns").exists())


def make_shard(workspace: Workspace, number: int) -> int:
    """Writes a shard; returns its number of records."""
    todo = read_todo(workspace, number)
    target = shard_path(workspace.out, todo["split"], todo["index"], todo["num_shards"])
    with replacing_file(target) as file:
        size, columns = write_shard(file, records_of_shard(workspace, todo))
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
