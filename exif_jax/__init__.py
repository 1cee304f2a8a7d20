"""Telling photographs from AI-generated images by what a camera leaves in them.

Names are loaded when first used, so that the command line answers, and can be interrupted, at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exif_jax import gmm
    from exif_jax.detection.detectors import Detection, Detector, load_detector
    from exif_jax.models.trained import LoadedExtractor, load_extractor

_MODULES = {
    "gmm": "",
    **dict.fromkeys(("Detection", "Detector", "load_detector"), "detection.detectors"),
    **dict.fromkeys(("LoadedExtractor", "load_extractor"), "models.trained"),
}

__all__ = ["Detection", "Detector", "LoadedExtractor", "gmm", "load_detector", "load_extractor"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if not _MODULES[name]:
        return importlib.import_module(f"{__name__}.{name}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
