"""Encodings of a window, and reading windows back through Grain."""

import io
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from prepare_photos import read_all
from prepare_report import Table, spread
from speed_report import take_turns

from data_pipelines.images import WINDOW, decode_image
from data_pipelines.pipeline import record_batches
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows
from data_pipelines.prepare.reader import choose_windows
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


def decode_window(data: bytes) -> np.ndarray:
    """Decodes the file of a window to uint8 RGB with Pillow."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def _from_raw(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(WINDOW, WINDOW, 3).copy()


Photo = tuple[bytes, list[tuple[int, int]]]


def _cut(files: Sequence[Photo]) -> list[bytes]:
    return [window for data, corners in files for window in cut_windows(data, corners, WINDOW)]


def _slice(files: Sequence[Photo]) -> list[np.ndarray]:
    windows = []
    for data, corners in files:
        pixels = decode_image(data)
        windows += [pixels[y : y + WINDOW, x : x + WINDOW] for x, y in corners]
    return windows


def differences(dct: Sequence[np.ndarray], full: Sequence[np.ndarray]) -> dict[str, float]:
    """How far windows that were cut as DCT blocks are from the same places of the decoded photos.

    Returns:
        `fraction` of the pixels that differ in any channel, the largest difference `levels`, and
        `border`: the largest distance of a differing pixel from the window's edge, 1 at the edge
        itself, 0 if none differs.
    """
    distance = np.arange(1, WINDOW + 1)
    distance = np.minimum(distance, distance[::-1])
    to_edge = np.minimum(distance[:, None], distance[None])
    levels = np.stack(
        [np.abs(a.astype(int) - b).max(axis=2) for a, b in zip(dct, full, strict=True)]
    )
    differs = levels > 0
    return {
        "fraction": float(differs.mean()),
        "levels": float(levels.max()),
        "border": float(np.where(differs, to_edge, 0).max()),
    }


def measure_encodings(paths: Sequence[Path], origin: str, windows: int, rounds: int) -> Table:
    """Bytes and times of a window in every encoding.

    Args:
        paths: of JPEG photos.
        origin: of them, for the note.
        windows: of each photo, at most.
        rounds: turns that each encoding takes.
    """
    rng = np.random.default_rng(0)
    files: list[Photo] = []
    for data in read_all(paths):
        block = block_size(data)
        if block is not None:
            width, height = Image.open(io.BytesIO(data)).size
            align = (max(16, block[0]), max(16, block[1]))
            files.append((data, choose_windows(width, height, windows, rng, align=align)))
    pixels = _slice(files)
    encoders: dict[str, Callable[[np.ndarray], bytes]] = {"raw": np.ndarray.tobytes}
    encoders |= {name: partial(_save, form=f, options=o) for name, (f, o) in _SAVED.items()}
    stored = {_DCT: _cut(files)}
    stored |= {name: list(map(encode, pixels)) for name, encode in encoders.items()}
    decoded = {
        name: list(map(_from_raw if name == "raw" else decode_window, data))
        for name, data in stored.items()
    }
    for name in encoders:
        assert all(map(np.array_equal, decoded[name], pixels)), f"{name} is not lossless"
    makers: dict[str, Callable[[], Any]] = {"slice": partial(_slice, files)}
    makers |= {name: partial(_all, encode, pixels) for name, encode in encoders.items()}
    makers[_DCT] = partial(_cut, files)
    made = take_turns(makers, rounds)
    read = take_turns(
        {
            name: partial(_all, _from_raw if name == "raw" else decode_window, data)
            for name, data in stored.items()
        },
        rounds,
    )
    table = Table(
        "A window in different encodings",
        (
            *("encoding", "KB", "x", "made from the file, ms", "of it encoding", "x"),
            *("decoded, ms", "x"),
        ),
    )
    make = {_DCT: made[_DCT]} | {name: made["slice"] + made[name] for name in encoders}
    for name, data in stored.items():
        sizes = np.array(list(map(len, data)))
        cells = (
            f"{sizes.mean() / 1e3:.1f}",
            f"{sizes.sum() / sum(map(len, stored[_CHOSEN])):.2f}",
            f"{1e3 * np.median(make[name]) / len(pixels):.2f}",
            "-" if name == _DCT else f"{1e3 * np.median(made[name]) / len(pixels):.2f}",
            spread(make[name] / make[_CHOSEN]),
            f"{1e3 * np.median(read[name]) / len(pixels):.2f}",
            spread(read[name] / read[_CHOSEN]),
        )
        table.lines.append((name, *cells))
        table.measured[name] = {
            "bytes": float(sizes.mean()),
            "make_ms": (1e3 * make[name] / len(pixels)).tolist(),
            "decode_ms": (1e3 * read[name] / len(pixels)).tolist(),
        }
    far = differences(decoded[_DCT], pixels)
    table.measured |= {"photos": len(files), "windows": len(pixels), "difference": far}
    table.notes = [
        f"{len(pixels)} windows of {len(files)} {origin}, up to {windows} a photo, which share the "
        f"cost of opening it. 'x' is relative to {_CHOSEN}. Pillow decodes to uint8 RGB.",
        "Chosen: the original's DCT blocks for JPEG photos, because they are the smallest and keep "
        "the camera's own quantisation; PNG at level 1 for all others, because higher levels "
        "take longer to write and save few bytes, and TensorFlow, which may read the records as "
        "well, decodes no WebP.",
        f"Windows cut as DCT blocks and the same places of the decoded photos: "
        f"{far['fraction']:.2%} of the pixels differ, by at most {far['levels']:.0f} levels, none "
        f"further than {far['border']:.0f} pixels from the window's edge."
        if far["border"]
        else "Windows cut as DCT blocks and the same places of the decoded photos are equal.",
    ]
    return table


def _all(function: Callable[[Any], Any], values: Sequence[Any]) -> None:
    for value in values:
        function(value)


class _Bare:
    """Records read with ArrayRecord and decoded with Pillow, and nothing else.

    The image is found in the record by its first bytes; nothing else of it is parsed.
    """

    def __init__(self, directory: Path) -> None:
        self._paths = sorted(directory.glob("*-train.array_record*"))
        self._readers = threading.local()  # what Grain's own source does is not imitated
        self._places = [
            (shard, number)
            for shard, path in enumerate(self._paths)
            for number in range(ArrayRecordReader(str(path)).num_records())
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __call__(self, index: int) -> np.ndarray:
        shard, number = self._places[index]
        if not hasattr(self._readers, "open"):
            options = "readahead_buffer_size:0"
            self._readers.open = [ArrayRecordReader(str(path), options) for path in self._paths]
        (record,) = self._readers.open[shard].read([number])
        start = min(at for at in map(record.find, _MAGIC) if at >= 0)
        return decode_window(record[start:])


def thread_counts() -> list[int]:
    """1, 2, 4, ... up to twice the cores."""
    most = 2 * (os.cpu_count() or 1)
    return [count for count in (2**power for power in range(11)) if count <= max(2, most)]


def measure_reading(
    records: Records, origin: str, images: int, batch: int, rounds: int, threads: Sequence[int]
) -> Table:
    """Images a second of the Grain pipeline and of bare loops, by threads.

    Args:
        records: with a split `train`.
        origin: of them, for the note.
        images: read in a turn; a multiple of `batch`.
        batch: images of a batch.
        rounds: turns that each side takes.
        threads: numbers of them.
    """
    bare, source = _Bare(records.directory), records.source("train")
    assert np.array_equal(bare(0), records.decode(source[0])["image"])
    rng = np.random.default_rng(0)
    order = np.concatenate(
        [rng.permutation(len(bare)) for _ in range(-(-images // len(bare)))]
    ).tolist()[:images]

    def loop(pool: ThreadPoolExecutor, function: Callable[[int], Any]) -> None:
        share = max(1, images // (8 * pool._max_workers))
        pieces = [order[start : start + share] for start in range(0, images, share)]
        for _ in pool.map(partial(_all, function), pieces):
            pass

    def grain(dataset: Any) -> None:
        iterator = iter(dataset)  # a new one each turn, so that nothing is read before it
        for _ in range(images // batch):
            next(iterator)

    tasks: dict[str, Callable[[], Any]] = {}
    for count in threads:
        pool = ThreadPoolExecutor(count)
        tasks[f"bare {count}"] = partial(loop, pool, bare)
        tasks[f"records {count}"] = partial(loop, pool, lambda i: records.decode(source[i]))
        dataset = record_batches(records, "train", batch, 0, count)
        tasks[f"grain {count}"] = partial(grain, dataset)
    seconds = take_turns(tasks, rounds)
    table = Table(
        "Reading the records",
        (
            *("threads", "bare loop, images/s", "Grain pipeline, images/s"),
            *("pipeline / bare", "records parsed, without Grain / bare"),
        ),
        notes=[
            f"{images} of {len(bare)} windows of {origin}, in shuffled order, batches of {batch}. "
            "The bare loop reads the record with ArrayRecord and decodes its image with Pillow. "
            "The last column also parses the records and their tags, in plain threads.",
        ],
    )
    for count in threads:
        bare_s, records_s, grain_s = (seconds[f"{k} {count}"] for k in ("bare", "records", "grain"))
        table.lines.append(
            (
                str(count),
                f"{np.median(images / bare_s):.0f}",
                f"{np.median(images / grain_s):.0f}",
                spread(bare_s / grain_s),
                spread(bare_s / records_s),
            )
        )
    table.measured = {"images": images, "seconds": {k: v.tolist() for k, v in seconds.items()}}
    return table
