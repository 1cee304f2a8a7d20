"""From one photo file to windows with tags, or to the reason why it is of no use."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.exif import CaptureKey, capture_key, exif_of_image
from data_pipelines.images import ImageError, open_image, read_bytes, to_rgb
from data_pipelines.records import WINDOW
from data_pipelines.tags import parse_tags

ALIGNMENT = 16
"""Windows start at multiples of this: JPEG codes colour in blocks of up to 16 pixels."""

# Level 3 is within 6% of the size of the default level 6 at a third of its time.
_PNG_COMPRESSION = 3


@dataclasses.dataclass(frozen=True)
class Reject:
    """A file that is not used.

    Attributes:
      reason: Short code for counting.
      detail: One line for people.
    """

    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class PhotoInfo:
    """What is known of a photo besides its pixels.

    Attributes:
      photo: Id, from the file's bytes: stable, and the same for copies of a file.
      key: Camera and time, for finding bursts; never stored.
      values: Valid tag values by name.
      width: Of the stored pixels.
      height: Of the stored pixels.
      corners: (x, y) of each window.
    """

    photo: int
    key: CaptureKey
    values: Mapping[str, str | float]
    width: int
    height: int
    corners: tuple[tuple[int, int], ...]


def read_photo(
    path: Path, *, max_windows: int, seed: int, max_pixels: int
) -> tuple[PhotoInfo, list[bytes]] | Reject:
    """Reads a photo and cuts its windows; never raises on a bad file.

    Returns:
      The photo and its windows as PNG files, or why it is rejected: a reason of `ImageError`,
      "too_small", a problem of `Exif` ("no_exif", "exif_too_large", "damaged_exif"), or "no_tags"
      where there is EXIF but not one valid value.
    """
    try:
        data = read_bytes(path)
        image = open_image(data, max_pixels=max_pixels)
        if min(image.size) < WINDOW:
            detail = f"{image.width} x {image.height} pixels, a window takes {WINDOW} x {WINDOW}"
            return Reject("too_small", detail)
        exif = exif_of_image(image)
        if exif.problem:
            return Reject(exif.problem, "no EXIF that can be read")
        values = parse_tags(exif.raw)
        if not values:
            return Reject("no_tags", "EXIF without one valid value of a tag that is learned")
        pixels = to_rgb(image)
    except ImageError as error:
        return Reject(error.reason, str(error))
    photo = int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1  # fits a signed integer
    corners = choose_windows(
        pixels.shape[1], pixels.shape[0], max_windows, np.random.default_rng([seed, photo])
    )
    info = PhotoInfo(
        photo, capture_key(exif), values, pixels.shape[1], pixels.shape[0], tuple(corners)
    )
    return info, [_encode_png(pixels[y : y + WINDOW, x : x + WINDOW]) for x, y in corners]


def choose_windows(
    width: int, height: int, max_windows: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Chooses windows that do not overlap, at corners aligned to the coding blocks.

    The windows are cells of a grid that is shifted at random, as far as no row or column is lost.

    Args:
      width: Of the photo, at least `WINDOW`.
      height: Of the photo, at least `WINDOW`.
      max_windows: At most so many; fewer if no more fit.
      rng: Random numbers.

    Returns:
      (x, y) of each window's top left pixel, in raster order.
    """
    columns, rows = width // WINDOW, height // WINDOW
    left = ALIGNMENT * int(rng.integers((width % WINDOW) // ALIGNMENT + 1))
    top = ALIGNMENT * int(rng.integers((height % WINDOW) // ALIGNMENT + 1))
    cells = rng.choice(columns * rows, size=min(max_windows, columns * rows), replace=False)
    return [
        (left + WINDOW * (cell % columns), top + WINDOW * (cell // columns))
        for cell in sorted(cells.tolist())
    ]


def _encode_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=_PNG_COMPRESSION)
    return file.getvalue()
