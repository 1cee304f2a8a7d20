"""Sensor: light on a mosaic becomes a noisy raw signal."""

import numpy as np

from data_pipelines.simulated.cameras import Camera
from data_pipelines.simulated.exposure import Settings


def noise_deviation(camera: Camera, iso: float, signal: np.ndarray | float) -> np.ndarray:
    """Standard deviation of shot and read noise for a signal relative to saturation."""
    gain = iso / 100
    shot_variance = np.maximum(signal, 0) * gain / camera.sensor.full_well
    return np.sqrt(shot_variance + (camera.sensor.read_noise * gain**0.75) ** 2)


def expose(
    rng: np.random.Generator, light_HW: np.ndarray, camera: Camera, body: int, settings: Settings
) -> np.ndarray:
    """Raw signal of one exposure, float32 [H, W] in 0..1, quantised to 12 bits.

    The light is float32 [H, W], linear, 1 = saturation. The rest is as in `camera.photograph`.
    """
    specimen = np.random.default_rng([body, *camera.model.encode()])
    pattern = specimen.standard_normal(light_HW.shape, dtype=np.float32)
    banding = specimen.standard_normal((1, light_HW.shape[1]), dtype=np.float32)
    hot = specimen.random(light_HW.shape, dtype=np.float32)

    gain = settings.iso / 100
    signal = light_HW * (1 + camera.sensor.pattern_noise * pattern)
    deviation = noise_deviation(camera, settings.iso, signal).astype(np.float32)
    signal = signal + deviation * rng.standard_normal(light_HW.shape, dtype=np.float32)
    signal += np.float32(0.15 * camera.sensor.read_noise * gain**0.75) * banding
    # One pixel in 500 is hot; its dark signal grows with time and gain.
    dark = camera.sensor.dark_current * settings.exposure_time * gain
    signal += np.where(hot < 0.002, np.minimum(dark * hot * 500, 0.3), 0)
    return (np.round(np.clip(signal, 0, 1) * 4095) / 4095).astype(np.float32)
