"""What an evaluator may look at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_pipelines.records import Records
from data_pipelines.skipped import SkippedRow
from exif_jax.detection.descriptions import Describer
from exif_jax.detection.features import extract_features, features_of
from exif_jax.models.extractor import Extractor, FixedExtractor
from exif_jax.objectives import Objective
from exif_jax.training.loop import Evaluator
from exif_jax.training.step import Params


@dataclass(frozen=True, eq=False)
class Context:
    """The network in training and its data.

    Attributes:
        extractor: the module; parameters["extractor"] are its parameters.
        objectives: what is learned; parameters["heads"] has the head of each.
        records: photographs, with the split `validation`.
        describer: of images, where the network learns from fixed descriptions.
        shared: what evaluators compute once for all of them, by keys of their own.
        unread: for a row of each file that cannot be read, by its path; see `Stage`.
    """

    extractor: Extractor
    objectives: tuple[Objective, ...]
    records: Records
    describer: Describer | None = None
    shared: dict[Any, Any] = field(default_factory=dict)
    unread: dict[str, SkippedRow] = field(default_factory=dict)

    def features(self, params: Params, images: Iterable[np.ndarray]) -> np.ndarray:
        """Features float32 [n, F] of images of any size, each over its whole grid of patches."""
        return extract_features(self.extractor, params["extractor"], images)

    def described_features(self, params: Params, descriptions: np.ndarray) -> np.ndarray:
        """Features float32 [n, F] of descriptions of the `describer`."""
        assert isinstance(self.extractor, FixedExtractor)
        return features_of(self.extractor, params["extractor"], descriptions)


Factory = Callable[[Context, str], Evaluator]
"""Context and argument -> evaluator."""
