"""Cells cover an image, side by side or overlapping, on the grid of its patches."""

import numpy as np
import pytest

from exif_jax.detection.cells import FEW, Cells, by_patch, few_cells, find_cells
from exif_jax.models.patches import grid_patches


@pytest.mark.parametrize("shape", [(256, 256), (300, 700), (64, 64), (1030, 130), (450, 451)])
@pytest.mark.parametrize("stride", [64, 128, 256])
def test_cells_cover_every_patch_and_no_other_pixel(shape, stride):
    image = np.random.default_rng(0).integers(256, size=(*shape, 3), dtype=np.uint8)
    cells = find_cells(image.shape, stride)
    cut = list(cells.cut(image))
    assert len(cut) == len(cells) and len({part.shape for part in cut}) == 1
    assert max(cut[0].shape[:2]) <= 256 and all(part.base is not None for part in cut)
    patches = {patch.tobytes() for part in cut for patch in grid_patches(part)}
    assert patches == {patch.tobytes() for patch in grid_patches(image)}
    counts = by_patch(cells, np.ones((len(cells.tops), len(cells.lefts))))
    np.testing.assert_array_equal(counts, np.ones((shape[0] // 64, shape[1] // 64)))


def test_small_images_are_one_cell():
    assert find_cells((256, 256, 3), 128) == Cells((0,), (0,), 256, 256)
    assert find_cells((319, 319, 3), 256) == Cells((31,), (31,), 256, 256)
    assert find_cells((40, 900, 3), 128) == Cells((0,), (0,), 40, 900)
    assert find_cells((1, 1, 3), 128) == Cells((0,), (0,), 1, 1)


def test_cells_step_and_end_where_the_image_ends():
    cells = find_cells((256, 1000, 3), 256)  # 15 columns of patches from pixel 20
    assert cells.lefts == (20, 276, 532, 724)
    assert find_cells((256, 1000, 3), 128).lefts == (20, 148, 276, 404, 532, 660, 724)


@pytest.mark.parametrize("shape", [(256, 256), (512, 300), (300, 4000), (640, 640), (3000, 4000)])
def test_few_cells_are_some_of_all_and_lie_apart(shape):
    cells = find_cells(shape, 256)
    few = few_cells(cells)
    assert len(few) == min(len(cells), FEW)
    assert set(few.tops) <= set(cells.tops) and set(few.lefts) <= set(cells.lefts)
    assert (few.height, few.width) == (cells.height, cells.width)


def test_few_cells_of_a_large_image_lie_at_its_quarters():
    few = few_cells(find_cells((2048, 4096), 256))
    assert few.tops == (512, 1536) and few.lefts == (1024, 3072)


def test_a_patch_has_the_mean_of_the_cells_over_it():
    cells = find_cells((256, 384, 3), 128)
    assert cells.lefts == (0, 128)
    np.testing.assert_array_equal(
        by_patch(cells, np.array([[0.0, 1.0]]))[0], [0, 0, 0.5, 0.5, 1, 1]
    )


def test_json_has_places_and_scores():
    cells = find_cells((256, 384, 3), 128)
    assert cells.to_json(np.array([[0.12345678, 1]], np.float32)) == {
        **{"tops": [0], "lefts": [0, 128], "height": 256, "width": 256},
        "scores": [[0.123457, 1.0]],
    }
