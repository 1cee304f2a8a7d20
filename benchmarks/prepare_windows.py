"""Encodings of a window, and reading windows back through Grain."""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource
from measuring import Report, progress, take_turns
from PIL import Image

from data_pipelines.images import WINDOW, decode_image
from data_pipelines.pipeline import record_batches
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows
from data_pipelines.records import Records

_CHOSEN = "PNG, level 1"
_DCT = "DCT blocks of the original"
_SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    _CHOSEN: ("PNG", {"compress_level": 1}),
    "PNG, level 3": ("PNG", {"compress_level": 3}),
    "PNG, level 6": ("PNG", {"compress_level": 6}),
    "WebP, lossless, method 0": ("WEBP", {"lossless": True, "method": 0}),
    "WebP, lossless, method 4": ("WEBP", {"lossless": True, "method": 4}),
}
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG")


def _save(pixels: np.ndarray, form: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def _decode(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _all(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    return [function(value) for value in values]


Photo = tuple[bytes, list[tuple[int, int]]]


def _cut(files: Sequence[Photo]) -> list[bytes]:
    return [window for data, corners in files for window in cut_windows(data, corners, WINDOW)]


def _slice(files: Sequence[Photo]) -> list[np.ndarray]:
    windows = []
    for data, corners in files:
        pixels = decode_image(data)
        windows += [pixels[y : y + WINDOW, x : x + WINDOW] for x, y in corners]
    return windows


def _photos(paths: Sequence[Path], windows: int) -> list[Photo]:
    """Photos whose blocks can be moved, with corners of windows, evenly spread over each."""
    photos = []
    for path in paths:
        data = path.read_bytes()
        if block_size(data) is None:
            continue
        width, height = Image.open(io.BytesIO(data)).size
        rows = range(0, height - WINDOW + 1, WINDOW)
        columns = range(0, width - WINDOW + 1, WINDOW)
        corners = [(x, y) for y in rows for x in columns]
        photos.append((data, corners[:: -(-len(corners) // windows)]))
    return photos


def measure_encodings(report: Report, paths: Sequence[Path], origin: str) -> None:
    """Bytes and times of a window of JPEG photos in every encoding."""
    progress("measuring: encodings ...")
    files = _photos(paths, report.sizes.windows)
    pixels = _slice(files)
    encoders = {name: partial(_save, form=f, options=o) for name, (f, o) in _SAVED.items()}
    stored = {_DCT: _cut(files)} | {name: _all(encode, pixels) for name, encode in encoders.items()}
    tasks: dict[str, Callable[[], Any]] = {"slice": partial(_slice, files)}
    tasks[f"make {_DCT}"] = partial(_cut, files)
    for name, encode in encoders.items():
        decoded = _all(_decode, stored[name])
        assert all(map(np.array_equal, decoded, pixels)), f"{name} is not lossless"
        tasks[f"make {name}"] = partial(_all, encode, pixels)
    tasks |= {f"read {name}": partial(_all, _decode, data) for name, data in stored.items()}
    ms = {n: 1e3 * s / len(pixels) for n, s in take_turns(tasks, report.sizes.rounds).items()}
    size = {name: float(np.mean(list(map(len, data)))) for name, data in stored.items()}
    make = {n: ms[f"make {n}"] + (0 if n == _DCT else ms["slice"]) for n in stored}
    table = []
    for name in stored:
        read = ms[f"read {name}"]
        row = {"encoding": name, "KB": round(size[name] / 1e3, 1)}
        row["KB, x"] = round(size[name] / size[_CHOSEN], 2)
        row |= {"made from the file, ms": make[name], "made, x": make[name] / make[_CHOSEN]}
        row |= {"decoded, ms": read, "decoded, x": read / ms[f"read {_CHOSEN}"]}
        table.append(row)
    report.add(
        "A window in different encodings",
        table,
        f"{len(pixels)} windows of {len(files)} {origin}, up to {report.sizes.windows} a photo, "
        f"which share the cost of opening it. 'x' is relative to {_CHOSEN}. Pillow decodes.",
    )


def measure_reading(report: Report, records: Records, origin: str) -> None:
    """Images a second of the Grain pipeline and of bare loops, by threads."""
    progress("measuring: reading the records ...")
    paths = sorted(map(str, records.directory.glob("*-train.array_record*")))
    raw, source = ArrayRecordDataSource(paths), records.source("train")

    def bare(index: int) -> np.ndarray:
        """The image is found by its first bytes; nothing else of the record is parsed."""
        record = raw[index]
        return _decode(record[min(at for at in map(record.find, _MAGIC) if at >= 0) :])

    assert np.array_equal(bare(0), records.decode(source[0])["image"])
    rng = np.random.default_rng(0)
    images, batch, threads = report.sizes.images, report.sizes.batch, report.sizes.threads
    passes = [rng.permutation(len(raw)) for _ in range(-(-images // len(raw)))]
    order = np.concatenate(passes)[:images].tolist()

    def loop(pool: ThreadPoolExecutor, share: int, function: Callable[[int], Any]) -> None:
        pieces = [order[start : start + share] for start in range(0, images, share)]
        for _ in pool.map(partial(_all, function), pieces):
            pass

    def grain(dataset: Any) -> None:
        iterator = iter(dataset)  # a new one each turn, so that nothing is read before it
        for _ in range(images // batch):
            next(iterator)

    def parsed(index: int) -> Any:
        return records.decode(source[index])

    tasks: dict[str, Callable[[], Any]] = {}
    for count in threads:
        pool, share = ThreadPoolExecutor(count), max(1, images // (8 * count))
        tasks[f"bare {count}"] = partial(loop, pool, share, bare)
        tasks[f"records {count}"] = partial(loop, pool, share, parsed)
        tasks[f"grain {count}"] = partial(grain, record_batches(records, "train", batch, 0, count))
    seconds = take_turns(tasks, 2 * report.sizes.rounds - 1)
    table = []
    for count in threads:
        bare_s, records_s, grain_s = (seconds[f"{k} {count}"] for k in ("bare", "records", "grain"))
        row = {"threads": count, "bare loop, images/s": images / bare_s}
        row |= {"Grain pipeline, images/s": images / grain_s, "pipeline / bare": bare_s / grain_s}
        table.append(row | {"records parsed, without Grain / bare": bare_s / records_s})
    report.add(
        "Reading the records",
        table,
        f"{images} of {len(raw)} windows of {origin}, in shuffled order, batches of {batch}. ",
    )
