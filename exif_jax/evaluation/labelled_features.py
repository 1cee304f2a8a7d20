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
from exif_jax.training.shares import share
from exif_jax.training.step import Params


class LabelledFeatures:
    """The parameters of an extractor -> features of the images that can be read.

    Each process has its share of them.

    Attributes:
        images: photographs and generated images, of all processes.
    """

    def __init__(
        self,
        extractor: Extractor,
        images: Sequence[LabelledImage],
        describer: Describer | None,
        unread: dict[str, SkippedRow],
    ) -> None:
        """Prepares what does not depend on parameters.

        Args:
            extractor: the module.
            images: photographs and generated images.
            describer: of images, where the extractor learns from fixed descriptions.
            unread: gets a row for every image of the share that cannot be read, by its path.
        """
        self.images = images
        self._extractor, self._unread = extractor, unread
        self._described = None
        if describer is not None:
            sources = [ImageSource.of_file(image.path) for image in images]
            self._described = describer.windows(sources)

    def __call__(self, params: Params) -> tuple[np.ndarray, list[int]]:
        """Features float32 [n, F] of the share, over whole grids of patches.

        Returns:
            The features, and the positions of the n readable images among `images`.
        """
        own = share(len(self.images))
        if self._described is None:
            found: dict[int, ImageError] = {}
            windows = central_windows([self.images[i] for i in own], found)
            features = extract_features(self._extractor, params, windows)
            errors = {own[i]: error for i, error in found.items()}
        else:
            assert isinstance(self._extractor, FixedExtractor)
            errors = {i: e for i, e in self._described.errors.items() if i in own}
            rows = self._described.rows(i for i in own if i not in errors)
            features = features_of(self._extractor, params, rows)
        for position, error in errors.items():
            path = str(self.images[position].path)
            self._unread[path] = skipped_row(path, error.reason, str(error))
        return features, [i for i in own if i not in errors]
