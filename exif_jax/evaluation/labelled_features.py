"""Features of the central windows of labelled images, as validation takes them again and again."""

from collections.abc import Sequence

import numpy as np

from data_pipelines.examples import central_windows
from data_pipelines.images import ImageError
from data_pipelines.labelled import LabelledImage
from data_pipelines.photo_sources import ImageSource
from data_pipelines.skipped import SkippedRow, skipped_row
from exif_jax.detection.descriptions import Describer
from exif_jax.detection.features import extract_features, features_of
from exif_jax.models.extractor import Extractor, FixedExtractor
from exif_jax.training.step import Params


class LabelledFeatures:
    """The parameters of an extractor -> features of the images that can be read.

    Args:
        extractor: the module.
        images: photographs and generated images.
        describer: of images, where the extractor learns from fixed descriptions.
        unread: gets a row for every image that cannot be read, by its path.
    """

    def __init__(
        self,
        extractor: Extractor,
        images: Sequence[LabelledImage],
        describer: Describer | None,
        unread: dict[str, SkippedRow],
    ) -> None:
        self._extractor, self._images, self._unread = extractor, images, unread
        self._described = None
        if describer is not None:
            sources = [ImageSource.of_file(image.path) for image in images]
            self._described = describer.windows(sources)

    def __call__(self, params: Params) -> tuple[np.ndarray, list[LabelledImage]]:
        """Features float32 [n, F], each over the whole grid of patches, and the n images."""
        errors: dict[int, ImageError] = {}
        if self._described is None:
            windows = central_windows(self._images, errors)
            features = extract_features(self._extractor, params, windows)
        else:
            assert isinstance(self._extractor, FixedExtractor)
            errors = self._described.errors
            features = features_of(self._extractor, params, self._described.rows())
        for position, error in errors.items():
            path = str(self._images[position].path)
            self._unread[path] = skipped_row(path, error.reason, str(error))
        return features, [image for i, image in enumerate(self._images) if i not in errors]
