"""Comparison of scores on one test set, with intervals that know what is not independent.

`metrics.auroc_interval` takes images as independent; here windows of one source image, and photos
of one camera, are drawn together, and pairs can be compared that a trivial score does not tell
apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from photos import UNSEEN_GENERATORS, Item, Plan
from scipy import ndimage

from data_pipelines.images import decode_image
from exif_jax import metrics
from exif_jax.models.srm import srm_kernels

RESAMPLES = 2000
CALIPER = 0.1  # largest difference of matched trivial scores, in their deviation over training data
FEWEST_SOURCES = 5  # source images of a generator from which an interval is given
PARTS = ("all", "unseen generators", "seen generators", "matched pairs")
CUES = ("residual", "file size", "brightness")


def cues(path: Path) -> list[float]:
    """Trivial scores of an image file, in the order of `CUES`.

    `residual` is the logarithm of the variance of the 5x5 square SRM residual, averaged over the
    colour planes; `file size` the logarithm of the bytes; `brightness` the mean of all values.
    """
    image = decode_image(path).astype(np.float64)
    kernel = srm_kernels()[:, :, -1]
    residuals = [ndimage.correlate(image[:, :, c], kernel)[2:-2, 2:-2] for c in range(3)]
    residual = np.mean([np.log(r.var() + 1e-3) for r in residuals])
    return [float(residual), float(np.log(path.stat().st_size)), float(image.mean())]


class Comparison:
    """AUROC of scores on one test set and on parts of it, always with the same resamples.

    The bootstrap draws whole cameras of the photographs and whole source images of the generated
    windows. Matched pairs differ by less than the caliper in the residual.

    Attributes:
        labels: of the test set.
        trivial: scores of the cues, turned by the training images so that higher means generated.
        parts: pairs (generated, photograph) that each part is about, bool.
        sizes: of every part: pairs, generated windows, their source images, photographs.
    """

    def __init__(self, plan: Plan, files: Mapping[str, Sequence[Path]]) -> None:
        """Draws the resamples; labelled images tell the sign of the cues.

        Args:
            plan: says what the images are.
            files: from `photos.lay_out`.
        """
        self.labels = np.array([item.label for item in plan.test])
        photos = [item for item in plan.test if item.label == 0]
        generated = [item for item in plan.test if item.label == 1]
        rng = np.random.default_rng(0)
        self._photo_weights = cluster_weights([item.kind for item in photos], rng)
        self._generated_weights = cluster_weights([item.source for item in generated], rng)
        known, found = (np.array(list(map(cues, files[u]))) for u in ("labelled", "test"))
        labels = [item.label for item in plan.binary]
        areas = [metrics.auroc(column, labels) for column in known.T]
        turned = found * np.where(np.array(areas) >= 0.5, 1, -1)
        self.trivial = dict(zip(CUES, turned.T, strict=True))
        residual = self.trivial["residual"]
        difference = residual[self.labels == 1][:, None] - residual[self.labels == 0]
        kinds = np.array([item.kind for item in generated])
        unseen = np.isin(kinds, UNSEEN_GENERATORS)
        of_rows = {"all": unseen | True, "unseen generators": unseen, "seen generators": ~unseen}
        of_rows |= {kind: kinds == kind for kind in sorted(set(kinds.tolist()))}
        self.parts = {k: np.repeat(rows[:, None], len(photos), 1) for k, rows in of_rows.items()}
        self.parts["matched pairs"] = np.abs(difference) < CALIPER * known[:, 0].std()
        sources = np.array([item.source for item in generated])
        self.sizes = {
            name: {
                "pairs": int(pairs.sum()),
                "generated": int(pairs.any(axis=1).sum()),
                "sources": len(set(sources[pairs.any(axis=1)].tolist())),
                "photographs": int(pairs.any(axis=0).sum()),
            }
            for name, pairs in self.parts.items()
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
            numerator, denominator = self._sum(right * pairs), self._sum(pairs.astype(np.float64))
            with np.errstate(invalid="ignore"):
                result[name] = np.where(denominator > 0, numerator / denominator, np.nan)
        return result

    def _sum(self, values: np.ndarray) -> np.ndarray:
        product: np.ndarray = ((self._generated_weights @ values) * self._photo_weights).sum(axis=1)
        return product

    def rates(self, scores: np.ndarray, threshold: float) -> dict[str, float]:
        """False- and true-positive rate at a threshold."""
        decided = metrics.is_generated(scores, threshold)
        parts = (decided[self.labels == label] for label in (0, 1))
        return {name: float(part.mean()) for name, part in zip(("FPR", "TPR"), parts, strict=True)}

    def summary(self, areas: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        """Part -> `value`, an AUROC or difference, and its 95 % `interval`; None: unknown."""
        result: dict[str, dict[str, Any]] = {}
        for name, values in areas.items():
            drawn = values[1:][np.isfinite(values[1:])]
            wide = self.sizes[name]["sources"] >= FEWEST_SOURCES and len(drawn) > 0.9 * RESAMPLES
            value = float(values[0]) if np.isfinite(values[0]) else None
            interval = np.quantile(drawn, [0.025, 0.975]).tolist() if wide else None
            result[name] = {"value": value, "interval": interval}
        return result


class Judge:
    """Measures of scores of all windows, always with the same resamples.

    The bootstrap draws whole cameras of the photographs and whole source images of the generated
    windows. Matched pairs differ by less than the caliper in the trivial score.
    """

    def __init__(self, items: Sequence[Item], trivial: np.ndarray) -> None:
        """Draws the resamples; the trivial score [n] says which pairs match."""
        rng = np.random.default_rng(0)
        self.labels = np.array([item.label for item in items])
        self.kinds = np.array([item.kind for item in items])
        self.sources = np.array([item.source for item in items])
        photos, generated = self.labels == 0, self.labels == 1
        self.photos = cluster_weights(self.kinds[photos].tolist(), rng)
        self.generated = cluster_weights(self.sources[generated].tolist(), rng)
        self.trivial = trivial
        difference = np.subtract.outer(self.trivial[generated], self.trivial[photos])
        self.matched = np.abs(difference) < CALIPER * self.trivial.std()
        self._pairs = {True: self._sum(self.matched), False: self._sum(np.ones_like(difference))}

    def _sum(self, pairs: np.ndarray) -> np.ndarray:
        product = (self.generated @ pairs.astype(np.float64)) * self.photos
        total: np.ndarray = product.sum(axis=1)
        return total

    def area(self, scores: np.ndarray, matched: bool = False) -> np.ndarray:
        """AUROC [1 + resamples], the mean over seeds, of scores [seeds, n]."""
        return np.mean([self._area(row, matched) for row in scores], axis=0)

    def _area(self, scores: np.ndarray, matched: bool) -> np.ndarray:
        fake, real = scores[self.labels == 1][:, None], scores[self.labels == 0]
        right = (fake > real) + 0.5 * (fake == real)
        return self._sum(right * self.matched if matched else right) / self._pairs[matched]

    def detected(self, scores: np.ndarray, level: float) -> np.ndarray:
        """TPR at a false-positive rate, [1 + resamples], mean over seeds."""
        return np.mean([self._detected(row, level) for row in scores], axis=0)

    def _detected(self, scores: np.ndarray, level: float) -> np.ndarray:
        real, fake = scores[self.labels == 0], scores[self.labels == 1]
        order = np.argsort(-real, kind="stable")
        above = np.cumsum(self.photos[:, order], axis=1)
        first = (above > level * above[:, -1:]).argmax(axis=1)
        ranked = np.argsort(-fake, kind="stable")
        found = np.cumsum(self.generated[:, ranked], axis=1)
        count = np.searchsorted(-fake[ranked], -real[order][first], side="left")
        rows = np.arange(len(found))
        rates: np.ndarray = np.where(count > 0, found[rows, count - 1], 0) / found[:, -1]
        return rates


def summary(values: np.ndarray) -> dict[str, Any]:
    """The value and its interval, of [1 + resamples]."""
    return {"value": float(values[0]), "interval": np.quantile(values[1:], [0.025, 0.975]).tolist()}


def cluster_weights(clusters: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """How often each item is drawn, [1 + resamples, items]; the first row is the data itself."""
    names, position = np.unique(clusters, return_inverse=True)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return np.concatenate([np.ones((1, len(clusters))), drawn[:, position]])


def table(rows: Sequence[Mapping[str, Any]], *columns: str) -> str:
    """A table in Markdown: these columns of the rows, by default all of the first row."""
    columns = columns or tuple(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row[c]) for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Text of a number, or of a value of `Comparison.summary` and its interval."""
    if isinstance(value, dict):
        ends = ", ".join(map(_cell, value["interval"] or ()))
        return _cell(value["value"]) + (f" [{ends}]" if ends else "")
    if value is None or value != value:
        return "n/a"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) >= 1e-3 or not value else f"{value:.1e}"
    return str(value)
