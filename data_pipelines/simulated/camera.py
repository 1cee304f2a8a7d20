"""One exposure from scene to picture."""

import numpy as np

from data_pipelines.simulated.cameras import Camera
from data_pipelines.simulated.exposure import Settings, exposure_stops
from data_pipelines.simulated.lens import project, shake
from data_pipelines.simulated.processing import develop
from data_pipelines.simulated.scenes import Scene
from data_pipelines.simulated.sensor import expose

# How much of the exposure the white light of a flash gives when it fires.
_FLASH_SHARE = 0.75


def photograph(
    rng: np.random.Generator, scene: Scene, camera: Camera, body: int, settings: Settings
) -> np.ndarray:
    """Takes a photograph of a scene with one specimen (`body`) of a camera model.

    Args:
        rng: source of noise and shake.
        scene: SCENE_SCALE times the sensor's shape.
        camera: the model.
        body: settles the fixed pattern and the hot pixels of the sensor.
        settings: what it is set to.

    Returns:
        uint8 [H, W, 3], the camera's picture before JPEG compression.
    """
    radiance, illuminant = scene.radiance_HWC, scene.illuminant
    brightness = scene.brightness_value
    if settings.flash_fired:
        illuminant = (1 - _FLASH_SHARE) * scene.illuminant + _FLASH_SHARE
        radiance = radiance * (illuminant / scene.illuminant)
        brightness = max(brightness, settings.brightness_value)
    level = np.float32(2.0 ** exposure_stops(settings, brightness))
    light = level * project(radiance, camera, settings, shake(rng, camera, settings))
    raw = expose(rng, light, camera, body, settings)
    return develop(raw, camera, settings, illuminant)
