"""Telling photographs from AI-generated images by what a camera leaves in them.

Names are loaded when first used, so that the command line answers at once.
"""

from etils import epy

with epy.lazy_api_imports(globals()):
    from exif_jax import gmm
    from exif_jax.detection.detectors import Detection, Detector, load_detector
    from exif_jax.models.trained import LoadedExtractor, load_extractor

__all__ = ["Detection", "Detector", "LoadedExtractor", "gmm", "load_detector", "load_extractor"]
