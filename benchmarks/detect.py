"""Speed and memory of `exif-jax detect` on this machine: its start, pictures, windows.

python benchmarks/detect.py [--detector NAME_OR_DIR]

Without --detector the shipped one judges, or, where none is shipped, one of the same form with
random weights, which is as fast. `--quick` checks the script itself, with sizes whose numbers mean
nothing. Results go to results/detect_DEVICE.md and .json beside this file. All pictures are
gradients and noise.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from detect_numpy import describe_in_numpy, operations
from measuring import Report, Rows, command_line, peak_memory, progress, take_turns
from PIL import Image

from data_pipelines.images import WINDOW, decode_image
from data_pipelines.items import Item
from data_pipelines.storage import expand_user
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection.cells import find_cells
from exif_jax.detection.detectors import Detector, load_detector, save_detector
from exif_jax.detection.features import extract_descriptions
from exif_jax.detection.judging import judge
from exif_jax.detection.shipped import DEFAULT, shipped_detectors
from exif_jax.models.extractor import init_extractor
from exif_jax.models.residual_covariance import ResidualCovarianceExtractor
from exif_jax.models.trained import LoadedExtractor

ROOT = Path(__file__).resolve().parents[1]
# On a CPU, on an accelerator, with --quick.
SIZES = {
    "rounds": (5, 5, 1),  # turns that each side of a comparison takes
    "images": (12, 64, 1),  # of 1 MP that are judged in a turn
    "sides": (  # of the pictures whose memory is measured
        ((1000, 1000), (3000, 4000), (4000, 6000), (5000, 20_000)),
        ((1000, 1000), (3000, 4000), (4000, 6000), (5000, 20_000)),
        ((300, 300), (600, 600)),
    ),
    "side": (1024, 1024, 256),  # of the pictures that are called 1 MP
    "product": (2048, 4096, 256),  # side of the matrices that are multiplied
}
NOISE = 6.0  # deviation, in levels of 0..255
MIB = 2**20


def write_picture(path: Path, height: int, width: int, seed: int = 0) -> Path:
    """A JPEG of a slow gradient and noise; tiles of one noise, as what is large takes long."""
    rng = np.random.default_rng(seed)
    tile = rng.normal(scale=NOISE, size=(256, 256, 3)).astype(np.float32)
    pixels = np.empty((height, width, 3), np.uint8)
    columns = 40 * np.sin(np.arange(width, dtype=np.float32) / 97)[:, None]
    noise = np.tile(tile, (1, -(-width // 256), 1))[:, :width]
    for row in range(height):
        values = 128 + 40 * np.cos(row / 61) + columns + noise[row % 256]
        pixels[row] = np.clip(np.rint(values), 0, 255)
    Image.fromarray(pixels).save(path, quality=92)
    return path


def write_untrained(folder: Path) -> Path:
    """A detector of the shipped one's form with random weights, sure of every picture."""
    model = ResidualCovarianceEncoder(64, (256, 128))
    params = jax.tree.map(np.array, init_extractor(model.build(), jax.random.key(0)))
    kernel = np.random.default_rng(0).normal(scale=0.01, size=(64, 2)).astype(np.float32)
    head = {"fc": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}
    extractor = LoadedExtractor(model.build(), params, model, {}, (), folder)
    verdicts = {
        "photo_below": 0.5,
        "generated_above": 0.5,
        "calibration": {"slope": 1.0, "intercept": 0.0},
    }
    facts = {"score_of": "cells", "verdicts": verdicts}
    save_detector(folder, "binary", 0.5, extractor, {"head": head}, facts)
    return folder


def run_command(words: Sequence[str | Path], cache: Path) -> tuple[float, float, int]:
    """Runs `exif-jax detect` in a process of its own.

    Args:
        words: its arguments.
        cache: the user's cache, where compiled programs are kept.

    Returns:
        Seconds to the first verdict, processor seconds of all, and the peak of memory in bytes.
    """
    kept = {name: text for name, text in os.environ.items() if not name.startswith("JAX_COMP")}
    kept |= {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen(
        [sys.executable, "-m", "exif_jax.cli", "detect", "--json", *map(str, words)],
        env=kept,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with peak_memory(process.pid) as peaks:
        first = process.stdout.readline()
        seconds = time.perf_counter() - start
        process.stdout.read()
        status = process.wait()
    if status or '"verdict"' not in first:
        raise RuntimeError(f"exif-jax detect ended with status {status}")
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return seconds, used, peaks.get(process.pid, 0)


def start(folder: Path, detector: Path, picture: Path, sizes: Any) -> Rows:
    """From the start of the process to the first verdict, with and without kept programs."""
    cold, warm = [], []
    for turn in range(sizes.rounds):
        cache = folder / f"cache{turn}"
        for times in (cold, warm):
            times.append(run_command([picture, "--detector", detector], cache)[:2])
    return [
        {
            "start": name,
            "to the first verdict, s": np.array(times)[:, 0],
            "processor time of all, s": np.array(times)[:, 1],
        }
        for name, times in (("nothing compiled yet", cold), ("programs kept", warm))
    ]


def pictures(detector: Detector, paths: Sequence[Path], sizes: Any) -> Rows:
    """Pictures of 1 MP a second once all is compiled; and by processor time, of one core."""
    items = [Item(str(path), str(path)) for path in paths]

    def task(stability: bool) -> Callable[[], object]:
        return lambda: list(judge(detector, items, stability=stability))

    tasks = {"score alone": task(False), "with the check of stability": task(True)}
    wall = take_turns(tasks, sizes.rounds)
    used = take_turns(tasks, sizes.rounds, time.process_time)
    return [
        {
            "1 MP pictures, JPEG": name,
            "pictures/s": len(items) / wall[name],
            "pictures per second of one core": len(items) / used[name],
        }
        for name in tasks
    ]


def memory(folder: Path, detector: Path, sizes: Any) -> Iterator[dict[str, Any]]:
    """Peak memory of the whole command by the size of its one picture."""
    smallest: dict[str, float] = {}
    for height, width in sizes.sides:
        path = write_picture(folder / "picture.jpg", height, width)
        row: dict[str, Any] = {"picture": f"{width} x {height}", "MP": height * width / 1e6}
        row["pixels, MiB"] = 3 * height * width / MIB
        for name, options in (("score alone", ["--no-stability"]), ("with stability", [])):
            words = [path, "--detector", detector, *options]
            peak = run_command(words, folder / "cache0")[2] / MIB
            smallest.setdefault(name, peak)
            row[f"peak, {name}, MiB"] = peak
            row[f"bytes a pixel more than the first, {name}"] = (
                (peak - smallest[name]) * MIB / (height * width - np.prod(sizes.sides[0]))
                if row["MP"] * 1e6 != np.prod(sizes.sides[0])
                else 0.0
            )
        yield row


def windows(detector: Detector, picture: Path, sizes: Any) -> tuple[Rows, list[str]]:
    """Processor time of a window's description, the file's decoding included."""
    extractor = detector.extractor.module
    assert isinstance(extractor, ResidualCovarianceExtractor)
    pixels = decode_image(picture)
    cells = find_cells(pixels.shape, WINDOW)
    kinds = extractor.statistics, extractor.scales
    ours = extract_descriptions(extractor, cells.cut(pixels))
    theirs = np.stack([describe_in_numpy(cell, *kinds) for cell in cells.cut(pixels)])
    difference = float(np.abs(ours - theirs).max())
    if difference > 0.01:
        raise RuntimeError(f"the two forms differ by {difference}")
    square = np.random.default_rng(0).normal(size=(sizes.product, sizes.product))
    matrix = square.astype(np.float32)
    product = jax.jit(lambda a: a @ a)
    tasks: dict[str, Callable[[], Any]] = {
        "decoding alone": lambda: decode_image(picture),
        "ours": lambda: extract_descriptions(extractor, cells.cut(decode_image(picture))),
        "NumPy": lambda: [
            describe_in_numpy(cell, *kinds) for cell in cells.cut(decode_image(picture))
        ],
        "XLA's product of matrices": partial(product, matrix),
        "NumPy's product of matrices": lambda: matrix @ matrix,
    }
    used = take_turns(tasks, sizes.rounds, time.process_time)
    rate = 2 * sizes.product**3 / np.minimum(*list(used.values())[3:])
    done = operations(*kinds) * len(cells)
    rows: Rows = []
    for name in ("decoding alone", "ours", "NumPy"):
        rows.append({"form": name, "ms of one core a window": 1e3 * used[name] / len(cells)})
        if name != "decoding alone":
            rows[-1]["times as fast as NumPy"] = used["NumPy"] / used[name]
            rows[-1]["% of the rate of products"] = 100 * done / used[name] / rate
    notes = [
        f"The two forms differ by {difference:.2g} at most, in descriptions whose numbers deviate "
        f"by {theirs.std(axis=1).mean():.2g}. Products of float32 matrices of side "
        f"{sizes.product}, by XLA or NumPy, whichever is faster: {np.median(rate) / 1e9:.0f} "
        f"GFLOP for each second of a core; a window takes {operations(*kinds) / 1e6:.0f} MFLOP."
    ]
    return rows, notes


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    parser = command_line(__doc__)
    parser.add_argument(
        "--detector", type=expand_user, metavar="NAME_OR_DIR", help="as in exif-jax detect"
    )
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        given = options.detector or (DEFAULT if DEFAULT in shipped_detectors() else None)
        remark = f"Detector: {given or 'random weights, in the form of the shipped one'}."
        report = Report("detect", options, SIZES, remark)
        sizes = report.sizes
        used = given or write_untrained(folder / "detector")
        detector = load_detector(used)
        paths = [
            write_picture(folder / f"{seed}.jpg", sizes.side, sizes.side, seed)
            for seed in range(sizes.images)
        ]
        progress("measuring: the start of the command ...")
        report.add("Start", start(folder, used, paths[0], sizes))
        progress("measuring: pictures, within a process ...")
        report.add("Pictures", pictures(detector, paths, sizes))
        if isinstance(detector.extractor.module, ResidualCovarianceExtractor):
            progress("measuring: the description of a window ...")
            rows, notes = windows(detector, paths[0], sizes)
            report.add("A window of 256x256", rows, *notes)
        progress("measuring: memory ...")
        report.add("Memory", list(memory(folder, used, sizes)))


if __name__ == "__main__":
    main()
