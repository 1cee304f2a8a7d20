"""EXIF of a simulated photograph, with the holes that real EXIF has."""

import datetime
import math

import numpy as np
import piexif

from data_pipelines.simulated.cameras import Camera
from data_pipelines.simulated.exposure import Settings

SOFTWARE = "exif-jax simulated camera"
DESCRIPTION = "Simulated photograph; no real camera took it"

# How often a tag is missing for no apparent reason.
_LOSS = {
    "SceneCaptureType": 0.12,
    "ExposureMode": 0.10,
    "WhiteBalance": 0.08,
    "MeteringMode": 0.04,
    "ExposureBiasValue": 0.04,
    "Flash": 0.03,
}


def write_exif(
    rng: np.random.Generator, camera: Camera, settings: Settings, taken: datetime.datetime
) -> bytes:
    """EXIF block that states how a photograph was taken, as Pillow's `exif` argument wants it.

    Tags are missing by the camera's habits and, as the generator decides, by chance.
    """
    height, width = camera.sensor.shape
    stamp = f"{taken:%Y:%m:%d %H:%M:%S}"
    values: dict[str, object] = {
        "ApertureValue": _rational(2 * math.log2(settings.f_number)),
        "ShutterSpeedValue": _rational(-math.log2(settings.exposure_time)),
        "ISOSpeedRatings": settings.iso,
        "FocalLength": _rational(settings.focal_length),
        "MaxApertureValue": _rational(2 * math.log2(settings.max_aperture)),
        "ExposureBiasValue": (round(3 * settings.exposure_bias), 3),
        "BrightnessValue": _rational(settings.brightness_value),
        "Flash": settings.flash,
        "MeteringMode": settings.metering_mode,
        "ExposureMode": settings.exposure_mode,
        "WhiteBalance": settings.white_balance,
        "SceneCaptureType": settings.scene_type,
        "DateTimeOriginal": stamp,
        "PixelXDimension": width,
        "PixelYDimension": height,
        "ExifVersion": b"0232",
    }
    if not camera.exif.apex_only:
        values["FNumber"] = _rational(settings.f_number)
        values["ExposureTime"] = _exposure_time(settings.exposure_time)
    for name in camera.exif.never:
        values.pop(name, None)
    for name, probability in _LOSS.items():
        if rng.random() < probability:
            values.pop(name, None)
    main = {
        piexif.ImageIFD.Make: camera.make,
        piexif.ImageIFD.Model: camera.model,
        piexif.ImageIFD.Software: SOFTWARE,
        piexif.ImageIFD.ImageDescription: DESCRIPTION,
        piexif.ImageIFD.DateTime: stamp,
        piexif.ImageIFD.Orientation: 1,
    }
    exif = {getattr(piexif.ExifIFD, name): value for name, value in values.items()}
    return piexif.dump({"0th": main, "Exif": exif})


def _rational(value: float) -> tuple[int, int]:
    return round(value * 100), 100


def _exposure_time(seconds: float) -> tuple[int, int]:
    return (1, round(1 / seconds)) if seconds < 0.4 else (round(seconds * 10), 10)
