"""Numbers that say how well scores and classes were predicted.

Detection metrics take scores (higher = more likely generated) and labels (1 = generated, the
positive class; 0 = photograph), both [n]. Throughout, scores that are not finite raise ValueError.
"""

from collections.abc import Sequence

import numpy as np
from etils import epy

with epy.lazy_imports():  # a second or two, and training needs few of its numbers
    from sklearn import metrics as sklearn_metrics

Numbers = np.ndarray | Sequence[float]

_CHUNK_ENTRIES = 2**22  # comparisons held in memory at once


def is_generated(scores: Numbers, threshold: float) -> np.ndarray:
    """The decision: bool [n], True where a score lies strictly above the threshold."""
    return _finite(scores) > threshold


def accuracy(scores: Numbers, labels: Numbers, threshold: float) -> float:
    """Fraction of right decisions (`is_generated`), every image counted alike."""
    decided, labels = is_generated(scores, threshold), _labels(labels)
    return float(np.mean(decided == labels))


def auroc(scores: Numbers, labels: Numbers) -> float:
    """Area under the ROC curve: P(generated > photo) + P(equal) / 2 over pairs.

    Raises:
        ValueError: scores that are not finite, or one class absent.
    """
    return float(sklearn_metrics.roc_auc_score(_two_classes(labels), _finite(scores)))


def average_precision(scores: Numbers, labels: Numbers) -> float:
    """Precision averaged over the recall steps, without interpolation; depends on the class ratio.

    Raises:
        ValueError: scores that are not finite, or one class absent.
    """
    return float(sklearn_metrics.average_precision_score(_two_classes(labels), _finite(scores)))


def tpr_at_fpr(scores: Numbers, labels: Numbers, level: float) -> float:
    """Largest true-positive rate of any threshold whose measured false-positive rate is <= level.

    No interpolation, and equal scores cross a threshold together. With fewer than 1 / level photos
    no false positive at all is allowed.

    Raises:
        ValueError: scores that are not finite, or one class absent.
    """
    fpr, tpr, _ = sklearn_metrics.roc_curve(
        _two_classes(labels), _finite(scores), drop_intermediate=False
    )
    return float(tpr[fpr <= level].max())


def auroc_interval(
    scores: Numbers,
    labels: Numbers,
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the AUROC, resampled within each class.

    It takes images as independent: several windows of one photo make it too narrow. With perfect
    separation it is (1, 1), however few the images.

    Args:
        scores: [n].
        labels: [n].
        confidence: probability that the interval is to cover.
        resamples: bootstrap samples.
        seed: of the resampling.

    Raises:
        ValueError: scores that are not finite, or one class absent.
    """
    labels = _two_classes(labels)
    levels, position = np.unique(_finite(scores), return_inverse=True)
    # Drawing n images with replacement = a multinomial draw over the distinct scores.
    photos, generated = (
        np.bincount(position[labels == label], minlength=len(levels)) for label in (False, True)
    )
    rng = np.random.default_rng(seed)
    areas = np.empty(resamples)
    for i in range(resamples):
        drawn_photos = rng.multinomial(photos.sum(), photos / photos.sum())
        drawn_generated = rng.multinomial(generated.sum(), generated / generated.sum())
        beaten = np.cumsum(drawn_photos) - drawn_photos / 2
        areas[i] = drawn_generated @ beaten / (photos.sum() * generated.sum())
    low, high = np.quantile(areas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def concordance(
    scores: Numbers, values: Numbers, groups: Numbers | None = None
) -> tuple[float, int]:
    """Fraction of comparable pairs that scores order as the true values do; chance is 1/2.

    A pair is comparable when both values are known and differ. Equal scores count 1/2.

    Args:
        scores: [n] predicted; needed (finite) for every item, known value or not.
        values: [n] true; NaN = missing.
        groups: [n] optional; pairs within one group (windows of one photo) are left out.

    Returns:
        The fraction, NaN when no pair is comparable, and the number of comparable pairs.

    Raises:
        ValueError: scores that are not finite.
    """
    scores = _finite(scores)
    values = np.asarray(values, np.float64)
    groups = np.arange(len(scores)) if groups is None else np.asarray(groups)
    known = ~np.isnan(values)
    scores, values, groups = scores[known], values[known], groups[known]
    pairs, right = 0, 0.0
    rows = max(1, _CHUNK_ENTRIES // max(1, len(scores)))
    for start in range(0, len(scores), rows):
        chunk = slice(start, start + rows)
        comparable = (values[chunk, None] > values) & (groups[chunk, None] != groups)
        pairs += int(comparable.sum())
        right += float((comparable & (scores[chunk, None] > scores)).sum())
        right += float((comparable & (scores[chunk, None] == scores)).sum()) / 2
    return (right / pairs if pairs else float("nan")), pairs


def balanced_accuracy(predicted: Numbers, true: Numbers, num_classes: int) -> tuple[float, int]:
    """Recall averaged over the classes that occur; chance is 1 / (classes that occur).

    Args:
        predicted: [n] class indices.
        true: [n] class indices.
        num_classes: indices lie in 0..num_classes - 1.

    Returns:
        The mean, NaN when n is 0, and n.

    Raises:
        ValueError: a class index out of range.
    """
    predicted, true = np.asarray(predicted, np.int64), np.asarray(true, np.int64)
    for indices in (predicted, true):
        if ((indices < 0) | (indices >= num_classes)).any():
            raise ValueError(f"class indices outside 0..{num_classes - 1}")
    if not len(true):
        return float("nan"), 0
    counts = np.bincount(true, minlength=num_classes)
    right = np.bincount(true[predicted == true], minlength=num_classes)
    present = counts > 0
    return float(np.mean(right[present] / counts[present])), len(true)


def _finite(scores: Numbers) -> np.ndarray:
    scores = np.asarray(scores, np.float64)
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise ValueError(f"{bad} of {scores.size} scores are not finite")
    return scores


def _labels(labels: Numbers) -> np.ndarray:
    labels = np.asarray(labels)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 (photograph) or 1 (generated)")
    return labels.astype(bool)


def _two_classes(labels: Numbers) -> np.ndarray:
    labels = _labels(labels)
    if labels.all() or not labels.any():
        raise ValueError("both classes, photographs and generated images, are needed")
    return labels
