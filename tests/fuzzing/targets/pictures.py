"""Image files: as `detect`, `prepare` and training read them."""

from pathlib import Path

import numpy as np
from numpy.random import Generator

from data_pipelines.images import ImageError, decode_image
from data_pipelines.items import Item
from data_pipelines.prepare.options import REASONS, Options
from data_pipelines.prepare.reader import PreparedPhoto, Reject, read_photo
from exif_jax.detection.judging import read_picture
from tests.fuzzing.bombs import BOMBS
from tests.fuzzing.files import KINDS, hostile_file
from tests.fuzzing.target import Case, FoundError, Target, refused

_LARGEST = 4_000_000  # pixels
# What needs gigabytes by its nature is read by processes with limits: `tests.fuzzing.prepared`.
_KINDS = tuple(kind for kind in KINDS if kind not in BOMBS)
_BOMBS = ("bmp_size", "exif_chain", "exif_nested", "exif_many_entries", "mpo_index", "polyglot")


def make(rng: Generator) -> Case:
    """A hostile file of any kind that is small."""
    kinds = _BOMBS if rng.integers(10) == 0 else _KINDS
    kind = kinds[int(rng.integers(len(kinds)))]
    return {"file": hostile_file(rng, kind)}


def run(case: Case, folder: Path) -> str:
    """Decodes it and reads what it says of itself."""
    data = case.get("file", b"")
    (folder / "file.jpg").write_bytes(data)
    photo = read_photo(data, Options(reject=(), max_pixels=_LARGEST))
    if isinstance(photo, Reject):
        if photo.reason not in REASONS or not photo.detail or "\n" in photo.detail:
            raise FoundError(f"a reason: {photo}")
        outcome = photo.reason
    else:
        assert isinstance(photo, PreparedPhoto) and photo.windows
        outcome = "a photo"
    try:
        pixels = decode_image(data, max_pixels=_LARGEST)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise FoundError(f"pixels: {pixels.dtype} {pixels.shape}")
        read_picture(Item("file.jpg", str(folder / "file.jpg")))
    except ImageError as error:
        refused(error)
    return outcome


TARGET = Target(make, run, cases=200)
