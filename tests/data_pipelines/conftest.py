"""Crafted photos for the tests of reading and preparing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from PIL import Image

MakePhoto = Callable[..., Path]

EXIF_2022 = {
    piexif.ExifIFD.FNumber: (28, 10),
    piexif.ExifIFD.ExposureTime: (1, 60),
    piexif.ExifIFD.ISOSpeedRatings: 200,
    piexif.ExifIFD.FocalLength: (50, 1),
    piexif.ExifIFD.Flash: 16,
}


@pytest.fixture
def make_photo(tmp_path: Path) -> MakePhoto:
    """Writes a photo with a smooth scene, noise and EXIF; returns its path."""

    def make(
        name: str,
        *,
        size: tuple[int, int] = (256, 256),
        make: str = "Canon",
        model: str = "Canon EOS 700D",
        time: str = "2022:05:01 10:00:00",
        seed: int = 0,
        main: dict[int, Any] | None = None,
        camera: dict[int, Any] | None = None,
        **other_ifds: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        scene = np.linspace(40, 200, size[0])[None, :, None]
        pixels = np.clip(scene + rng.normal(0, 9, (size[1], size[0], 3)), 0, 255).astype(np.uint8)
        exif = {
            "0th": {piexif.ImageIFD.Make: make, piexif.ImageIFD.Model: model, **(main or {})},
            "Exif": {**EXIF_2022, piexif.ExifIFD.DateTimeOriginal: time, **(camera or {})},
            **other_ifds,
        }
        Image.fromarray(pixels).save(path, quality=90, exif=piexif.dump(exif))
        return path

    return make
