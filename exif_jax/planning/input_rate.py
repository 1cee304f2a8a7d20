"""How many images a second this machine reads and decodes for training."""

import contextlib
import time
from typing import Any, Final

from data_pipelines.labelled import find_test_sets, labelled_images
from data_pipelines.object_storage import path_of
from data_pipelines.pipeline import labelled_batches, record_batches
from data_pipelines.records import open_records
from data_pipelines.staging import staged
from exif_jax.config import BinaryConfig, PretextConfig
from exif_jax.models.extractor import Extractor, FixedExtractor

_SECONDS: Final = 3.0
_ROWS: Final = 32  # images of a batch


def measured_input_rate(config: Any, extractor: Extractor) -> float | None:
    """Images/s of one process; None where there is nothing to read.

    Of the input pipeline of the stage, by its threads or workers, with nothing else to do.
    Descriptions, which encoders of a fixed description read in place of images, are not measured.
    """
    if isinstance(extractor, FixedExtractor):
        return None
    data: Any
    match config:
        case PretextConfig() if config.data.photos:
            records = open_records(staged(config.data.photos, config.data.cache))
            data = record_batches(
                records,
                "train",
                _ROWS,
                config.seed,
                config.data.threads,
                workers=config.data.workers,
            )
        case BinaryConfig() if config.data.images:
            images = labelled_images(find_test_sets(path_of(config.data.images)))
            data = labelled_batches(
                images,
                config.data.augmentation,
                _ROWS,
                config.seed,
                config.data.threads,
                workers=config.data.workers,
            )
        case _:
            return None
    with contextlib.closing(iter(data)) as batches:
        next(batches)  # threads or processes start
        began, read = time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < _SECONDS:
            next(batches)
            read += _ROWS
    return read / elapsed
