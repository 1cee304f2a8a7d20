"""Encodings of a window."""

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Report, progress, take_turns
from PIL import Image

from data_pipelines.images import WINDOW, decode_image
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows

_CHOSEN = "PNG, level 1"
_DCT = "DCT blocks of the original"
_SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    _CHOSEN: ("PNG", {"compress_level": 1}),
    "PNG, level 3": ("PNG", {"compress_level": 3}),
    "PNG, level 6": ("PNG", {"compress_level": 6}),
    "WebP, lossless, method 0": ("WEBP", {"lossless": True, "method": 0}),
    "WebP, lossless, method 4": ("WEBP", {"lossless": True, "method": 4}),
}


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
