"""Exposure: how a camera and its user settle aperture, time, ISO and modes for a scene.

APEX system (EXIF 2.32, annex C): Av + Tv = Bv + Sv with Av = 2 log2 N, Tv = -log2 t and
Sv = log2(ISO / 3.125). The picture's level follows from the settings, never the reverse.
"""

import dataclasses
import math

import numpy as np

from data_pipelines.simulated.cameras import Camera
from data_pipelines.simulated.scenes import MIDDLE_GREY, Scene

FLASH_FIRED_BIT = 1
_STANDARD, _LANDSCAPE, _PORTRAIT, _NIGHT = range(4)
# How strongly each metering mode (centre-weighted, spot, pattern) favours the centre.
_BIASES = (-2, -4 / 3, -2 / 3, -1 / 3, 0, 1 / 3, 2 / 3, 4 / 3, 2)
_BIAS_ODDS = (0.05, 0.07, 0.1, 0.1, 0.36, 0.1, 0.1, 0.07, 0.05)
_METERING_FOCUS = {2: 2.0, 3: 50.0, 5: 0.0}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the camera was set to; codes as in EXIF.

    Attributes:
        f_number: focal length / aperture diameter.
        exposure_time: seconds.
        iso: sensitivity.
        focal_length: mm.
        max_aperture: smallest F number at this focal length.
        exposure_bias: EV.
        brightness_value: metered luminance, APEX.
        flash: EXIF flash code.
        metering_mode: 2 centre-weighted, 3 spot, 5 pattern.
        exposure_mode: 0 automatic, 1 manual, 2 bracket.
        white_balance: 0 automatic, 1 manual.
        scene_type: 0 standard, 1 landscape, 2 portrait, 3 night.
    """

    f_number: float
    exposure_time: float
    iso: int
    focal_length: float
    max_aperture: float
    exposure_bias: float
    brightness_value: float
    flash: int
    metering_mode: int
    exposure_mode: int
    white_balance: int
    scene_type: int

    @property
    def flash_fired(self) -> bool:
        """Whether the flash lit the scene."""
        return bool(self.flash & FLASH_FIRED_BIT)


def zoom_position(camera: Camera, focal_length: float) -> float:
    """0 at the shortest focal length, 1 at the longest, linear in its logarithm."""
    shortest, longest = camera.lens.focal_lengths
    if shortest == longest:
        return 0.0
    return math.log(focal_length / shortest) / math.log(longest / shortest)


def exposure_stops(settings: Settings, brightness_value: float) -> float:
    """Stops between middle grey and the level that luminance `brightness_value` (Bv) reaches."""
    aperture = 2 * math.log2(settings.f_number)
    speed = math.log2(settings.iso / 3.125)
    return brightness_value + speed - aperture + math.log2(settings.exposure_time)


def choose_settings(rng: np.random.Generator, camera: Camera, scene: Scene) -> Settings:
    """Meters the scene and picks settings as a programme and a somewhat wilful user would.

    Time, aperture and ISO are in steps of a third of a stop.
    """
    lens = camera.lens
    focal_length = round(_log_uniform(rng, *lens.focal_lengths), 1)
    zoom = zoom_position(camera, focal_length)
    widest = round(lens.widest[0] ** (1 - zoom) * lens.widest[1] ** zoom, 1)
    modes = camera.exif.metering_modes
    metering_mode = modes[0] if rng.random() < 0.6 else modes[rng.integers(len(modes))]
    luminance = scene.brightness_value + _metered_stops(scene, metering_mode)
    flash = _flash_code(rng, camera, luminance)
    if flash & FLASH_FIRED_BIT:
        luminance = max(luminance, 4.5)
    bias = float(rng.choice(_BIASES, p=_BIAS_ODDS))
    exposure_mode = int(rng.choice(3, p=(0.75, 0.17, 0.08)))
    intended = luminance - bias + (rng.normal(0.0, 0.7) if exposure_mode == 1 else 0.0)
    aperture, time, iso = _programme(rng, camera, intended, widest, focal_length)
    return Settings(
        f_number=aperture,
        exposure_time=time,
        iso=iso,
        focal_length=focal_length,
        max_aperture=widest,
        exposure_bias=bias,
        brightness_value=luminance,
        flash=flash,
        metering_mode=metering_mode,
        exposure_mode=exposure_mode,
        white_balance=int(rng.random() < 0.3),
        scene_type=_scene_type(rng, scene),
    )


def _programme(
    rng: np.random.Generator, camera: Camera, luminance: float, widest: float, focal_length: float
) -> tuple[float, float, int]:
    """F number, time in seconds and ISO for a luminance in Bv."""
    lens, sensor = camera.lens, camera.sensor
    sv_low, sv_high = (math.log2(iso / 3.125) for iso in sensor.iso)
    av_low, av_high = 2 * math.log2(widest), 2 * math.log2(max(lens.narrowest, widest))
    tv_high = -math.log2(sensor.fastest)
    # Handheld: the reciprocal of the equivalent focal length, with two stops of stabilisation.
    tv_hand = max(math.log2(focal_length * lens.crop_factor), 4.0) - 2.0
    av = rng.uniform(av_low, av_high)
    sv = min(sv_low + rng.choice((0, 0, 0, 1, 2, 3, 4)), sv_high)
    shortfall = tv_hand - (luminance + sv - av)
    if shortfall > 0:  # Too dark: open half way, then sensitivity, then aperture, then time.
        av -= min(shortfall / 2, av - av_low)
        sv = min(sv_high, sv + max(0.0, tv_hand - (luminance + sv - av)))
        av = max(av_low, min(av, luminance + sv - tv_hand))
    excess = luminance + sv - av - tv_high
    if excess > 0:  # Too bright: least sensitivity, then a smaller aperture.
        sv = max(sv_low, sv - excess)
        av = min(av_high, max(av, luminance + sv - tv_high))
    f_number = round(2 ** (_third(av) / 2), 1)
    f_number = min(max(f_number, widest), max(lens.narrowest, widest))
    iso = int(min(max(_two_digits(3.125 * 2 ** _third(sv)), sensor.iso[0]), sensor.iso[1]))
    tv = luminance + math.log2(iso / 3.125) - 2 * math.log2(f_number)
    return f_number, 2.0 ** -_third(min(max(tv, -1.0), tv_high)), iso


def _metered_stops(scene: Scene, metering_mode: int) -> float:
    """Metered luminance against the scene's mean, in stops."""
    luma = scene.radiance_HWC[::8, ::8].mean(axis=-1)
    rows, columns = np.ogrid[-1 : 1 : 1j * luma.shape[0], -1 : 1 : 1j * luma.shape[1]]
    weights = np.exp(-_METERING_FOCUS[metering_mode] * (rows**2 + columns**2))
    metered = float((luma * weights).sum() / weights.sum())
    return max(-2.0, min(2.0, 0.7 * math.log2(metered / MIDDLE_GREY)))


def _flash_code(rng: np.random.Generator, camera: Camera, luminance: float) -> int:
    if camera.exif.flash == "none":
        return 0x20  # no flash function
    dark = luminance < 3.0
    if camera.exif.flash == "manual":
        return 0x09 if dark and rng.random() < 0.4 else 0x10
    if rng.random() < 0.3:
        return 0x10  # switched off
    return 0x19 if dark else 0x18


def _scene_type(rng: np.random.Generator, scene: Scene) -> int:
    if rng.random() < 0.55:
        return _STANDARD
    if scene.lighting == "night":
        return _NIGHT
    return int(rng.choice((_LANDSCAPE, _PORTRAIT, _NIGHT), p=(0.45, 0.45, 0.1)))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _third(stops: float) -> float:
    return round(3 * stops) / 3


def _two_digits(value: float) -> int:
    return int(round(value, 1 - math.floor(math.log10(value))))
