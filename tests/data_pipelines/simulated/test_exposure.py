import math

import numpy as np
import pytest

from data_pipelines.simulated.cameras import CAMERAS
from data_pipelines.simulated.exposure import choose_settings, exposure_stops, zoom_position
from data_pipelines.simulated.scenes import sample_scene


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_settings_stay_within_what_the_camera_can_do(camera):
    rng = np.random.default_rng(0)
    for _ in range(12):
        scene = sample_scene(rng, (32, 32), "train")
        settings = choose_settings(rng, camera, scene)
        shortest, longest = camera.lens.focal_lengths
        assert shortest - 0.05 <= settings.focal_length <= longest + 0.05
        assert -1e-6 <= zoom_position(camera, settings.focal_length) <= 1.02
        narrowest = max(camera.lens.narrowest, settings.max_aperture)
        assert settings.max_aperture <= settings.f_number <= narrowest
        assert camera.sensor.iso[0] <= settings.iso <= camera.sensor.iso[1]
        assert camera.sensor.fastest * 0.75 <= settings.exposure_time <= 2
        assert settings.metering_mode in camera.exif.metering_modes


def test_exposure_follows_the_apex_equation_and_the_bias():
    rng = np.random.default_rng(1)
    errors = []
    for _ in range(40):
        scene = sample_scene(rng, (32, 32), "train")
        settings = choose_settings(rng, CAMERAS[0], scene)
        if settings.exposure_mode == 0 and not settings.flash_fired:
            level = exposure_stops(settings, settings.brightness_value)
            errors.append(level - settings.exposure_bias)
    assert len(errors) > 10
    assert abs(np.median(errors)) < 0.2
    assert np.mean(np.abs(errors) < 0.35) > 0.8


def test_one_stop_of_time_is_one_stop_of_light():
    scene = sample_scene(np.random.default_rng(2), (32, 32), "train")
    settings = choose_settings(np.random.default_rng(2), CAMERAS[0], scene)
    expected = (
        math.log2(settings.iso / 3.125)
        - 2 * math.log2(settings.f_number)
        + math.log2(settings.exposure_time)
    )
    assert exposure_stops(settings, 1.0) == pytest.approx(1.0 + expected)
