"""JPEG compression with a maker's own tables."""

import io

import numpy as np
from PIL import Image

from data_pipelines.simulated.cameras import Jpeg


def encode_jpeg(image_HWC: np.ndarray, settings: Jpeg, exif: bytes = b"") -> bytes:
    """Compresses uint8 [H, W, 3] with the given tables and chroma sampling; `exif` may be empty."""
    stream = io.BytesIO()
    Image.fromarray(image_HWC).save(
        stream,
        format="JPEG",
        qtables=settings.tables(),
        subsampling=settings.subsampling,
        exif=exif,
    )
    return stream.getvalue()
