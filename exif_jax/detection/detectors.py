"""Detectors on disk and in use: extractor, score and threshold in one self-contained directory."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.images import WINDOW
from data_pipelines.items import Item
from data_pipelines.perturbations import parse_perturbation
from data_pipelines.storage import valid_text
from exif_jax.config import to_json
from exif_jax.detection.cells import Cells, few_cells, find_cells
from exif_jax.detection.features import extract_features
from exif_jax.detection.judging import Detection, judge
from exif_jax.detection.kinds import DetectorKind, describe
from exif_jax.detection.shipped import find_detector
from exif_jax.detection.thresholds import conformal_p_values
from exif_jax.detection.verdicts import Rule, Verdicts, parse_verdicts
from exif_jax.models.extractor import extractor_shapes
from exif_jax.models.storage import Tree, load_model, save_model
from exif_jax.models.trained import LoadedExtractor, build_extractor, check_shapes
from exif_jax.training.mapping import data_mesh, replicate

DESCRIPTION = "detector.json"
HEAT_STRIDE = 128  # pixels from one cell of a heat map to the next
_SCORE_OF = ("image", "cells")


@dataclasses.dataclass(frozen=True)
class Detector:
    """A loaded detector.

    Attributes:
        name: of the run it came from.
        kind: name of its kind, such as `one_class` or `binary`.
        description: of its kind: how scores are computed.
        threshold: scores above it are called generated.
        facts: everything in detector.json: how the threshold was set, training data, versions.
        extractor: its network.
        arrays: what turns features into scores, and the calibration that p-values need, if any.
        verdicts: when it says photo, generated and unsure; None: the threshold alone decides.
    """

    name: str
    kind: str
    description: DetectorKind
    threshold: float
    facts: dict[str, Any]
    extractor: LoadedExtractor
    arrays: Tree
    verdicts: Verdicts | None = None

    def score(self, images: Iterable[np.ndarray], few: bool = False) -> np.ndarray:
        """Scores images.

        Args:
            images: uint8 [H, W, 3] (RGB) each, of any sizes; read once, in order.
            few: by `few_cells` instead of all, where cells are scored.

        Returns:
            float32 [n]; higher = more likely generated. For `one_class` minus the log-density of
            photographs in nats, for `binary` a probability; other kinds say. Of the image as a
            whole, or, if detector.json says `"score_of": "cells"`, the mean over its cells of
            256x256 (`DetectorKind.combine`), in memory that does not grow with the image.

        Raises:
            ValueError: an image of another shape or type.
        """
        if self.facts.get("score_of") != "cells":
            features = self._features(map(_checked, images))
            return self.description.score(features, self.arrays).astype(np.float32)
        counts: list[int] = []

        def parts() -> Iterator[np.ndarray]:
            for image in map(_checked, images):
                cells = _cells(image, few)
                counts.append(len(cells))
                yield from cells.cut(image)

        scores = self.description.score(self._features(parts()), self.arrays)
        of_images = np.split(scores, np.cumsum(counts)[:-1])[: len(counts)]
        return np.array([self.description.combine(x) for x in of_images], np.float32)

    def cells(self, image: np.ndarray, stride: int = HEAT_STRIDE) -> tuple[np.ndarray, Cells]:
        """Scores of the overlapping cells of an image, for a heat map.

        Args:
            image: uint8 [H, W, 3].
            stride: from one cell of 256x256 to the next, in pixels; a multiple of 64.

        Returns:
            float32 [rows, columns], and where the cells lie. Only one chunk of cells is copied at
            a time, whatever the size of the image.
        """
        cells = find_cells(_checked(image).shape, stride)
        scores = self.description.score(self._features(cells.cut(image)), self.arrays)
        return scores.astype(np.float32).reshape(len(cells.tops), len(cells.lefts)), cells

    def rule_for(self, image: np.ndarray, few: bool = False) -> Rule | None:
        """How the score of an image is read, by its number of cells; None: by the threshold."""
        if self.verdicts is None:
            return None
        few = few and self.facts["score_of"] == "cells"
        return self.verdicts.rule_for(len(_cells(image, few)))

    def _features(self, images: Iterable[np.ndarray]) -> np.ndarray:
        limit = self.facts.get("patches", 0)
        prepare = parse_perturbation(self.extractor.prepare)
        prepared = map(prepare.apply, images)
        return extract_features(self.extractor.module, self._placed, prepared, limit=limit)

    @cached_property
    def _placed(self) -> Any:
        """The extractor's parameters, put on the devices once."""
        return replicate(self.extractor.params, data_mesh(jax.local_devices()))

    @property
    def heldout_photos(self) -> int:
        """Number of photos in the calibration; 0: none, so no p-values."""
        return len(self.arrays["calibration"]["log_density"]) if "calibration" in self.arrays else 0

    def p_values(self, scores: np.ndarray) -> np.ndarray | None:
        """Conformal p-values of scores among those of held-out photos; see `conformal_p_values`.

        Args:
            scores: float32 [n], from `score`.

        Returns:
            float64 [n], in (0, 1]; small = unlike photos. None if the detector has no calibration.

        Raises:
            ValueError: scores that are not finite.
        """
        if not self.heldout_photos:
            return None
        # Rounded like scores, so that a calibration photo equals its own score.
        calibration = self.arrays["calibration"]["log_density"].astype(np.float32)
        return conformal_p_values(calibration, -np.asarray(scores, np.float32))

    def detect(self, paths: Sequence[str | Path]) -> list[Detection]:
        """Verdicts of image files, in order; a file that cannot be read gets an `error`."""
        return list(self.detections(paths))

    def detections(self, paths: Sequence[str | Path]) -> Iterator[Detection]:
        """Like `detect`, a few files at a time, with a progress bar."""
        items = (Item(valid_text(str(path)), str(path)) for path in paths)
        yield from tqdm(
            judge(self, items), total=len(paths), unit="image", disable=None, leave=False
        )


def _cells(image: np.ndarray, few: bool) -> Cells:
    cells = find_cells(image.shape, WINDOW)
    return few_cells(cells) if few else cells


def _checked(image: np.ndarray) -> np.ndarray:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {image.shape}")
    return image


def save_detector(
    directory: Path,
    kind: str,
    threshold: float,
    extractor: LoadedExtractor,
    arrays: Tree,
    facts: dict[str, Any],
) -> None:
    """Writes a self-contained detector directory, atomically.

    Args:
        directory: to write.
        kind: name of its kind; its fields, if it has any, are among the facts.
        threshold: scores above it are called generated.
        extractor: its network.
        arrays: what turns features into scores: {"projection", "gmm"} or {"head"}. A
            one-class detector may add {"calibration": {"log_density": float64 [n]}}, those of
            held-out photos in ascending order, for p-values.
        facts: how the threshold was set, what it was trained on; JSON-serialisable.
    """
    save_model(
        directory,
        DESCRIPTION,
        {"extractor": extractor.params, **arrays},
        {
            "kind": kind,
            "threshold": threshold,
            "convention": "score > threshold: generated",
            "model": to_json(extractor.model),
            "prepare": extractor.prepare,
            **facts,
        },
    )


def load_detector(path: str | Path | None = None) -> Detector:
    """Loads a detector.

    Args:
        path: name of a shipped detector, a detector directory, or the workdir of a one-class or
            binary run; None: the default one of those shipped.

    Raises:
        UserError: nothing there, or damaged, incomplete or written by a newer version.
    """
    directory = find_detector(path)
    arrays, facts = load_model(directory, DESCRIPTION)
    try:
        _check(facts)
        verdicts = parse_verdicts(facts["verdicts"]) if "verdicts" in facts else None
        description = describe(str(facts.get("kind")), facts)
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{directory / DESCRIPTION}: {error}") from error
    extractor = build_extractor(directory, arrays, facts)
    arrays.pop("extractor", None)
    try:
        shapes = description.shapes(arrays, extractor_shapes(extractor.module)[1])
    except ValueError as error:
        raise UserError(f"{directory}: damaged or incomplete ({error})") from error
    check_shapes(directory, arrays, shapes)
    resolved = directory.resolve()
    name = valid_text((resolved.parent if resolved.name == "detector" else resolved).name)
    threshold = float(facts["threshold"])
    return Detector(name, facts["kind"], description, threshold, facts, extractor, arrays, verdicts)


def _check(facts: dict[str, Any]) -> None:
    """Checks what detector.json says beside model, kind and verdicts; adds what it may leave out.

    Raises:
        ValueError: a field is missing or of another type; the message names it.
    """
    threshold = facts.get("threshold")
    if not isinstance(threshold, int | float) or math.isnan(threshold):
        raise ValueError("its threshold is missing or no number")
    if facts.setdefault("score_of", _SCORE_OF[0]) not in _SCORE_OF:
        raise ValueError(f"score_of is {facts['score_of']!r}, not {' or '.join(_SCORE_OF)}")
    patches = facts.setdefault("patches", 0)
    if not isinstance(patches, int) or patches < 0:
        raise ValueError(f"patches is {patches!r}, not a whole number of at least 0")
    if not isinstance(facts.setdefault("threshold_details", {}), dict):
        raise ValueError("threshold_details is no object")
