import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from exif_jax.detection.calibration import (
    fit_calibration,
    group_threshold,
    rate_above,
    reliability,
    spread,
)


def two_classes(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True log-odds of balanced classes, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=n)
    return rng.normal(np.where(labels == 1, 1.0, -1.0), 2**0.5), labels


def test_calibration_finds_the_line_that_was_bent() -> None:
    # Normal classes at +-1 of variance 2 have log-odds x.
    truth, labels = two_classes(40_000)
    line = fit_calibration(3 * truth - 2, labels)
    assert line.slope == pytest.approx(1 / 3, abs=0.02)
    assert line.intercept == pytest.approx(2 / 3, abs=0.05)


def test_calibration_does_not_depend_on_the_share_of_the_classes() -> None:
    truth, labels = two_classes(40_000)
    kept = (labels == 0) | (np.arange(len(labels)) % 5 == 0)
    line = fit_calibration(truth[kept], labels[kept])
    assert line.slope == pytest.approx(1, abs=0.05)
    assert line.intercept == pytest.approx(0, abs=0.05)


def test_reliability_of_true_probabilities_is_the_diagonal() -> None:
    truth, labels = two_classes(40_000)
    rows = reliability(expit(truth), labels)
    assert sum(count for _, _, count in rows) == len(labels)
    for stated, share, _ in rows:
        assert share == pytest.approx(stated, abs=0.03)
    wrong = reliability(expit(3 * truth), labels)
    assert max(abs(stated - share) for stated, share, _ in wrong) > 0.1


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    rate=st.floats(0.01, 0.6),
    levels=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
)
def test_threshold_is_the_least_that_keeps_the_bound(
    sizes: list[int], rate: float, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    scores = rng.integers(levels, size=len(groups)).astype(float)

    def bound(threshold: float) -> float:
        shares = [(scores[groups == g] > threshold).mean() for g in range(len(sizes))]
        return float(np.sum(shares) + 1)

    allowed = rate * (len(sizes) + 1)
    threshold = group_threshold(scores, groups, rate)
    if allowed < 1:
        assert threshold == math.inf
        return
    assert bound(threshold) <= allowed + 1e-9
    lower = scores[scores < threshold]
    if len(lower):
        assert bound(lower.max()) > allowed


def test_a_new_group_exceeds_the_threshold_as_seldom_as_promised() -> None:
    rng = np.random.default_rng(0)
    rate, over = 0.1, []
    for _ in range(400):
        # Groups differ in place, width and size; the last one is new.
        parts = [
            rng.normal(rng.normal(), rng.uniform(0.2, 2), size=rng.integers(1, 9))
            for _ in range(30)
        ]
        known = np.concatenate(parts[:-1])
        groups = np.repeat(np.arange(29), [len(part) for part in parts[:-1]])
        over.append((parts[-1] > group_threshold(known, groups, rate)).mean())
    standard_error = np.std(over) / np.sqrt(len(over))
    assert np.mean(over) <= rate + 2 * standard_error
    assert np.mean(over) > rate / 4  # nor is it needlessly strict


def test_rate_counts_groups_not_images() -> None:
    scores = np.array([1.0] * 90 + [0.0] * 10)
    groups = np.array([0] * 90 + list(range(1, 11)))
    rate = rate_above(scores, groups, 0.5)
    assert rate.rate == pytest.approx(1 / 11)
    assert rate.low <= rate.rate <= rate.high


def test_rate_of_none_is_not_known_to_be_zero() -> None:
    rate = rate_above(np.zeros(20), np.arange(20), 0.5)
    assert rate.rate == 0
    assert rate.high == pytest.approx(1 - 0.05 ** (1 / 20))
    full = rate_above(np.ones(20), np.arange(20), 0.5)
    assert full.rate == 1
    assert full.low == pytest.approx(0.05 ** (1 / 20))


def test_spread_finds_the_variances() -> None:
    rng = np.random.default_rng(0)
    images = np.repeat(np.arange(3000), rng.integers(1, 5, size=3000))
    labels = images % 2
    scores = rng.normal(0, 2, size=3000)[images] + rng.normal(size=len(images)) + 10 * labels
    found = spread(scores, images, labels)
    assert found.between == pytest.approx(4, rel=0.1)
    assert found.within == pytest.approx(1, rel=0.1)
    assert found.certainty(1) == 1
    assert found.certainty(10**6) == pytest.approx(1.25, rel=0.05)


def test_as_many_means_as_windows_exceed_their_threshold() -> None:
    rng = np.random.default_rng(0)
    windows = 5 + rng.normal(0, 2, size=(50_000, 1)) + rng.normal(0, 3, size=(50_000, 4))
    found = spread(windows.ravel(), np.repeat(np.arange(50_000), 4), np.zeros(200_000))
    single = float(np.quantile(windows, 0.98))
    several = found.threshold(single, 5.0, 4)
    assert several < single
    assert (windows.mean(axis=1) > several).mean() == pytest.approx(0.02, abs=0.002)
    assert found.threshold(single, 5.0, 1) == single
