"""Telling photographs from AI-generated images by what a camera leaves in them.

Attributes are loaded when first used, so that the command line answers at once and
`data_pipelines`, which needs this package's errors only, does not load the models.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exif_jax import gmm
    from exif_jax.detection.detectors import Detection, Detector, load_detector
    from exif_jax.models.trained import LoadedExtractor, load_extractor

__all__ = ["Detection", "Detector", "LoadedExtractor", "gmm", "load_detector", "load_extractor"]

_HOME = {
    "Detection": "exif_jax.detection.detectors",
    "Detector": "exif_jax.detection.detectors",
    "load_detector": "exif_jax.detection.detectors",
    "LoadedExtractor": "exif_jax.models.trained",
    "load_extractor": "exif_jax.models.trained",
}


def __getattr__(name: str) -> Any:
    if name == "gmm":
        return importlib.import_module("exif_jax.gmm")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'exif_jax' has no attribute {name!r}")
