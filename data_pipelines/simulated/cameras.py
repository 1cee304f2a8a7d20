"""The simulated cameras: invented makers, so that nothing passes for a real device."""

import dataclasses
import io
from typing import Literal

import numpy as np
from PIL import Image


@dataclasses.dataclass(frozen=True)
class Lens:
    """Optics of one model.

    Attributes:
        focal_lengths: shortest and longest, mm; equal for a lens without zoom.
        crop_factor: 35 mm equivalent focal length = focal length * crop_factor.
        widest: smallest F number at the shortest and at the longest focal length.
        narrowest: largest F number; equal to `widest` for a fixed aperture.
        aberration: blur wide open, pixels.
        diffraction: blur at f/16, pixels.
        chromatic: lateral shift of red against blue at the corner, pixels, at the ends of the zoom.
        distortion: relative radial distortion at the corner, at the ends of the zoom.
        vignetting: loss of light in the corner wide open, 0..1.
    """

    focal_lengths: tuple[float, float]
    crop_factor: float
    widest: tuple[float, float]
    narrowest: float
    aberration: float
    diffraction: float
    chromatic: float
    distortion: float
    vignetting: float


@dataclasses.dataclass(frozen=True)
class Sensor:
    """Sensor of one model. Signals are relative to saturation (1).

    Attributes:
        shape: (height, width) in pixels, multiples of 16.
        mosaic: colours of the top left 2x2 pixels, row by row.
        iso: lowest and highest ISO.
        full_well: electrons at saturation at ISO 100; sets the shot noise.
        read_noise: standard deviation at ISO 100.
        pattern_noise: standard deviation of the gain between pixels (PRNU).
        dark_current: signal per second at ISO 100 of a hot pixel.
        fastest: shortest exposure time, seconds.
    """

    shape: tuple[int, int]
    mosaic: str
    iso: tuple[int, int]
    full_well: float
    read_noise: float
    pattern_noise: float
    dark_current: float
    fastest: float


@dataclasses.dataclass(frozen=True)
class Processing:
    """From raw to picture.

    Attributes:
        gradient_correction: 0 = bilinear demosaicing, 1 = Malvar, He & Cutler (ICASSP 2004).
        luma_denoise: strength of the noise reduction on luma, 0..1.
        chroma_denoise: blur of the colour differences, pixels.
        sharpening: amount of the unsharp mask.
        radius: its blur, pixels.
        contrast: strength of the tone curve's S, 0..1.
        saturation: factor on the colour differences.
    """

    gradient_correction: float
    luma_denoise: float
    chroma_denoise: float
    sharpening: float
    radius: float
    contrast: float
    saturation: float


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """A maker's JPEG settings; step of frequency (u, v) is floor + slope * (u + v) ** power.

    Attributes:
        luma: floor, slope, power of the luma table.
        chroma: the same of the chroma table.
        subsampling: chroma sampling as Pillow names it.
    """

    luma: tuple[float, float, float]
    chroma: tuple[float, float, float]
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"]

    def tables(self) -> list[list[int]]:
        """Luma and chroma quantisation tables, 64 steps each, row by row."""
        return [
            [min(255, round(floor + slope * (u + v) ** power)) for u in range(8) for v in range(8)]
            for floor, slope, power in (self.luma, self.chroma)
        ]

    def encode(self, image_HWC: np.ndarray, exif: bytes = b"") -> bytes:
        """Compresses uint8 [H, W, 3]; `exif` may be empty."""
        stream = io.BytesIO()
        Image.fromarray(image_HWC).save(
            stream, "JPEG", qtables=self.tables(), subsampling=self.subsampling, exif=exif
        )
        return stream.getvalue()


@dataclasses.dataclass(frozen=True)
class ExifHabits:
    """What a model writes.

    Attributes:
        never: EXIF tag names it does not know.
        apex_only: it writes ApertureValue and ShutterSpeedValue, not FNumber and ExposureTime.
        flash: "none", "manual" or "auto".
        metering_modes: codes it offers, the usual one first.
    """

    never: frozenset[str] = frozenset()
    apex_only: bool = False
    flash: Literal["none", "manual", "auto"] = "auto"
    metering_modes: tuple[int, ...] = (5, 2, 3)


@dataclasses.dataclass(frozen=True)
class Camera:
    """One model; `make` and `model` stand as it writes them, padding included."""

    make: str
    model: str
    lens: Lens
    sensor: Sensor
    processing: Processing
    jpeg: Jpeg
    exif: ExifHabits


_NORDEN_JPEG = Jpeg((1.0, 0.25, 1.2), (1.0, 0.6, 1.2), "4:2:2")
_NORDEN_LENS = Lens((18.0, 55.0), 1.5, (3.5, 5.6), 22.0, 0.75, 0.85, 1.2, 0.03, 0.35)

CAMERAS: tuple[Camera, ...] = (
    Camera(
        "NORDEN CORPORATION",
        "NORDEN N10",
        _NORDEN_LENS,
        Sensor((288, 320), "RGGB", (100, 6400), 5000, 0.0012, 0.010, 0.02, 1 / 4000),
        Processing(1.0, 0.25, 0.6, 0.4, 0.8, 0.35, 1.1),
        _NORDEN_JPEG,
        ExifHabits(never=frozenset({"BrightnessValue"}), flash="manual"),
    ),
    Camera(
        "NORDEN CORPORATION",
        "NORDEN N70",
        dataclasses.replace(_NORDEN_LENS, focal_lengths=(24.0, 105.0), crop_factor=1.0),
        Sensor((320, 288), "RGGB", (50, 12800), 8000, 0.0008, 0.008, 0.015, 1 / 8000),
        Processing(1.0, 0.1, 0.5, 0.2, 1.0, 0.25, 1.0),
        dataclasses.replace(_NORDEN_JPEG, luma=(1.0, 0.12, 1.2)),
        ExifHabits(never=frozenset({"BrightnessValue"}), flash="manual"),
    ),
    Camera(
        "Kestrel",
        "Kestrel Swift 4",
        Lens((6.1, 30.5), 4.6, (2.8, 5.9), 8.0, 1.0, 1.8, 2.2, 0.05, 0.45),
        Sensor((272, 336), "GRBG", (80, 3200), 2500, 0.0025, 0.015, 0.05, 1 / 2000),
        Processing(0.0, 0.45, 1.2, 1.3, 0.9, 0.5, 1.25),
        Jpeg((2.0, 0.9, 1.1), (3.0, 1.6, 1.1), "4:2:0"),
        ExifHabits(never=frozenset({"BrightnessValue"}), metering_modes=(5, 3)),
    ),
    Camera(
        "Aurora",
        "Aurora A5",
        Lens((4.25, 4.25), 6.2, (1.8, 1.8), 1.8, 0.6, 0.3, 0.9, 0.02, 0.5),
        Sensor((304, 304), "BGGR", (32, 3200), 1800, 0.003, 0.012, 0.06, 1 / 10000),
        Processing(0.5, 0.75, 1.8, 0.9, 1.5, 0.45, 1.2),
        Jpeg((2.0, 0.25, 1.5), (2.0, 0.4, 1.5), "4:2:0"),
        ExifHabits(metering_modes=(5,)),
    ),
    Camera(
        "Aurora",
        "Aurora A9 Pro",
        Lens((5.7, 5.7), 4.7, (1.6, 1.6), 1.6, 0.45, 0.3, 0.6, 0.01, 0.4),
        Sensor((288, 304), "BGGR", (25, 6400), 5000, 0.002, 0.010, 0.04, 1 / 16000),
        Processing(0.8, 0.6, 1.5, 0.6, 1.3, 0.4, 1.15),
        Jpeg((1.0, 0.3, 1.3), (2.0, 0.4, 1.4), "4:2:0"),
        ExifHabits(metering_modes=(5, 3)),
    ),
    Camera(
        "HALDEN\0\0\0\0",
        "H-2",
        Lens((35.0, 35.0), 1.5, (1.4, 1.4), 16.0, 1.1, 0.85, 0.5, 0.01, 0.5),
        Sensor((288, 320), "GBRG", (160, 12800), 5000, 0.001, 0.006, 0.02, 1 / 4000),
        Processing(0.7, 0.0, 0.4, 0.1, 0.7, 0.2, 0.95),
        Jpeg((1.0, 0.06, 1.5), (1.0, 0.1, 1.5), "4:4:4"),
        ExifHabits(flash="none", never=frozenset({"SceneCaptureType"}), metering_modes=(2, 5, 3)),
    ),
    Camera(
        "Mistral Imaging",
        "Mistral M3",
        Lens((3.6, 3.6), 7.5, (2.2, 2.2), 2.2, 0.8, 0.3, 1.6, 0.03, 0.55),
        Sensor((272, 320), "RGGB", (50, 1600), 2000, 0.004, 0.02, 0.08, 1 / 8000),
        Processing(0.0, 0.6, 2.0, 1.8, 0.7, 0.6, 1.35),
        Jpeg((3.0, 0.7, 1.3), (4.0, 1.2, 1.3), "4:2:0"),
        ExifHabits(apex_only=True, never=frozenset({"MaxApertureValue"}), metering_modes=(2, 5)),
    ),
    Camera(
        "TESSEL OPTICAL CO.,LTD  ",
        "TS-80",
        Lens((4.5, 81.0), 5.6, (2.8, 5.0), 8.0, 0.9, 1.5, 2.6, 0.06, 0.3),
        Sensor((304, 288), "GRBG", (100, 3200), 2500, 0.002, 0.012, 0.04, 1 / 2000),
        Processing(0.3, 0.3, 0.9, 0.7, 1.8, 0.3, 1.05),
        Jpeg((2.0, 0.4, 1.2), (2.0, 0.8, 1.2), "4:2:2"),
        ExifHabits(),
    ),
)
