"""A detector made by hand: what has little noise is generated. For tests; nothing is trained."""

from pathlib import Path

import jax
import numpy as np
from PIL import Image

from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection.detectors import save_detector
from exif_jax.models.extractor import init_extractor
from exif_jax.models.trained import LoadedExtractor

VERDICTS = {
    "photo_below": 0.3,
    "generated_above": 0.7,
    "rates": {"photos_called_generated": {"rate": 0.01, "low": 0.004, "high": 0.022}},
    "calibration": {"slope": 0.5, "intercept": 0.1, "prior": 0.5},
    "trained_range": {"jpeg_quality": [50, 98], "smallest_side": 128},
    "stability": ["jpeg:98", "crop:4"],
}
CALM, NOISY = 1.0, 12.0  # deviations of the noise, in levels of 0..255


def write_noise_detector(directory: Path, **facts) -> Path:
    """A binary detector whose score falls with the variance of the finest residual."""
    model = ResidualCovarianceEncoder(1, (), statistics=("residual",), scales=(1,))
    params = jax.tree.map(np.array, init_extractor(model.build(), jax.random.key(0)))
    variances = np.cumsum([0, *range(57, 1, -1)])  # the diagonal of a row-major upper triangle
    finest = variances[18]
    layers = params["layers"]
    centre, kernel = params["centre"], np.zeros_like(layers["feature"]["kernel"])
    centre[finest] = 2 * np.log(4 / 255)
    kernel[finest] = 1.0
    layers["feature"] = {"kernel": kernel, "bias": np.zeros(1, np.float32)}
    head = {"kernel": np.array([[2.0, -2.0]], np.float32), "bias": np.zeros(2, np.float32)}
    extractor = LoadedExtractor(model.build(), params, model, {}, (), directory)
    facts = {"score_of": "cells", "verdicts": VERDICTS} | facts
    save_detector(directory, "binary", 0.5, extractor, {"head": {"fc": head}}, facts)
    return directory


def picture(deviation: float, height: int = 256, width: int = 256, seed: int = 0) -> np.ndarray:
    """uint8 [H, W, 3]: a smooth scene and noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 196, size=(4, 4, 3), dtype=np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.normal(scale=deviation, size=scene.shape)
    return np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8)
