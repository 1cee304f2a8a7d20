"""Where the time of one photo goes, step by step."""

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from prepare_photos import Kind
from prepare_report import Table, spread

from data_pipelines.files import write_bytes
from data_pipelines.prepare import photos, worker
from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.items import Item
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.shards import records_of_photos
from data_pipelines.records import write_shard

# Functions that `worker.read_one` calls, none of them inside another.
_STEPS: dict[str, tuple[tuple[Any, str], ...]] = {
    "read the file": ((worker, "read_item"),),
    "header, EXIF, tags": tuple(
        (photos, name)
        for name in (
            *("open_image", "exif_of_image", "parse_tags", "not_a_camera"),
            "pixel_size_differs",
        )
    ),
    "hash": ((photos, "content_id"),),
    "move DCT blocks": ((photos, "block_size"), (photos, "cut_windows")),
    "decode the photo": ((photos, "to_rgb"),),
    "encode windows as PNG": ((photos, "_encode_png"),),
    "check windows": ((photos, "window_problem"),),
}
_REST = "decode windows, and the rest"
_PIPE = "to another process and back"
_PART = "write the part"
_SHARD = "write the shard"


@contextlib.contextmanager
def _timed(seconds: Counter[str]) -> Iterator[None]:
    """Adds the time spent in every step to `seconds`."""

    def wrap(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                seconds[step] += time.perf_counter() - start

        return timed

    with contextlib.ExitStack() as stack:
        for step, places in _STEPS.items():
            for module, name in places:
                function = wrap(step, getattr(module, name))
                stack.enter_context(mock.patch.object(module, name, function))
        yield


def _pass(
    items: Sequence[Item], options: Options, reader: GuardedReader, folder: Path
) -> dict[str, float]:
    """Reads all photos in this process and in another, and writes them; seconds by step."""
    seconds: Counter[str] = Counter()
    lap = time.perf_counter
    results, inside, guarded = [], 0.0, 0.0
    for item in items:  # one after the other, as the difference is of interest
        with _timed(seconds):
            start = lap()
            worker.read_one(item, None, options)
            inside += lap() - start
        start = lap()
        results.append(reader.read(item))
        guarded += lap() - start
    seconds[_REST] = inside - sum(seconds.values())
    seconds[_PIPE] = guarded - inside
    read = [result for result in results if isinstance(result, photos.Photo)]
    if not read:
        raise RuntimeError(f"no photo of {Path(items[0].path).parent.name} can be used: {results}")
    start = lap()
    write_bytes(folder / "windows", b"".join(window for p in read for window in p.windows))
    seconds[_PART] = lap() - start
    start = lap()
    named = ((str(number), photo, photo.photo) for number, photo in enumerate(read))
    write_shard(folder / "shard", records_of_photos(named))
    seconds[_SHARD] = lap() - start
    return dict(seconds)


def measure_steps(kinds: Sequence[Kind], rounds: int, most: int) -> Table:
    """Milliseconds of every step for a photo of each kind, mean over the photos.

    Args:
        kinds: of photos.
        rounds: passes over the photos, after one that does not count.
        most: photos of each kind.
    """
    steps = [*_STEPS, _REST, _PIPE, _PART, _SHARD]
    table = Table(
        "One photo, step by step",
        ("ms for a photo", *(kind.name for kind in kinds)),
        notes=[
            "Mean over the photos, median of the passes; in brackets the share of the photo. "
            f"{_PIPE.capitalize()!r} is a difference of two times and may come out negative. "
            "Starting the processes is in none of the lines.",
        ],
    )
    columns = []
    for kind in kinds:
        paths = kind.paths[:most]
        options = Options(encoding="dct" if kind.encoding == "dct" else "pixels")
        items = [Item(Path(path).name, path) for path in paths]
        with tempfile.TemporaryDirectory() as folder, GuardedReader(options) as reader:
            run = partial(_pass, items, options, reader, Path(folder))
            passes = [run() for _ in range(rounds + 1)][1:]
        columns.append(
            {step: [1e3 * each.get(step, 0.0) / len(items) for each in passes] for step in steps}
        )
        table.measured[kind.name] = {"photos": len(items), "ms": columns[-1]}
    totals = [sum(float(np.median(column[step])) for step in steps) for column in columns]
    for step in steps:
        cells = []
        for column, total in zip(columns, totals, strict=True):
            median = float(np.median(column[step]))
            cells.append(f"{median:.2f} ({median / total:.0%})" if any(column[step]) else "-")
        table.lines.append((step, *cells))
    table.lines.append(("all", *(spread(total) for total in totals)))
    return table
