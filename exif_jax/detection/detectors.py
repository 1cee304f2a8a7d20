"""Detectors on disk and in use: extractor, score and threshold in one self-contained directory."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError, decode_image
from data_pipelines.perturbations import parse_perturbation
from exif_jax.config import to_json
from exif_jax.detection.features import extract_features, readable
from exif_jax.detection.kinds import DetectorKind, describe
from exif_jax.detection.thresholds import conformal_p_values
from exif_jax.metrics import is_generated
from exif_jax.models.extractor import extractor_shapes
from exif_jax.models.storage import Tree, load_model, save_model
from exif_jax.models.trained import LoadedExtractor, check_shapes, load_extractor

DESCRIPTION = "detector.json"
_READ_TOGETHER = 16  # images decoded and scored at once by `detect`


@dataclasses.dataclass(frozen=True)
class Detection:
    """What a detector says of one image file.

    Attributes:
        path: the file.
        verdict: `photo` or `generated`; None if the file could not be read.
        score: higher = more likely generated; None likewise.
        threshold: scores above it are called generated.
        error: why the file could not be read, or None.
        p_value: how usual its score is among held-out photos (`Detector.p_values`); None if the
            file could not be read or the detector has no calibration.
    """

    path: str
    verdict: Literal["photo", "generated"] | None
    score: float | None
    threshold: float
    error: str | None = None
    p_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Fields for machines; `error` and `p_value` only where there is one."""
        fields = dataclasses.asdict(self)
        for name in ("error", "p_value"):
            if fields[name] is None:
                del fields[name]
        return fields


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
    """

    name: str
    kind: str
    description: DetectorKind
    threshold: float
    facts: dict[str, Any]
    extractor: LoadedExtractor
    arrays: Tree

    def score(self, images: Iterable[np.ndarray]) -> np.ndarray:
        """Scores images.

        Args:
            images: uint8 [H, W, 3] (RGB) each, of any sizes; read once, in order.

        Returns:
            float32 [n]; higher = more likely generated. For `one_class` minus the log-density of
            photographs in nats, for `binary` a probability; other kinds say.

        Raises:
            ValueError: an image of another shape or type.
        """
        module, params = self.extractor.module, self.extractor.params
        limit = self.facts.get("patches", 0)
        prepare = parse_perturbation(self.extractor.prepare)
        prepared = (prepare.apply(_checked(image)) for image in images)
        features = extract_features(module, params, prepared, limit=limit)
        return self.description.score(features, self.arrays).astype(np.float32)

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
        with tqdm(total=len(paths), unit="image", disable=None, leave=False) as progress:
            for start in range(0, len(paths), _READ_TOGETHER):
                part = paths[start : start + _READ_TOGETHER]
                errors: dict[int, ImageError] = {}
                decoders = (partial(decode_image, Path(path)) for path in part)
                scores = self.score(readable(decoders, errors))
                p_values = self.p_values(scores)
                scored = zip(
                    scores.tolist(),
                    [None] * len(scores) if p_values is None else p_values.tolist(),
                    strict=True,
                )
                for index, path in enumerate(part):
                    if index in errors:
                        yield Detection(str(path), None, None, self.threshold, str(errors[index]))
                        continue
                    score, p_value = next(scored)
                    generated = bool(is_generated([score], self.threshold)[0])
                    verdict: Literal["photo", "generated"] = "generated" if generated else "photo"
                    yield Detection(str(path), verdict, score, self.threshold, p_value=p_value)
                progress.update(len(part))


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


def load_detector(path: str | Path) -> Detector:
    """Loads a detector.

    Args:
        path: a detector directory, or the workdir of a one-class or binary run.

    Raises:
        UserError: nothing there, or damaged, incomplete or written by a newer version.
    """
    directory = Path(path)
    if not (directory / DESCRIPTION).is_file() and (directory / "detector").is_dir():
        directory = directory / "detector"
    if not directory.is_dir():
        raise UserError(f"{directory}: no such detector directory")
    arrays, facts = load_model(directory, DESCRIPTION)
    if not isinstance(facts.get("threshold"), int | float):
        raise UserError(f"{directory / DESCRIPTION}: its threshold is missing or no number")
    try:
        description = describe(str(facts.get("kind")), facts)
    except (UserError, TypeError) as error:
        raise UserError(f"{directory / DESCRIPTION}: {error}") from error
    extractor = load_extractor(directory)
    arrays.pop("extractor", None)
    try:
        shapes = description.shapes(arrays, extractor_shapes(extractor.module)[1])
    except ValueError as error:
        raise UserError(f"{directory}: damaged or incomplete ({error})") from error
    check_shapes(directory, arrays, shapes)
    resolved = directory.resolve()
    name = resolved.parent.name if resolved.name == "detector" else resolved.name
    return Detector(
        name,
        facts["kind"],
        description,
        float(facts["threshold"]),
        facts,
        extractor,
        arrays,
    )
