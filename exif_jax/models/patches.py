"""What turns uint8 images into network input on the device: crops, scrambling, normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from data_pipelines.images import PATCH, at_least_one_patch

# Channel statistics of the published model.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
# Whole numbers near the means of pixels 0..255.
OFFSETS = np.rint(255 * np.array(MEAN))


def normalise(x: Array) -> Array:
    """Pixels 0..255 [..., 3] -> normalised floats: scaled to 0..1, channel mean and deviation.

    The result has the default float type (float64 where it is enabled, else float32).
    """
    mean = jnp.asarray(MEAN).reshape((1,) * (x.ndim - 1) + (3,))
    std = jnp.asarray(STD).reshape(mean.shape)
    return (x / 255.0 - mean) / std


def whole_pixels(x: Array) -> Array:
    """Pixels 0..255 less `OFFSETS`, exactly, of what `normalise` made of them [..., 3]."""
    shape = (1,) * (x.ndim - 1) + (3,)
    scale = jnp.asarray(255 * np.array(STD), x.dtype).reshape(shape)
    remainder = jnp.asarray(255 * np.array(MEAN) - OFFSETS, x.dtype).reshape(shape)
    return jnp.round(x * scale + remainder)


def random_patches(keys: Array, images: Array, sizes: Array, num_patches: int) -> Array:
    """Random 64x64 crops of every image: the spatially scrambled patches of the paper.

    Args:
        keys: one PRNG key an image, [B].
        images: uint8 [B, H, W, 3], the image in the upper left corner.
        sizes: int32 [B, 2], height and width of the image inside its array, each at least 64.
        num_patches: crops an image.

    Returns:
        uint8 [B, num_patches, 64, 64, 3]; positions are uniform and independent.
    """

    def crop_image(key: Array, image: Array, size: Array) -> Array:
        corners = jax.random.randint(key, (num_patches, 2), 0, size[None] - PATCH + 1)
        return jax.vmap(lambda corner: lax.dynamic_slice(image, (*corner, 0), (PATCH, PATCH, 3)))(
            corners
        )

    return jax.vmap(crop_image)(keys, images, sizes)


def patch_grid(image: np.ndarray) -> np.ndarray:
    """All non-overlapping 64x64 cells of the largest centre crop, as a view of the image.

    Args:
        image: uint8 [H, W, 3] of any size; one with a side under 64 is first resized to 64x64
            (bilinear, antialiased).

    Returns:
        uint8 [H // 64, W // 64, 64, 64, 3], at least one cell.
    """
    image = at_least_one_patch(image)
    rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
    top = (image.shape[0] - rows * PATCH) // 2
    left = (image.shape[1] - columns * PATCH) // 2
    cropped = image[top : top + rows * PATCH, left : left + columns * PATCH]
    return cropped.reshape(rows, PATCH, columns, PATCH, 3).swapaxes(1, 2)


def grid_patches(image: np.ndarray) -> np.ndarray:
    """The cells of `patch_grid` in raster order, uint8 [N, 64, 64, 3], N >= 1."""
    return patch_grid(image).reshape(-1, PATCH, PATCH, 3)
