import numpy as np
import pytest

from data_pipelines.simulated.scenes import (
    MIDDLE_GREY,
    SCENE_SCALE,
    power_law_noise,
    sample_scene,
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scene_is_linear_light_at_twice_the_resolution(seed):
    scene = sample_scene(np.random.default_rng(seed), (64, 96), "train")
    assert scene.radiance_HWC.shape == (64 * SCENE_SCALE, 96 * SCENE_SCALE, 3)
    assert scene.radiance_HWC.dtype == np.float32
    assert scene.radiance_HWC.min() >= 0
    neutral = scene.radiance_HWC / scene.illuminant
    assert neutral.mean() == pytest.approx(MIDDLE_GREY, rel=1e-3)


def test_same_seed_same_scene():
    first, second = (sample_scene(np.random.default_rng(5), (32, 32), "test") for _ in range(2))
    np.testing.assert_array_equal(first.radiance_HWC, second.radiance_HWC)
    assert first.brightness_value == second.brightness_value


def test_power_law_noise_has_the_slope_asked_for():
    noise = power_law_noise(np.random.default_rng(0), (256, 256), slope=1.5)
    amplitude = np.abs(np.fft.rfft2(noise))
    low, high = amplitude[3:5, 3:5].mean(), amplitude[48:80, 48:80].mean()
    assert np.log(low / high) / np.log(16) == pytest.approx(1.5, abs=0.25)
