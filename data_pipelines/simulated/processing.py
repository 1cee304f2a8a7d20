"""Processing: raw signal to the picture, as the maker and the chosen modes would have it."""

import dataclasses

import numpy as np

from data_pipelines.simulated.cameras import Camera, Processing
from data_pipelines.simulated.demosaic import demosaic
from data_pipelines.simulated.exposure import Settings
from data_pipelines.simulated.filters import blur
from data_pipelines.simulated.lens import mosaic_colours
from data_pipelines.simulated.sensor import noise_deviation

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# What the scene capture types change: factors on (luma denoise, sharpening, saturation).
_SCENE_FACTORS = {0: (1.0, 1.0, 1.0), 1: (0.6, 1.7, 1.15), 2: (1.3, 0.15, 0.95), 3: (2.2, 0.6, 0.9)}


def develop(
    raw_HW: np.ndarray, camera: Camera, settings: Settings, illuminant: np.ndarray
) -> np.ndarray:
    """Develops a raw signal, float32 [H, W] in 0..1, to a picture, uint8 [H, W, 3].

    The illuminant is the colour of the light, float32 [3], green = 1.
    """
    recipe = _recipe(camera.processing, settings)
    gains = _white_balance(illuminant, settings)
    colours = mosaic_colours(camera.sensor.shape, camera.sensor.mosaic)
    balanced = np.minimum(raw_HW * gains[colours], 1)
    linear = demosaic(balanced, camera.sensor.mosaic, recipe.gradient_correction)
    display = _tone_curve(linear, recipe.contrast)
    luma = display @ _LUMA
    chroma = display - luma[..., None]
    # The camera knows its noise: at middle grey, through the slope of the curve there.
    noise = 1.2 * float(noise_deviation(camera, settings.iso, 0.18))
    luma = _shrink_detail(luma, recipe.luma_denoise * noise)
    luma = luma + recipe.sharpening * (luma - blur(luma, recipe.radius))
    chroma = np.float32(recipe.saturation) * blur(chroma, recipe.chroma_denoise)
    return np.round(np.clip(luma[..., None] + chroma, 0, 1) * 255).astype(np.uint8)


def _recipe(processing: Processing, settings: Settings) -> Processing:
    """The model's processing as modified by the scene capture type and the exposure mode."""
    denoise, sharpening, saturation = _SCENE_FACTORS[settings.scene_type]
    if settings.exposure_mode == 1:  # Who sets the exposure by hand gets a plainer picture.
        sharpening *= 0.3
        denoise *= 0.3
    return dataclasses.replace(
        processing,
        luma_denoise=processing.luma_denoise * denoise,
        chroma_denoise=processing.chroma_denoise * denoise**0.5,
        sharpening=processing.sharpening * sharpening,
        saturation=processing.saturation * saturation,
    )


def _white_balance(illuminant: np.ndarray, settings: Settings) -> np.ndarray:
    """Gains of red, green, blue: most of the light's colour, or none of it under a fixed preset."""
    correction = 0.0 if settings.white_balance == 1 else 0.85
    return (illuminant**-correction).astype(np.float32)


def _tone_curve(linear: np.ndarray, contrast: float) -> np.ndarray:
    """Gamma 1/2.2, then a blend with the S-curve 3 x^2 - 2 x^3."""
    display = np.power(np.clip(linear, 0, 1), np.float32(1 / 2.2))
    return display + contrast * (display * display * (3 - 2 * display) - display)


def _shrink_detail(luma_HW: np.ndarray, noise: float) -> np.ndarray:
    """Wiener-like: detail well above the noise stays, detail below it goes."""
    smooth = blur(luma_HW, 1.2)
    detail = luma_HW - smooth
    power = detail * detail
    return smooth + detail * (power / (power + np.float32(1.5 * noise) ** 2 + np.float32(1e-12)))
