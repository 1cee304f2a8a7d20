"""Lens: blur, motion, lateral chromatic aberration, distortion and vignetting on the sensor."""

import math

import numpy as np
from scipy import fft, ndimage

from data_pipelines.simulated.cameras import Camera
from data_pipelines.simulated.exposure import Settings, zoom_position
from data_pipelines.simulated.scenes import SCENE_SCALE

# Diffraction grows with wavelength; focus errors hit blue first. Order: red, green, blue.
_DIFFRACTION_BY_COLOUR = (1.25, 1.0, 0.8)
_ABERRATION_BY_COLOUR = (0.85, 0.75, 1.4)
# Share of the scene within the frame; the rest hides that the blur wraps around.
_FRAME = 0.975
_PIXEL_BLUR = 0.32  # standard deviation of a pixel's own area, pixels


def blur_widths(camera: Camera, settings: Settings) -> np.ndarray:
    """Standard deviation of the lens blur of each colour, float [3], in pixels."""
    wide_open = settings.max_aperture / settings.f_number
    aberration = camera.lens.aberration * wide_open * np.array(_ABERRATION_BY_COLOUR)
    diffraction = camera.lens.diffraction * settings.f_number / 16
    return np.sqrt(
        _PIXEL_BLUR**2 + aberration**2 + (diffraction * np.array(_DIFFRACTION_BY_COLOUR)) ** 2
    )


def shake(rng: np.random.Generator, camera: Camera, settings: Settings) -> tuple[float, float]:
    """Motion blur by a shaking hand: standard deviation along rows and along columns, pixels."""
    per_second = 0.12 * settings.focal_length * camera.lens.crop_factor
    extent = min(1.6, per_second * settings.exposure_time * rng.lognormal(0.0, 0.3))
    angle = rng.uniform(0, math.pi)
    return extent * abs(math.sin(angle)), extent * abs(math.cos(angle))


def mosaic_colours(shape: tuple[int, int], mosaic: str) -> np.ndarray:
    """Colour index (0 red, 1 green, 2 blue) of every pixel under the mosaic; int [H, W]."""
    tile = np.array(["RGB".index(letter) for letter in mosaic]).reshape(2, 2)
    return np.tile(tile, (shape[0] // 2, shape[1] // 2))


def project(
    radiance_HWC: np.ndarray, camera: Camera, settings: Settings, motion: tuple[float, float]
) -> np.ndarray:
    """Light that falls on every pixel of the mosaic, in the one colour the pixel sees.

    The radiance is float32 [SCENE_SCALE * H, SCENE_SCALE * W, 3], linear; so is the light, in the
    same unit, float32 [H, W]. The motion is that of `shake`.
    """
    height, width = camera.sensor.shape
    rows = (np.arange(height, dtype=np.float32) - (height - 1) / 2)[:, None]
    columns = (np.arange(width, dtype=np.float32) - (width - 1) / 2)[None, :]
    corner = math.hypot(height / 2, width / 2)
    radius2 = (rows**2 + columns**2) / corner**2
    towards_wide = 1 - 2 * zoom_position(camera, settings.focal_length)
    # Barrel at the wide end, pincushion at the long one; the constant keeps the frame covered.
    distortion = camera.lens.distortion * towards_wide
    scale = _FRAME * (1 + distortion * radius2 - max(distortion, 0.0))

    colours = mosaic_colours(camera.sensor.shape, camera.sensor.mosaic)
    signal = np.empty((height, width), np.float32)
    for colour, width_of_blur in enumerate(blur_widths(camera, settings)):
        plane = _blurred(
            radiance_HWC[..., colour],
            SCENE_SCALE * math.hypot(width_of_blur, motion[0]),
            SCENE_SCALE * math.hypot(width_of_blur, motion[1]),
        )
        shift = camera.lens.chromatic * towards_wide * (1 - colour) / (2 * corner)
        sites = colours == colour
        magnified = (scale + np.float32(shift))[sites]
        # Centre of picture pixel i lies at scene index SCENE_SCALE * i + (SCENE_SCALE - 1) / 2.
        where_row, where_column = np.nonzero(sites)
        coordinates = np.stack(
            [
                SCENE_SCALE * rows[where_row, 0] * magnified + (plane.shape[0] - 1) / 2,
                SCENE_SCALE * columns[0, where_column] * magnified + (plane.shape[1] - 1) / 2,
            ]
        )
        signal[sites] = ndimage.map_coordinates(plane, coordinates, order=1, mode="nearest")
    return signal * _illumination(camera, settings, radius2)


def _blurred(plane_HW: np.ndarray, sigma_rows: float, sigma_columns: float) -> np.ndarray:
    """Gaussian blur through the transfer function; wraps around at the borders."""
    rows = fft.fftfreq(plane_HW.shape[0]).astype(np.float32)[:, None]
    columns = fft.rfftfreq(plane_HW.shape[1]).astype(np.float32)[None, :]
    transfer_rows = np.exp(-2 * (math.pi * sigma_rows * rows) ** 2)
    transfer_columns = np.exp(-2 * (math.pi * sigma_columns * columns) ** 2)
    spectrum = fft.rfft2(plane_HW) * transfer_rows * transfer_columns
    return np.maximum(fft.irfft2(spectrum, s=plane_HW.shape), 0)


def _illumination(camera: Camera, settings: Settings, radius2_HW: np.ndarray) -> np.ndarray:
    """Vignetting, and the uneven light of a flash."""
    wide_open = settings.max_aperture / settings.f_number
    light = 1 - camera.lens.vignetting * wide_open * radius2_HW
    if settings.flash_fired:
        light = light * (1.25 * np.exp(-0.8 * radius2_HW))
    return light.astype(np.float32)
