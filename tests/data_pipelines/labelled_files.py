"""A few labelled images of different sizes, the last of which is cut off."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.labelled import LabelledImage


def write_labelled(folder: Path, suffix: str, broken: str = "broken") -> list[LabelledImage]:
    """Writes seven images, of which two count as generated, and one that cannot be read."""
    rng = np.random.default_rng(0)
    images = []
    for index in range(7):
        path = folder / f"{index}{suffix}"
        size = (300, 280) if index % 2 else (90, 40)
        Image.fromarray(rng.integers(256, size=(*size, 3), dtype=np.uint8)).save(path)
        images.append(LabelledImage(path, int(index > 4), str(index)))
    cut = folder / f"{broken}{suffix}"
    cut.write_bytes(images[0].path.read_bytes()[:200])
    return [*images, LabelledImage(cut, 1, "broken")]
