"""The photos of the benchmark of `prepare`, real or SIMULATED, and running the command on them."""

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from measuring import peak_memory, progress
from PIL import Image

_ROOT = Path(__file__).resolve().parents[1]
_CELL = 256  # pixels between the random colours that the scene is interpolated from
_SHIFTS = 256
_SENSOR = 16.0  # standard deviation of the stored noise, in levels
# With this much noise a simulated photo has 0.23 bytes a pixel, the median of the real originals.
_NOISE = 2.5
# How the formats are written.
_SAVED: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 92, "subsampling": "4:2:0"},
    "PNG": {"compress_level": 1},
    "TIFF": {},
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """Photos of one kind, and how they are prepared.

    Attributes:
        name: for the tables.
        folder: that holds nothing but them.
        encoding: of the windows.
    """

    name: str
    folder: Path
    encoding: str = "dct"

    @property
    def paths(self) -> list[str]:
        """Of the files, sorted."""
        return sorted(map(str, self.folder.iterdir()))

    @property
    def megabytes(self) -> float:
        """Of all files."""
        return sum(path.stat().st_size for path in self.folder.iterdir()) / 1e6


def _exif(index: int, width: int, height: int) -> bytes:
    """EXIF as a camera writes it; the photos are an hour apart, so none are a burst."""
    exif = Image.Exif()
    exif.update({0x010E: "Simulated photograph; no real camera took it"})
    exif.update({0x010F: "Simulated", 0x0110: f"Benchmark {index % 7}"})
    hour, day = index % 24, 1 + index // 24 % 28
    exif.get_ifd(0x8769).update(
        {
            **{0x829A: 1 / (60 + index % 500), 0x829D: 2.8 + index % 50 / 10},
            **{0x8827: 100 * (1 + index % 16), 0x920A: 24 + index % 300 / 10},
            **{0x9209: index % 2, 0x9207: 5, 0xA402: 0, 0xA403: 0, 0xA406: 0},
            **{0xA002: width, 0xA003: height},
            0x9003: f"2020:{1 + index // 672:02d}:{day:02d} {hour:02d}:00:00",
        }
    )
    return exif.tobytes()


def _simulator(width: int, height: int) -> Callable[[int], np.ndarray]:
    """Returns index -> a smooth scene with noise like a sensor's, uint8 [height, width, 3].

    The noise of all photos is cut from one field at random places: drawing it anew would take
    longer than all that is measured.
    """
    rng = np.random.default_rng(0)
    shape = (height + _SHIFTS, width + _SHIFTS, 3)
    field = np.clip(rng.standard_normal(shape, np.float32) * _SENSOR, -127, 127).astype(np.int8)
    levels = np.arange(256)
    # More light, more noise, as of photons; in 64ths of the field.
    gain = (64 / _SENSOR * _NOISE * np.sqrt(1 + levels / 32)).astype(np.int16)

    def simulate(index: int) -> np.ndarray:
        rng = np.random.default_rng([1, index])
        coarse = (height // _CELL + 2, width // _CELL + 2, 3)
        colours = Image.fromarray(rng.integers(30, 226, coarse, np.uint8))
        scene = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC))
        y, x = rng.integers(_SHIFTS, size=2)
        noise = field[y : y + height, x : x + width].astype(np.int16) * gain[scene] >> 6
        return np.clip(scene + noise, 0, 255).astype(np.uint8)

    return simulate


def simulated(scratch: Path, size: tuple[int, int], count: int, form: str = "JPEG") -> Kind:
    """Photos of width and height `size`, each of another scene, made when first asked for."""
    name = f"SIMULATED {size[0] * size[1] / 1e6:.3g} megapixels, {form}"
    folder = scratch / f"simulated_{form}_{size[0]}_{count}"
    if not folder.exists():
        progress(f"making {count} photos: {name} ...")
        folder.mkdir()
        simulate = _simulator(*size)

        def write(index: int) -> None:
            image = Image.fromarray(simulate(index))
            path = folder / f"{index:05d}.{form.lower()}"
            image.save(path, exif=_exif(index, *size), **_SAVED[form])

        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            list(pool.map(write, range(count)))
    return Kind(name, folder, "dct" if form == "JPEG" else "pixels")


def linked(folder: Path, photos: Sequence[Path], times: int = 1) -> Path:
    """Makes a folder of links to photos, each several times under other names; returns it."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for copy, (index, path) in itertools.product(range(times), enumerate(photos)):
            (folder / f"{copy:02d}_{index:05d}{path.suffix}").symlink_to(path.resolve())
    return folder


def first(kind: Kind, count: int, **changes: str) -> Kind:
    """The first photos of a kind, beside it, with some attributes changed."""
    folder = kind.folder.with_name(f"{kind.folder.name}_first_{count}")
    linked(folder, sorted(kind.folder.iterdir())[:count])
    return dataclasses.replace(kind, folder=folder, **changes)


@dataclasses.dataclass
class Prepare:
    """Runs of the command, each into a new directory.

    Attributes:
        scratch: where the directories are made; nobody else uses it.
        last: the latest of them.
    """

    scratch: Path
    last: Path = Path()

    def clear(self) -> None:
        """Deletes what was made; not within a turn, as it takes time."""
        shutil.rmtree(self.scratch)

    def run(
        self, kind: Kind, workers: int, out: Path | None = None, kill_after: float | None = None
    ) -> list[int]:
        """Runs the command.

        Args:
            kind: what is prepared.
            workers: processes that read photos.
            out: to continue; a new directory by default.
            kill_after: seconds after which it is killed.

        Returns:
            Peaks of the memory of its processes, in bytes, the one that was started first.

        Raises:
            RuntimeError: it failed, or ended before it could be killed.
        """
        self.scratch.mkdir(exist_ok=True)
        self.last = out or Path(tempfile.mkdtemp(dir=self.scratch), "records")
        # Real photos are there several times under other names: accepted.
        words = [
            *(sys.executable, "-m", "exif_jax.cli", "prepare", kind.folder, "--out", self.last),
            *("--workers", workers, "--encoding", kind.encoding, "--accept", "duplicate"),
            *("--validation-fraction", 0),
        ]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                list(map(str, words)), stdout=subprocess.DEVNULL, stderr=errors, cwd=_ROOT
            )
            with peak_memory(process.pid) as peaks:
                try:
                    status = process.wait(kill_after)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                else:
                    errors.seek(0)
                    if status or kill_after:
                        message = errors.read().decode()[-2000:]
                        raise RuntimeError(f"exif-jax prepare: status {status}: {message}")
        return list(peaks.values()) or [0]


def decode(path: str) -> None:
    """Decodes a file with Pillow: the bound of preparing it."""
    with Image.open(path) as image:
        image.load()
