"""The photos of the benchmark of `prepare`: real ones where they are there, and SIMULATED ones."""

import dataclasses
import datetime
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import piexif
from PIL import Image

from data_pipelines.images import find_images

_CELL = 256  # pixels between the random colours that the scene is interpolated from
_SHIFTS = 256
_SENSOR = 16.0  # standard deviation of the stored noise, in levels
# With this much noise a simulated photo has 0.23 bytes a pixel, the median of the real originals.
_NOISE = 2.5
_START = datetime.datetime(2020, 1, 1, 12)
SMALL = (1152, 864)
"""Width and height of the simulated photos of a megapixel."""


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


@dataclasses.dataclass(frozen=True)
class Format:
    """How a simulated photo is stored.

    Attributes:
        name: Pillow's.
        options: of Pillow's `save`.
    """

    name: str
    options: tuple[tuple[str, object], ...] = ()


JPEG = Format("JPEG", (("quality", 92), ("subsampling", "4:2:0")))
PNG = Format("PNG", (("compress_level", 1),))
TIFF = Format("TIFF")


def decode_file(path: str) -> None:
    """Decodes a file with Pillow and does nothing else."""
    with Image.open(path) as image:
        image.load()


def _exif(index: int, width: int, height: int) -> bytes:
    """EXIF as a camera writes it; the photos are an hour apart, so none are a burst."""
    taken = _START + datetime.timedelta(hours=index)
    main = {
        piexif.ImageIFD.Make: "Simulated",
        piexif.ImageIFD.Model: f"Benchmark {index % 7}",
        piexif.ImageIFD.ImageDescription: "Simulated photograph; no real camera took it",
    }
    exif = {
        piexif.ExifIFD.ExposureTime: (1, 60 + index % 500),
        piexif.ExifIFD.FNumber: (28 + index % 50, 10),
        piexif.ExifIFD.ISOSpeedRatings: 100 * (1 + index % 16),
        piexif.ExifIFD.FocalLength: (240 + index % 300, 10),
        piexif.ExifIFD.Flash: index % 2,
        piexif.ExifIFD.MeteringMode: 5,
        piexif.ExifIFD.ExposureMode: 0,
        piexif.ExifIFD.WhiteBalance: 0,
        piexif.ExifIFD.SceneCaptureType: 0,
        piexif.ExifIFD.DateTimeOriginal: f"{taken:%Y:%m:%d %H:%M:%S}",
        piexif.ExifIFD.PixelXDimension: width,
        piexif.ExifIFD.PixelYDimension: height,
    }
    block: bytes = piexif.dump({"0th": main, "Exif": exif})
    return block


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


def simulate_photos(folder: Path, count: int, size: tuple[int, int], form: Format = JPEG) -> Path:
    """Writes simulated photos, each with another scene; returns their folder.

    Args:
        folder: to make, unless it is there already.
        count: of the photos.
        size: width and height.
        form: how they are stored.
    """
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    simulate = _simulator(*size)

    def write(index: int) -> None:
        path = folder / f"{index:05d}.{form.name.lower()}"
        options = dict(form.options)
        Image.fromarray(simulate(index)).save(path, exif=_exif(index, *size), **options)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(write, range(count)))
    return folder


def photos_in(folder: Path | None) -> list[Path]:
    """Lists the photos in an optional folder and below; none where it is absent."""
    return find_images([folder]) if folder is not None and folder.is_dir() else []


def link_photos(folder: Path, photos: Sequence[Path], times: int) -> Path:
    """Makes a folder of links to photos, each several times under other names; returns it."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for copy, (index, path) in itertools.product(range(times), enumerate(photos)):
            (folder / f"{copy:02d}_{index:05d}{path.suffix}").symlink_to(path.resolve())
    return folder


def first_photos(folder: Path, count: int, source: Path) -> Path:
    """Makes a folder of links to the first photos of another; returns it."""
    return link_photos(folder, sorted(source.iterdir())[:count], 1)


def read_all(paths: Iterable[Path]) -> list[bytes]:
    """Reads files whole."""
    return [path.read_bytes() for path in paths]
