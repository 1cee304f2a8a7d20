import numpy as np
import pytest

from data_pipelines.simulated.demosaic import demosaic
from data_pipelines.simulated.lens import mosaic_colours


@pytest.mark.parametrize("mosaic", ["RGGB", "GRBG", "BGGR", "GBRG"])
@pytest.mark.parametrize("correction", [0.0, 0.5, 1.0])
def test_constant_colour_is_restored_under_every_mosaic(mosaic, correction):
    colour = np.array([0.2, 0.5, 0.7], np.float32)
    raw = colour[mosaic_colours((16, 12), mosaic)]
    picture = demosaic(raw, mosaic, correction)
    np.testing.assert_allclose(picture, np.broadcast_to(colour, (16, 12, 3)), atol=1e-6)


def test_own_colour_of_every_pixel_is_kept():
    raw = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    colours = mosaic_colours((16, 16), "RGGB")
    picture = demosaic(raw, "RGGB", 1.0)
    np.testing.assert_array_equal(np.take_along_axis(picture, colours[..., None], 2)[..., 0], raw)


def test_gradient_correction_is_better_on_grey_detail():
    rows, columns = np.mgrid[:64, :64]
    grey = (0.5 + 0.3 * np.sin(0.9 * rows + 0.5 * columns)).astype(np.float32)
    error = [np.abs(demosaic(grey, "RGGB", c) - grey[..., None])[4:-4, 4:-4].mean() for c in (0, 1)]
    assert error[1] < 0.5 * error[0]
