"""Pieces of real photographs beside pieces of generated images, where the data are present."""

import numpy as np
import pytest

from data_pipelines.images import decode_image
from data_pipelines.perturbations import parse_perturbation
from exif_jax.detection.detectors import load_detector

SIDE = 512
CELL = 256


def middle(path):
    """Both classes compressed alike, so that it is not the file that is told apart."""
    image = parse_perturbation("jpeg:90").apply(decode_image(path))
    top, left = ((side - SIDE) // 2 for side in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


# The one-class detector is the weaker one: 7 of 10 when this was written.
@pytest.mark.parametrize(("name", "least"), [("binary", 0.9), ("one_class", 0.65)])
def test_a_spliced_picture_lights_up_on_its_generated_half(name, least, real_data):
    # The shipped detectors were trained on windows of these images: this is about the place of
    # what lights up, not about how well unseen images are told apart.
    full = real_data / "dev" / "full"
    photos, generated = (sorted((full / kind).iterdir()) for kind in ("photos", "generated"))
    detector = load_detector(name)
    higher = []
    for number, pair in enumerate(zip(photos[:10], generated[:10], strict=True)):
        turned = number % 2 == 1
        halves = list(map(middle, reversed(pair) if turned else pair))
        scores, cells = detector.cells(np.concatenate(halves, axis=1))
        lefts = np.array(cells.lefts)
        left, right = scores[:, lefts + CELL <= SIDE], scores[:, lefts >= SIDE]
        higher.append((right.mean() > left.mean()) != turned)
    assert np.mean(higher) >= least, higher
