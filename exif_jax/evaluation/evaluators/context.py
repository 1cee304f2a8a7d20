"""What an evaluator may look at."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from data_pipelines.records import Records
from exif_jax.detection.features import FeatureFunctions, extract_features, feature_functions
from exif_jax.models.extractor import Extractor
from exif_jax.objectives import Objective
from exif_jax.training.loop import Evaluator
from exif_jax.training.mapping import data_mesh, replicate
from exif_jax.training.step import Params


@dataclass(frozen=True, eq=False)
class Context:
    """The network in training and its data.

    Attributes:
        extractor: the module; parameters["extractor"] are its parameters.
        objectives: what is learned; parameters["heads"] has the head of each.
        records: photographs, with the split `validation`.
        shared: what evaluators compute once for all of them, by keys of their own.
    """

    extractor: Extractor
    objectives: tuple[Objective, ...]
    records: Records
    shared: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def _functions(self) -> FeatureFunctions:
        return feature_functions(self.extractor, data_mesh(jax.local_devices()))

    def features(self, params: Params, images: Iterable[np.ndarray]) -> np.ndarray:
        """Features float32 [n, F] of images of any size, each over its whole grid of patches."""
        local = replicate(params["extractor"], self._functions.mesh)
        return extract_features(self._functions, local, images)


Factory = Callable[[Context, str], Evaluator]
"""Context and argument -> evaluator."""
