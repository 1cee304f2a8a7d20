"""Patches: random ones inside the image, the evaluation grid, normalisation."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipelines.images import at_least_one_patch
from exif_jax.models.patches import MEAN, STD, grid_patches, normalise, random_patches


def coordinates(height, width):
    """An image whose pixels tell where they are."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)


def test_normalise_is_the_published_scaling():
    white = np.asarray(normalise(np.full((1, 2, 2, 3), 255, np.uint8)))
    np.testing.assert_allclose(white[0, 0, 0], (1 - np.array(MEAN)) / STD, rtol=1e-6)


def test_random_patches_lie_inside_their_images():
    sizes = np.array([[64, 64], [100, 70], [128, 128]], np.int32)
    images = np.stack([coordinates(128, 128)] * 3)
    keys = jax.random.split(jax.random.key(0), 3)
    patches = np.asarray(random_patches(keys, images, sizes, 50))
    assert patches.shape == (3, 50, 64, 64, 3)
    for image, (height, width) in zip(patches, sizes, strict=True):
        assert image[..., 0].max() < height
        assert image[..., 1].max() < width
        # Each is a contiguous crop.
        assert (np.diff(image[..., 0].astype(int), axis=1) == 1).all()
        assert (np.diff(image[..., 1].astype(int), axis=2) == 1).all()
    tops = patches[2, :, 0, 0, 0]
    assert tops.min() < 10
    assert tops.max() > 54


def test_random_patches_of_an_image_depend_on_its_key_alone():
    images = np.random.default_rng(0).integers(256, size=(4, 80, 80, 3), dtype=np.uint8)
    sizes, keys = np.full((4, 2), 80, np.int32), jax.random.split(jax.random.key(0), 4)
    together = random_patches(keys, images, sizes, 3)
    alone = random_patches(keys[2:3], images[2:3], sizes[2:3], 3)
    np.testing.assert_array_equal(together[2:3], alone)


@settings(max_examples=20)
@given(st.integers(64, 200), st.integers(64, 200))
def test_grid_is_the_centre_crop_in_raster_order(height, width):
    image = coordinates(height, width)
    patches = grid_patches(image)
    rows, columns = height // 64, width // 64
    assert patches.shape == (rows * columns, 64, 64, 3)
    top, left = (height - 64 * rows) // 2, (width - 64 * columns) // 2
    for index, patch in enumerate(patches):
        y, x = top + 64 * (index // columns), left + 64 * (index % columns)
        np.testing.assert_array_equal(patch, image[y : y + 64, x : x + 64])


@pytest.mark.parametrize("size", [(1, 1), (63, 200), (200, 10)])
def test_a_small_image_becomes_one_patch(size):
    image = np.full((*size, 3), 77, np.uint8)
    assert at_least_one_patch(image).shape == (64, 64, 3)
    patches = grid_patches(image)
    assert patches.shape == (1, 64, 64, 3)
    assert (patches == 77).all()
