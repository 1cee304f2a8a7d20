"""Comparison of detectors on one test set, with intervals that know what is not independent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from real_data import UNSEEN_GENERATORS, Item
from scipy import ndimage

from data_pipelines.images import decode_image
from exif_jax import metrics
from exif_jax.models.srm import srm_kernels

RESAMPLES = 2000
CALIPER = 0.1  # largest difference of matched trivial scores, in their deviation over training data
FEWEST_SOURCES = 5  # source images of a generator from which an interval is given
CUES = ("residual", "file size", "brightness")


def cues(path: Path) -> dict[str, float]:
    """Trivial scores of an image file.

    `residual` is the logarithm of the variance of the 5x5 square SRM residual, averaged over the
    colour planes; `file size` the logarithm of the bytes; `brightness` the mean of all values.
    """
    image = decode_image(path).astype(np.float64)
    kernel = srm_kernels()[:, :, -1]
    residuals = [ndimage.correlate(image[:, :, c], kernel)[2:-2, 2:-2] for c in range(3)]
    return {
        "residual": float(np.mean([np.log(r.var() + 1e-3) for r in residuals])),
        "file size": float(np.log(path.stat().st_size)),
        "brightness": float(image.mean()),
    }


@dataclass(frozen=True)
class TrivialScore:
    """A cue turned, by the training images, so that higher means generated."""

    cue: str
    sign: int
    deviation: float
    training_auroc: float

    def score(self, values: Sequence[dict[str, float]]) -> np.ndarray:
        """Scores of images from their cues, float64 [n]."""
        return self.sign * np.array([value[self.cue] for value in values])


def fit_trivial(cue: str, values: Sequence[dict[str, float]], labels: np.ndarray) -> TrivialScore:
    """Fixes the sign and the deviation of a cue on the images for training."""
    x = np.array([value[cue] for value in values])
    area = metrics.auroc(x, labels)
    return TrivialScore(cue, 1 if area >= 0.5 else -1, float(x.std()), max(area, 1 - area))


class Comparison:
    """AUROC of scores on one test set and on parts of it, always with the same resamples.

    The bootstrap draws whole cameras of the photographs and whole source images of the generated
    windows, because windows of one source, and photos of one camera, are alike.
    """

    def __init__(self, items: Sequence[Item], matching: TrivialScore, trivial: np.ndarray) -> None:
        """Draws the resamples; pairs are matched where `trivial` differs by less than the caliper.

        Args:
            items: the test set.
            matching: says the deviation that the caliper is relative to.
            trivial: its scores of the items.
        """
        self.labels = np.array([item.label for item in items])
        self._generated = [item for item in items if item.label == 1]
        photos = [item for item in items if item.label == 0]
        rng = np.random.default_rng(0)
        self._photo_weights = _weights([item.kind for item in photos], rng)
        self._generated_weights = _weights([item.source for item in self._generated], rng)
        difference = trivial[self.labels == 1][:, None] - trivial[self.labels == 0]
        matched = np.abs(difference) < CALIPER * matching.deviation
        kinds = np.array([item.kind for item in self._generated])
        unseen = np.isin(kinds, UNSEEN_GENERATORS)
        everything = np.ones((1, len(photos)), bool)
        self.parts = {
            "all": np.ones_like(matched),
            "seen generators": ~unseen[:, None] & everything,
            "unseen generators": unseen[:, None] & everything,
            "matched pairs": matched,
            **{kind: (kinds == kind)[:, None] & everything for kind in sorted(set(kinds))},
        }

    def size(self, part: str) -> dict[str, int]:
        """Numbers of pairs, generated windows and their source images in a part."""
        pairs = self.parts[part]
        sources = {self._generated[i].source for i in np.flatnonzero(pairs.any(axis=1))}
        return {
            "pairs": int(pairs.sum()),
            "generated": int(pairs.any(axis=1).sum()),
            "sources": len(sources),
            "photographs": int(pairs.any(axis=0).sum()),
        }

    def areas(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Part -> AUROC [1 + resamples] over its pairs; the first is that of the test set itself.

        The AUROC is the fraction of photo/generated pairs ordered right, ties 1/2; NaN where a
        resample holds no pair.
        """
        generated, photos = scores[self.labels == 1][:, None], scores[self.labels == 0]
        right = (generated > photos) + 0.5 * (generated == photos)
        result = {}
        for name, pairs in self.parts.items():
            numerator = self._sum(right * pairs)
            denominator = self._sum(pairs.astype(np.float64))
            with np.errstate(invalid="ignore"):
                result[name] = np.where(denominator > 0, numerator / denominator, np.nan)
        return result

    def _sum(self, values: np.ndarray) -> np.ndarray:
        product: np.ndarray = ((self._generated_weights @ values) * self._photo_weights).sum(axis=1)
        return product

    def summary(self, areas: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Part -> AUROC (or difference of AUROCs), its 95 % interval, and the part's sizes."""
        result: dict[str, dict[str, Any]] = {}
        for name, values in areas.items():
            size = self.size(name)
            drawn = values[1:][np.isfinite(values[1:])]
            wide = size["sources"] >= FEWEST_SOURCES and len(drawn) > 0.9 * RESAMPLES
            result[name] = {
                "value": float(values[0]) if np.isfinite(values[0]) else None,
                "interval": np.quantile(drawn, [0.025, 0.975]).tolist() if wide else None,
                **size,
            }
        return result


def _weights(clusters: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """How often each item is drawn, [1 + resamples, items]; the first row is the data itself."""
    names, position = np.unique(clusters, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return np.concatenate([np.ones((1, len(clusters))), drawn[:, position]])


def at_threshold(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float]:
    """Decisions at a detector's stored threshold, and the rate at 5 % false positives.

    For `tpr_at_fpr_5pct` the threshold is chosen on the test photographs themselves.
    """
    decided = metrics.is_generated(scores, threshold)
    return {
        "accuracy": metrics.accuracy(scores, labels, threshold),
        "false_positive_rate": float(decided[labels == 0].mean()),
        "true_positive_rate": float(decided[labels == 1].mean()),
        "tpr_at_fpr_5pct": metrics.tpr_at_fpr(scores, labels, 0.05),
    }
