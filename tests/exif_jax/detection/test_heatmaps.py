"""Heat maps as files: the right half is red, upright as people look at the picture."""

import numpy as np
import pytest
from PIL import Image

from exif_jax.detection.detectors import load_detector
from exif_jax.detection.heatmaps import HeatMaps, upright
from exif_jax.detection.judging import Picture
from tests.exif_jax.noise_detector import CALM, NOISY, picture


@pytest.fixture(scope="module")
def spliced():
    """A photo on the left, calm on the right."""
    return np.concatenate([picture(NOISY, 384, 384), picture(CALM, 384, 384, seed=1)], axis=1)


def redness(drawn):
    pixels = np.asarray(drawn).astype(int)
    return pixels[..., 0] - pixels[..., 2]


def draw(noise_detector, folder, pixels, orientation=1, path="a/b.jpg"):
    maps = HeatMaps(load_detector(noise_detector), folder)
    file, regions = maps(Picture(path, pixels, None, orientation, ()))
    with Image.open(file) as image:
        return file, image.convert("RGB"), regions


def test_a_spliced_picture_is_red_on_the_right(noise_detector, spliced, tmp_path):
    _, image, regions = draw(noise_detector, tmp_path, spliced)
    assert image.height == 384 and image.width > 768  # the picture as it is, and the legend
    red = redness(image)
    assert red[:, 20:200].mean() < -10 and red[:, 560:750].mean() > 10
    assert np.asarray(image)[:, 770:].std() > 10  # something is in the legend
    scores = np.array(regions["scores"])
    assert scores.shape == (len(regions["tops"]), len(regions["lefts"])) == (2, 5)
    assert scores[:, 0].max() < 0.1 and scores[:, -1].min() > 0.9


def test_it_is_turned_as_exif_says(noise_detector, spliced, tmp_path):
    # Orientation 6: the picture is shown after a quarter turn clockwise, so right becomes below.
    _, image, _ = draw(noise_detector, tmp_path, spliced, orientation=6)
    assert image.height == 768
    red = redness(image)
    assert red[20:200, :384].mean() < -10 and red[560:750, :384].mean() > 10
    shown = Image.fromarray(spliced)
    for orientation, size in [(1, (768, 384)), (5, (384, 768)), (8, (384, 768)), (99, (768, 384))]:
        assert upright(shown, orientation).size == size


@pytest.mark.parametrize("shape", [(1, 1), (30, 500), (300, 200), (64, 6000)])
def test_every_size_can_be_drawn(noise_detector, tmp_path, shape):
    _, image, regions = draw(noise_detector, tmp_path, picture(NOISY, *shape))
    assert max(image.size) <= 1600 + 130 and min(image.size) >= 136
    assert np.isfinite(regions["scores"]).all()


def test_names_of_files_are_safe_and_differ(noise_detector, tmp_path):
    pixels = picture(NOISY)
    names = ["../x/<b>.jpg", "../y/<b>.jpg", ".." + "é" * 300, "a\nb.png"]
    files = [draw(noise_detector, tmp_path, pixels, path=name)[0] for name in names]
    assert len(set(files)) == len(names)
    assert {path.parent for path in tmp_path.rglob("*.png")} == {tmp_path}
    assert len(list(tmp_path.iterdir())) == len(names)
