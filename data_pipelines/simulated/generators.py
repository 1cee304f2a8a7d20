"""Generated images: the scenes without a camera, drawn by small fixed decoders.

Each family stands for one way in which image generators make pixels: decoders that upsample a
latent by transposed convolution, by nearest-neighbour or by bilinear interpolation and then
convolve with fixed random weights, and a denoiser that smooths and then invents texture. Mean
colour, contrast and file size are matched to a photograph, so that only the structure of the fine
detail tells them apart.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from scipy import ndimage

from data_pipelines.simulated.cameras import Jpeg
from data_pipelines.simulated.filters import (
    blur,
    box_downsample,
    channel_means,
    correlate,
    fine_detail,
)
from data_pipelines.simulated.scenes import SCENE_SCALE, Scene

# What a family returns: a base image and invented detail, both float32 [H, W, 3].
Decoder = Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]

_LATENT_SCALE = 2
_MATCHING_STEPS = 3
_HIDDEN = 5


@dataclasses.dataclass(frozen=True)
class Family:
    """One kind of generator.

    Attributes:
        name: also the name of its test set.
        decode: from scene content (float32, SCENE_SCALE times the picture) to base and detail.
        held_out: never used in training.
    """

    name: str
    decode: Decoder
    held_out: bool = False


def generate(
    rng: np.random.Generator, scene: Scene, family: Family, photo_HWC: np.ndarray, jpeg: Jpeg
) -> np.ndarray:
    """Draws a scene without a camera, matched to a photograph of something else.

    The scene is SCENE_SCALE times the photograph, uint8 [H, W, 3], whose mean colour and contrast
    are taken over. The strength of fine detail is chosen so that both need about as many bytes when
    compressed by `jpeg`.
    """
    photo = photo_HWC.astype(np.float32) / 255
    content = np.power(np.minimum(scene.radiance_HWC / scene.illuminant, 1), np.float32(1 / 2.2))
    base, detail = family.decode(rng, content)
    base = _match_colours(base, photo)
    invented = float(rng.uniform(0.35, 0.75))
    fine = _unit(fine_detail(base)) * np.float32(np.sqrt(1 - invented))
    fine += _unit(fine_detail(detail)) * np.float32(np.sqrt(invented))
    fine *= np.float32(np.abs(fine_detail(photo)).mean() / max(np.abs(fine).mean(), 1e-9))
    smooth = blur(base, 1.0)
    bytes_wanted = len(jpeg.encode(photo_HWC))
    for _ in range(_MATCHING_STEPS):
        image = _with_means(smooth + fine, channel_means(photo))
        ratio = bytes_wanted / len(jpeg.encode(image))
        # File size grows about as the square root of the detail.
        fine = fine * np.float32(np.clip(ratio**2, 0.5, 2.0))
    return _with_means(smooth + fine, channel_means(photo))


def _with_means(image_HWC: np.ndarray, means_C: np.ndarray) -> np.ndarray:
    """Clips to 0..1, restores the mean of every colour and quantises to uint8."""
    image = np.clip(image_HWC, 0, 1)
    image += means_C - channel_means(image)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _unit(detail_HWC: np.ndarray) -> np.ndarray:
    """Scaled to a root mean square of one."""
    return detail_HWC / np.float32(max(np.sqrt(np.mean(detail_HWC**2)), 1e-9))


def _match_colours(image_HWC: np.ndarray, like_HWC: np.ndarray) -> np.ndarray:
    """Takes over the mean of every colour and the overall contrast of another image."""
    gain = np.float32(like_HWC.std() / max(image_HWC.std(), 1e-3))
    return (image_HWC - channel_means(image_HWC)) * gain + channel_means(like_HWC)


def _decoder(upsample: Callable[[np.ndarray], np.ndarray], weights_seed: int) -> Decoder:
    """A two-layer decoder with fixed random weights around one kind of upsampling.

    Base: the latent image, upsampled. Detail: latent colours and noise, convolved, rectified,
    upsampled the same way and convolved to colours.
    """
    weights = np.random.default_rng(weights_seed)
    inner = weights.normal(0, 1 / 3, (_HIDDEN, 6, 3, 3)).astype(np.float32)
    outer = weights.normal(0, 1 / 3, (3, _HIDDEN, 3, 3)).astype(np.float32)
    # Detail is mostly grey, as luma dominates natural fine detail.
    outer = 0.75 * outer.mean(axis=0, keepdims=True) + 0.25 * outer

    def decode(rng: np.random.Generator, content: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        latent = box_downsample(content, SCENE_SCALE * _LATENT_SCALE)
        noise = 0.15 * rng.standard_normal(latent.shape, dtype=np.float32)
        features = np.concatenate([fine_detail(latent), noise], axis=-1)
        hidden = _convolve(features, inner)
        hidden = np.maximum(hidden, 0.2 * hidden)
        return upsample(latent), _convolve(upsample(hidden), outer)

    return decode


def _convolve(image_HWC: np.ndarray, weights_OIkk: np.ndarray) -> np.ndarray:
    planes = [
        sum(correlate(image_HWC[..., i], kernel) for i, kernel in enumerate(kernels_Ikk))
        for kernels_Ikk in weights_OIkk
    ]
    return np.stack(planes, axis=-1)


def _transposed_convolution(image_HWC: np.ndarray) -> np.ndarray:
    """Stride 2, kernel 3: neighbours overlap unevenly, which leaves a checkerboard."""
    kernel = np.array([[0.23, 0.52, 0.25], [0.5, 1.06, 0.48], [0.26, 0.5, 0.24]], np.float32)
    height, width, channels = image_HWC.shape
    spread = np.zeros((2 * height, 2 * width, channels), np.float32)
    spread[::2, ::2] = image_HWC
    return _of_each_colour(spread, kernel)


def _nearest(image_HWC: np.ndarray) -> np.ndarray:
    return image_HWC.repeat(_LATENT_SCALE, axis=0).repeat(_LATENT_SCALE, axis=1)


def _bilinear(image_HWC: np.ndarray) -> np.ndarray:
    """Every new pixel takes 3/4 of the nearer and 1/4 of the farther old one, on both axes."""
    kernel = np.outer([0.25, 0.5, 0.25], [0.25, 0.5, 0.25]).astype(np.float32)
    return _of_each_colour(_nearest(image_HWC), kernel)


def _of_each_colour(image_HWC: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    planes = [correlate(image_HWC[..., c], kernel) for c in range(image_HWC.shape[-1])]
    return np.stack(planes, axis=-1)


def _smooth_denoiser(
    rng: np.random.Generator, content: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Local Wiener filter (Lee, 1980) of the noisy scene, plus band-limited invented texture."""
    image = box_downsample(content, SCENE_SCALE)
    noise = 0.05
    noisy = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    window = (5, 5, 1)
    mean = ndimage.uniform_filter(noisy, window)
    variance = np.maximum(ndimage.uniform_filter(noisy * noisy, window) - mean * mean, 0)
    base = mean + variance / (variance + 2 * noise**2) * (noisy - mean)
    grain = rng.standard_normal(image.shape[:2], dtype=np.float32)
    texture = blur(grain, 0.8) - blur(grain, 2.0)
    strength = 0.02 + np.sqrt(variance.mean(axis=-1))
    return base, np.repeat((texture * strength)[..., None], 3, axis=-1)


FAMILIES: tuple[Family, ...] = (
    Family("transposed_convolution", _decoder(_transposed_convolution, weights_seed=11)),
    Family("nearest_decoder", _decoder(_nearest, weights_seed=12)),
    Family("bilinear_decoder", _decoder(_bilinear, weights_seed=13), held_out=True),
    Family("smooth_denoiser", _smooth_denoiser),
)
