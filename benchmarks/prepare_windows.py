"""Encodings of a window, and reading windows back through Grain."""

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from measuring import Table, progress, spread, take_turns
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


def _from_raw(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).reshape(WINDOW, WINDOW, 3).copy()


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


def measure_encodings(paths: Sequence[Path], origin: str, windows: int, rounds: int) -> Table:
    """Bytes and times of a window in every encoding.

    Args:
        paths: of JPEG photos.
        origin: of them, for the note.
        windows: of each photo, at most.
        rounds: turns that each encoding takes.
    """
    progress("measuring: encodings ...")
    files = _photos(paths, windows)
    pixels = _slice(files)
    encoders: dict[str, Callable[[np.ndarray], bytes]] = {"raw": np.ndarray.tobytes}
    encoders |= {name: partial(_save, form=f, options=o) for name, (f, o) in _SAVED.items()}
    stored = {_DCT: _cut(files)} | {name: _all(encode, pixels) for name, encode in encoders.items()}
    readers = {name: _from_raw if name == "raw" else _decode for name in stored}
    for name in encoders:
        decoded = _all(readers[name], stored[name])
        assert all(map(np.array_equal, decoded, pixels)), f"{name} is not lossless"
    makers: dict[str, Callable[[], Any]] = {"slice": partial(_slice, files)}
    makers |= {name: partial(_all, encode, pixels) for name, encode in encoders.items()}
    made = take_turns(makers | {_DCT: partial(_cut, files)}, rounds)
    decoders = {name: partial(_all, readers[name], data) for name, data in stored.items()}
    read = take_turns(decoders, rounds)
    table = Table(
        "A window in different encodings",
        (
            *("encoding", "KB", "x", "made from the file, ms", "of it encoding", "x"),
            *("decoded, ms", "x"),
        ),
    )
    make = {_DCT: made[_DCT]} | {name: made["slice"] + made[name] for name in encoders}
    each = 1e3 / len(pixels)
    for name, data in stored.items():
        size = float(np.mean(list(map(len, data))))
        cells = (
            f"{size / 1e3:.1f}",
            f"{size / np.mean(list(map(len, stored[_CHOSEN]))):.2f}",
            f"{each * np.median(make[name]):.2f}",
            "-" if name == _DCT else f"{each * np.median(made[name]):.2f}",
            spread(make[name] / make[_CHOSEN]),
            f"{each * np.median(read[name]):.2f}",
            spread(read[name] / read[_CHOSEN]),
        )
        table.lines.append((name, *cells))
        times = {"make_ms": (each * make[name]).tolist(), "decode_ms": (each * read[name]).tolist()}
        table.measured[name] = {"bytes": size, **times}
    table.notes = [
        f"{len(pixels)} windows of {len(files)} {origin}, up to {windows} a photo, which share the "
        f"cost of opening it. 'x' is relative to {_CHOSEN}. Pillow decodes to uint8 RGB.",
        "Chosen: the original's DCT blocks for JPEG photos, because they are the smallest and keep "
        "the camera's own quantisation; PNG at level 1 for all others, because higher levels "
        "take longer to write and save few bytes, and TensorFlow, which may read the records as "
        "well, decodes no WebP.",
    ]
    return table


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
        return _decode(record[start:])


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
    progress("measuring: reading the records ...")
    bare, source = _Bare(records.directory), records.source("train")
    assert np.array_equal(bare(0), records.decode(source[0])["image"])
    rng = np.random.default_rng(0)
    order = np.concatenate(
        [rng.permutation(len(bare)) for _ in range(-(-images // len(bare)))]
    ).tolist()[:images]

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
        measured={"images": images, "seconds": {k: v.tolist() for k, v in seconds.items()}},
    )
    for count in threads:
        bare_s, records_s, grain_s = (seconds[f"{k} {count}"] for k in ("bare", "records", "grain"))
        rates = (f"{np.median(images / s):.0f}" for s in (bare_s, grain_s))
        table.lines.append(
            (str(count), *rates, spread(bare_s / grain_s), spread(bare_s / records_s))
        )
    return table
