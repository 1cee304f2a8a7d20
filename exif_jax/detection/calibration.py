"""What scores of held-out images promise: thresholds for groups, error rates, probabilities.

Windows of one photograph, and photographs of one camera, are alike. So what is promised for a
camera that nobody has seen is learned from whole cameras, each counting once, whatever the number
of its photographs; of generated images likewise from whole generators.

Shapes: n images, K groups.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

_RESAMPLES = 2000
_CONFIDENCE = 0.95


class Line(NamedTuple):
    """From a score's log-odds to those of the probability of `generated`."""

    slope: float
    intercept: float


def fit_calibration(log_odds: np.ndarray, labels: np.ndarray) -> Line:
    """The line that makes log-odds of held-out images those of a probability, at a prior of 1/2.

    Logistic regression in which both classes weigh the same.

    Args:
        log_odds: float [n].
        labels: [n], 1 for a generated image.

    References:
        Platt, "Probabilistic outputs for support vector machines", 1999.
    """
    sign = np.where(labels == 1, 1.0, -1.0)
    weight = 0.5 / np.where(labels == 1, (labels == 1).mean(), (labels == 0).mean())

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (line[0] * log_odds + line[1])
        slope = -sign * weight * expit(-margin)
        gradient = np.array([(slope * log_odds).mean(), slope.mean()])
        return float((weight * np.logaddexp(0, -margin)).mean()), gradient

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="BFGS").x
    return Line(float(found[0]), float(found[1]))


def reliability(
    probability: np.ndarray, labels: np.ndarray, bins: int = 10
) -> list[tuple[float, float, int]]:
    """How often images of some probability are generated, for a reliability diagram.

    Both classes weigh the same, as in `fit_calibration`.

    Args:
        probability: float [n], 0..1.
        labels: [n], 1 for a generated image.
        bins: of equal width.

    Returns:
        Mean probability, share of generated images and number of images of every bin that has any.
    """
    weight = 0.5 / np.where(labels == 1, (labels == 1).mean(), (labels == 0).mean())
    number = np.minimum((probability * bins).astype(int), bins - 1)
    rows = []
    for one in range(bins):
        own = number == one
        if own.any():
            mean = np.average(probability[own], weights=weight[own])
            share = np.average(labels[own] == 1, weights=weight[own])
            rows.append((float(mean), float(share), int(own.sum())))
    return rows


def group_threshold(scores: np.ndarray, groups: np.ndarray, rate: float) -> float:
    """Least threshold that an image of a new group exceeds with at most this probability.

    For a group drawn like the K given ones, and an image drawn from it: the shares of images above
    the threshold, summed over the groups, and 1 for the new one, are at most rate * (K + 1). The
    sum of K + 1 shares that are drawn alike bounds the mean of the last, so this holds whatever the
    distributions. Scores should be of models that saw none of the image's group (cross-conformal,
    so held in practice; exact where one model gave all scores).

    Args:
        scores: float [n].
        groups: [n], names or numbers.
        rate: of images of a new group, between 0 and 1.

    Returns:
        One of the scores, or infinity where so few groups cannot promise the rate.

    References:
        Lee, Barber & Willett, "Distribution-free inference with hierarchical data", 2023.
    """
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    allowed = rate * (len(sizes) + 1) - 1
    if allowed < 0:
        return math.inf
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    # Threshold = the i-th largest score: the shares of all that lie strictly above it.
    above = np.concatenate([[0.0], np.cumsum(1 / sizes[number[order]])[:-1]])
    first = np.concatenate([[True], ordered[1:] != ordered[:-1]])  # ties lie on one side
    above = above[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    return float(ordered[np.flatnonzero(above <= allowed + 1e-12)[-1]])


class Rate(NamedTuple):
    """A rate over new groups, and the 95 % interval of what it may be."""

    rate: float
    low: float
    high: float


def rate_above(
    scores: np.ndarray, groups: np.ndarray, threshold: float, resamples: int = _RESAMPLES
) -> Rate:
    """Mean over groups of the share of their images above a threshold, with its interval.

    Bootstrap over whole groups. Where no image, or every one, is above, a bootstrap knows no
    spread: then the interval ends at 1 - 0.05^(1/K), what K groups without any allow.

    Args:
        scores: float [n].
        groups: [n].
        threshold: that is exceeded.
        resamples: of the bootstrap.
    """
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shares = np.bincount(number, scores > threshold) / sizes
    rng = np.random.default_rng(0)
    drawn = shares[rng.integers(len(shares), size=(resamples, len(shares)))].mean(axis=1)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    unseen = 1 - (1 - _CONFIDENCE) ** (1 / len(shares))
    if not shares.any():
        high = unseen
    if shares.all() and shares.min() == 1:
        low = 1 - unseen
    return Rate(float(shares.mean()), float(low), float(high))


class Spread(NamedTuple):
    """Variances of scores between the images' means, and between windows of one image."""

    between: float
    within: float

    def certainty(self, windows: int) -> float:
        """How much further from 0 the mean of so many windows may be read than one window."""
        return (self.between + self.within) / (self.between + self.within / windows)

    def threshold(self, threshold: float, mean: float, windows: int) -> float:
        """Threshold for means of so many windows that as many images exceed as one for windows.

        Args:
            threshold: of single windows.
            mean: of the class whose scores these variances are of; their form is taken to stay.
            windows: alike like those of one image by which the variances were found.
        """
        return mean + (threshold - mean) / math.sqrt(self.certainty(windows))


def spread(scores: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Spread:
    """Components of variance of windows' scores within a class (one-way, unbalanced).

    Args:
        scores: float [n], of windows.
        images: [n], of which image each window is.
        labels: [n], the class, the mean of which is taken off.

    References:
        Searle, Casella & McCulloch, "Variance components", 1992, chapter 3 (ANOVA estimator).
    """
    values = np.asarray(scores, np.float64)
    for label in np.unique(labels):
        values = np.where(labels == label, values - values[labels == label].mean(), values)
    _, number, sizes = np.unique(images, return_inverse=True, return_counts=True)
    means = np.bincount(number, values) / sizes
    n, count = len(values), len(sizes)
    within = float(((values - means[number]) ** 2).sum() / max(n - count, 1))
    around = float((sizes * (means - values.mean()) ** 2).sum() / max(count - 1, 1))
    typical = (n - (sizes**2).sum() / n) / max(count - 1, 1)
    return Spread(max(0.0, (around - within) / typical), within)
