import collections
import dataclasses
import datetime

import numpy as np
import piexif
import pytest

from data_pipelines.simulated.cameras import CAMERAS
from data_pipelines.simulated.exif_writer import SOFTWARE, write_exif
from data_pipelines.simulated.exposure import choose_settings
from data_pipelines.simulated.scenes import sample_scene

TAKEN = datetime.datetime(2022, 5, 6, 7, 8, 9)


def written(camera, seed=0):
    rng = np.random.default_rng(seed)
    settings = choose_settings(rng, camera, sample_scene(rng, (32, 32), "train"))
    loaded = piexif.load(write_exif(rng, camera, settings, TAKEN))
    names = {piexif.TAGS["Exif"][code]["name"]: value for code, value in loaded["Exif"].items()}
    return settings, loaded["0th"], names


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_exif_states_the_settings_and_that_it_is_simulated(camera):
    settings, main, exif = written(camera)
    assert main[piexif.ImageIFD.Software].decode() == SOFTWARE
    assert "simulated" in SOFTWARE
    assert main[piexif.ImageIFD.Make].decode() == camera.make
    assert exif["DateTimeOriginal"] == b"2022:05:06 07:08:09"
    assert exif["ISOSpeedRatings"] == settings.iso
    assert exif["FocalLength"][0] / exif["FocalLength"][1] == pytest.approx(settings.focal_length)
    assert exif["PixelXDimension"] == camera.sensor.shape[1]
    aperture, time = (
        exif[name][0] / exif[name][1] for name in ("ApertureValue", "ShutterSpeedValue")
    )
    assert 2 ** (aperture / 2) == pytest.approx(settings.f_number, rel=0.01)
    assert 2**-time == pytest.approx(settings.exposure_time, rel=0.01)
    if "FNumber" in exif:
        assert exif["FNumber"][0] / exif["FNumber"][1] == pytest.approx(settings.f_number)
        assert exif["ExposureTime"][0] / exif["ExposureTime"][1] == pytest.approx(
            settings.exposure_time, rel=0.05
        )


def test_holes_are_there_and_the_rest_is_there():
    seen = collections.Counter()
    for seed in range(10):
        for camera in CAMERAS:
            names = written(camera, seed)[2]
            seen.update(names.keys())
            assert not camera.exif.never & set(names)
            assert ("FNumber" in names) is not camera.exif.apex_only
    total = 10 * len(CAMERAS)
    for name in (
        "BrightnessValue",
        "MaxApertureValue",
        "SceneCaptureType",
        "WhiteBalance",
    ):
        assert 0.4 * total < seen[name] < total
    assert seen["ISOSpeedRatings"] == seen["FocalLength"] == total


def test_makers_are_unlike_one_another():
    assert len({camera.make for camera in CAMERAS}) >= 5
    assert len({camera.model for camera in CAMERAS}) == len(CAMERAS)
    tables = {str(camera.jpeg.tables()) for camera in CAMERAS}
    assert len(tables) == len(CAMERAS)
    assert all(dataclasses.astuple(camera) for camera in CAMERAS)
    assert all(side % 16 == 0 and side >= 256 for c in CAMERAS for side in c.sensor.shape)
