"""Each setting leaves in the picture what physics says it leaves."""

import dataclasses
import itertools

import numpy as np
import pytest

from data_pipelines.simulated.camera import photograph
from data_pipelines.simulated.cameras import CAMERAS, Camera
from data_pipelines.simulated.exposure import Settings
from data_pipelines.simulated.filters import fine_detail
from data_pipelines.simulated.lens import blur_widths, mosaic_colours, project
from data_pipelines.simulated.scenes import SCENE_SCALE, Scene
from data_pipelines.simulated.sensor import expose

NEUTRAL = Settings(
    f_number=8.0,
    exposure_time=1 / 64,
    iso=100,
    focal_length=31.0,
    max_aperture=4.0,
    exposure_bias=0.0,
    brightness_value=7.0,
    flash=0x10,
    metering_mode=5,
    exposure_mode=0,
    white_balance=0,
    scene_type=0,
)
ZOOM = CAMERAS[0]


def flat_scene(camera: Camera, level: float = 0.18) -> Scene:
    height, width = camera.sensor.shape
    radiance = np.full((SCENE_SCALE * height, SCENE_SCALE * width, 3), level, np.float32)
    return Scene(radiance, 7.0, np.ones(3, np.float32), "sun")


def take(camera: Camera = ZOOM, **changes) -> np.ndarray:
    settings = dataclasses.replace(NEUTRAL, **changes)
    rng = np.random.default_rng(0)
    return photograph(rng, flat_scene(camera), camera, 0, settings).astype(np.float32)


def test_picture_has_the_sensor_shape_and_middle_grey():
    picture = take()
    assert picture.shape == (*ZOOM.sensor.shape, 3)
    assert 80 < picture.mean() < 150


def test_noise_grows_with_iso_at_the_same_exposure():
    noise = [
        np.abs(fine_detail(take(iso=iso, exposure_time=1 / 64 * 100 / iso))).mean()
        for iso in (100, 400, 1600, 6400)
    ]
    assert all(more > 1.3 * less for less, more in itertools.pairwise(noise))


def test_longer_exposure_is_brighter():
    assert take(exposure_time=1 / 32).mean() > take().mean() + 20


def test_night_mode_removes_more_noise_than_landscape_mode():
    noise = {
        kind: np.abs(
            fine_detail(
                take(CAMERAS[3], f_number=1.8, iso=800, exposure_time=1 / 8000, scene_type=kind)
            )
        ).mean()
        for kind in (1, 3)
    }
    assert noise[1] > 1.5 * noise[3]


def test_white_balance_removes_the_colour_of_the_light_unless_preset():
    scene = flat_scene(ZOOM)
    warm = np.array([1.4, 1.0, 0.6], np.float32)
    scene = dataclasses.replace(scene, radiance_HWC=scene.radiance_HWC * warm, illuminant=warm)
    casts = []
    for mode in (0, 1):
        settings = dataclasses.replace(NEUTRAL, white_balance=mode)
        red, _, blue = photograph(np.random.default_rng(0), scene, ZOOM, 0, settings).mean((0, 1))
        casts.append(red - blue)
    assert casts[1] > 2 * casts[0] > 0


def test_blur_is_least_between_wide_open_and_closed_down():
    wide, middle, closed = (
        blur_widths(ZOOM, dataclasses.replace(NEUTRAL, f_number=n)) for n in (4.0, 9.0, 22.0)
    )
    assert (middle < wide).all() and (middle < closed).all()
    assert wide[2] > wide[0] and closed[0] > closed[2]  # blue suffers wide open, red closed down


def test_vignetting_fades_when_stopped_down():
    def fall_off(f_number: float) -> float:
        settings = dataclasses.replace(NEUTRAL, f_number=f_number)
        light = project(flat_scene(ZOOM).radiance_HWC, ZOOM, settings, (0.0, 0.0))
        return float(light[140:150, 150:170].mean() / light[:6, :6].mean())

    assert fall_off(4.0) > 1.3 > 1.15 > fall_off(16.0) > 1.0


def test_red_and_blue_differ_in_magnification_and_swap_with_the_zoom():
    scene = flat_scene(ZOOM).radiance_HWC
    scene[:] = np.linspace(0.1, 0.9, scene.shape[1], dtype=np.float32)[None, :, None]  # a ramp
    colours = mosaic_colours(ZOOM.sensor.shape, ZOOM.sensor.mosaic)
    rows, columns = np.mgrid[100:188, 40:280]

    def red_against_blue(focal_length: float) -> float:
        settings = dataclasses.replace(NEUTRAL, focal_length=focal_length, f_number=22.0)
        light = project(scene, ZOOM, settings, (0.0, 0.0))[rows, columns]
        red, blue = (colours[rows, columns] == c for c in (0, 2))
        slopes = [np.polyfit(columns[sites], light[sites], 1)[0] for sites in (red, blue)]
        return slopes[0] / slopes[1]

    assert red_against_blue(18.0) > 1.004
    assert red_against_blue(31.464) == pytest.approx(1.0, abs=1e-3)
    assert red_against_blue(55.0) < 0.996


@pytest.mark.parametrize("camera", [CAMERAS[0], CAMERAS[2]], ids=lambda camera: camera.model)
def test_fixed_pattern_belongs_to_the_body(camera):
    light = np.full(camera.sensor.shape, 0.5, np.float32)

    def mean_of_exposures(body: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        frames = [expose(rng, light, camera, body, NEUTRAL) for _ in range(8)]
        return np.mean(frames, axis=0).ravel()

    first = mean_of_exposures(0, 1)
    assert np.corrcoef(first, mean_of_exposures(0, 2))[0, 1] > 0.3
    assert abs(np.corrcoef(first, mean_of_exposures(1, 2))[0, 1]) < 0.05


def test_sensor_saturates_and_long_exposures_show_hot_pixels():
    camera = CAMERAS[6]
    bright = expose(
        np.random.default_rng(0), np.full(camera.sensor.shape, 3.0, np.float32), camera, 0, NEUTRAL
    )
    assert bright.max() == 1 and bright.min() == 1
    dark = np.zeros(camera.sensor.shape, np.float32)
    long = dataclasses.replace(NEUTRAL, exposure_time=1.0)
    hot = [expose(np.random.default_rng(0), dark, camera, 0, s) > 0.03 for s in (NEUTRAL, long)]
    assert hot[0].sum() == 0
    assert 20 < hot[1].sum() < 0.002 * dark.size
