"""Kinds of detector: arrays and a typed description -> scores of features.

A kind is a frozen dataclass; its fields are read from detector.json, and its arrays lie in
model.safetensors beside the extractor's. One's own is registered in a file of its own:

    @DETECTOR_KINDS.register("my_kind")
    @dataclass(frozen=True)
    class MyKind(DetectorKind): ...

and is written by `save_detector(directory, "my_kind", ...)`.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np

from data_pipelines.registry import Registry
from exif_jax import gmm
from exif_jax.detection.projection import project
from exif_jax.detection.verdicts import expit, logit
from exif_jax.models.storage import Tree, flatten


@dataclass(frozen=True)
class DetectorKind:
    """Base of all kinds; a field without a default must be in detector.json.

    Attributes:
        bounds: between which all scores lie, or None.
    """

    bounds: ClassVar[tuple[float, float] | None] = None

    def shapes(self, arrays: Tree, features: int) -> dict[str, tuple[int, ...]]:
        """Shapes that the arrays, flattened to "outer/inner", must have.

        Args:
            arrays: nested dict, as read.
            features: length of the extractor's feature.

        Raises:
            ValueError: no shapes fit, as what would determine them is missing or of another kind.
        """
        raise NotImplementedError

    def score(self, features: np.ndarray, arrays: Tree) -> np.ndarray:
        """Scores float [n] of features [n, F]; higher = more likely generated."""
        raise NotImplementedError

    def combine(self, scores: np.ndarray) -> float:
        """The score of an image by those of its cells [n], n >= 1: their mean."""
        return float(scores.mean(dtype=np.float64))


def describe(kind: str, facts: Mapping[str, Any]) -> DetectorKind:
    """The kind of a name, with what detector.json says of it.

    Raises:
        UserError: an unknown kind.
        TypeError: a field of it is missing.
    """
    known = DETECTOR_KINDS[kind]
    names = {field.name for field in dataclasses.fields(known)}
    return known(**{name: value for name, value in facts.items() if name in names})


DETECTOR_KINDS: Registry[type[DetectorKind]] = Registry("kind of detector")


@DETECTOR_KINDS.register("one_class")
@dataclass(frozen=True)
class OneClass(DetectorKind):
    """Minus the natural logarithm of the density of photographs (method section 5).

    Attributes:
        covariance_type: of the mixture.
    """

    covariance_type: str = "full"

    def shapes(self, arrays: Tree, features: int) -> dict[str, tuple[int, ...]]:
        """Projection, mixture and, where there is one, the calibration of p-values."""
        given = {name: array.shape for name, array in flatten(arrays).items()}
        dimensions = given.get("projection/matrix", ())[1:]
        found = {k.partition("/")[2]: shape for k, shape in given.items() if k.startswith("gmm/")}
        mixture = gmm.array_shapes(found, self.covariance_type)
        calibration = given.get("calibration/log_density")
        return {
            "projection/mean": (features,),
            "projection/matrix": (features, *dimensions),
            **{f"gmm/{name}": shape for name, shape in mixture.items()},
            # As wide as the projection, whatever width the mixture agrees with itself on.
            "gmm/means": (*mixture["weights"], *dimensions),
            # A list of numbers; older detectors have none.
            **(
                {}
                if calibration is None
                else {"calibration/log_density": (max(int(np.prod(calibration)), 1),)}
            ),
        }

    def score(self, features: np.ndarray, arrays: Tree) -> np.ndarray:
        """float64 [n], computed in the precision of the mixture's arrays."""
        if not len(features):
            return np.zeros(0)
        double = arrays["gmm"]["means"].dtype == np.float64
        with jax.enable_x64(double):
            mixture = gmm.GaussianMixture.from_arrays(arrays["gmm"], self.covariance_type)
            projected = project(features, arrays["projection"])
            return -np.asarray(gmm.log_density(mixture, projected), np.float64)


@DETECTOR_KINDS.register("binary")
@dataclass(frozen=True)
class Binary(DetectorKind):
    """Probability of `generated`, in 0..1 (method section 6)."""

    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)

    def shapes(self, arrays: Tree, features: int) -> dict[str, tuple[int, ...]]:
        """The linear head."""
        return {"head/fc/kernel": (features, 2), "head/fc/bias": (2,)}

    def score(self, features: np.ndarray, arrays: Tree) -> np.ndarray:
        """float32 [n]."""
        if not len(features):
            return np.zeros(0)
        # On the host: every number of features would be compiled anew.
        logits = features @ arrays["head"]["fc"]["kernel"] + arrays["head"]["fc"]["bias"]
        return np.exp(-np.logaddexp(0, logits[:, 0] - logits[:, 1]))

    def combine(self, scores: np.ndarray) -> float:
        """The probability whose log-odds are the mean of the cells'."""
        return expit(float(np.mean([logit(score) for score in scores])))
