import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from exif_jax import metrics


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels of both classes."""
    n = draw(st.integers(2, 40))
    scores = draw(st.lists(st.integers(-6, 6), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 1), min_size=n - 2, max_size=n - 2))
    return np.array(scores, np.float32) / 4, np.array([0, 1, *labels])


@given(scored())
def test_auroc_counts_pairs(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    difference = scores[labels == 1][:, None] - scores[labels == 0]
    expected = np.mean((difference > 0) + (difference == 0) / 2)
    assert metrics.auroc(scores, labels) == pytest.approx(expected)


@given(scored())
def test_average_precision_is_scikit_learns(data: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = data
    expected = sk.average_precision_score(labels, scores)
    assert metrics.average_precision(scores, labels) == pytest.approx(expected)


@given(scored(), st.sampled_from([-0.25, 0.0, 0.6]))
def test_accuracy_counts_decisions(data: tuple[np.ndarray, np.ndarray], threshold: float) -> None:
    scores, labels = data
    right = [(score > threshold) == (label == 1) for score, label in zip(*data, strict=True)]
    assert metrics.accuracy(scores, labels, threshold) == pytest.approx(np.mean(right))


def test_a_score_at_the_threshold_is_a_photo() -> None:
    assert metrics.is_generated([0.4, 0.5, 0.6], 0.5).tolist() == [False, False, True]


@given(scored(), st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.5, 1.0]))
def test_tpr_at_fpr_tries_every_threshold(
    data: tuple[np.ndarray, np.ndarray], level: float
) -> None:
    scores, labels = data
    rates = [
        np.mean(scores[labels == 1] >= threshold)
        for threshold in (*scores, np.inf)
        if np.mean(scores[labels == 0] >= threshold) <= level
    ]
    assert metrics.tpr_at_fpr(scores, labels, level) == pytest.approx(max(rates))


def test_tpr_at_fpr_allows_exactly_the_level() -> None:
    scores = np.arange(40.0)
    labels = np.r_[np.zeros(19, int), np.ones(20, int), 0]  # one of 20 photos above all generated
    assert metrics.tpr_at_fpr(scores, labels, 0.05) == 1
    assert metrics.tpr_at_fpr(scores, labels, 0.049) == 0


@settings(max_examples=20, deadline=None)
@given(scored())
def test_auroc_interval_is_seeded_and_ordered(data: tuple[np.ndarray, np.ndarray]) -> None:
    low, high = metrics.auroc_interval(*data, resamples=50)
    assert 0 <= low <= high <= 1
    assert (low, high) == metrics.auroc_interval(*data, resamples=50)


def test_auroc_interval_matches_resampling_images() -> None:
    rng = np.random.default_rng(1)
    scores = np.r_[rng.normal(0, 1, 40), rng.normal(1, 1, 60)].round(1)
    labels = np.r_[np.zeros(40, int), np.ones(60, int)]
    areas = []
    for _ in range(1000):
        picked = np.r_[rng.integers(0, 40, 40), rng.integers(40, 100, 60)]
        areas.append(sk.roc_auc_score(labels[picked], scores[picked]))
    expected = np.quantile(areas, [0.025, 0.975])
    np.testing.assert_allclose(metrics.auroc_interval(scores, labels), expected, atol=0.015)
    wider = metrics.auroc_interval(scores, labels, confidence=0.99)
    narrower = metrics.auroc_interval(scores, labels, confidence=0.8)
    assert wider[0] < narrower[0] < narrower[1] < wider[1]


ranked = st.lists(
    st.tuples(st.integers(-4, 4), st.sampled_from([1.0, 2.0, 2.8, 4.0, np.nan]), st.integers(0, 3)),
    max_size=40,
)


@given(ranked, st.booleans())
def test_concordance_counts_pairs(data: list[tuple[int, float, int]], grouped: bool) -> None:
    comparable = [
        (a, b)
        for a, b in itertools.permutations(data, 2)
        if a[1] > b[1] and (not grouped or a[2] != b[2])
    ]
    right = sum(1.0 if a[0] > b[0] else 0.5 * (a[0] == b[0]) for a, b in comparable)
    scores, values, groups = (
        (np.array(column) for column in zip(*data, strict=True)) if data else (np.zeros(0),) * 3
    )
    fraction, pairs = metrics.concordance(scores, values, groups if grouped else None)
    assert pairs == len(comparable)
    if pairs:
        assert fraction == pytest.approx(right / pairs)
    else:
        assert np.isnan(fraction)


def test_concordance_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.integers(0, 9, 57), rng.integers(0, 9, 57)
    whole = metrics.concordance(scores, values)
    monkeypatch.setattr(metrics, "_CHUNK_ENTRIES", 130)
    assert metrics.concordance(scores, values) == whole


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_balanced_accuracy_is_mean_recall_of_present_classes(data: list[tuple[int, int]]) -> None:
    predicted, true = np.array(data).T
    recalls = [np.mean(predicted[true == c] == c) for c in np.unique(true)]
    value, count = metrics.balanced_accuracy(predicted, true, 6)
    assert (value, count) == (pytest.approx(np.mean(recalls)), len(data))


def test_balanced_accuracy_of_nothing_is_nan() -> None:
    value, count = metrics.balanced_accuracy([], [], 3)
    assert np.isnan(value)
    assert count == 0


def test_balanced_accuracy_refuses_indices_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"0\.\.2"):
        metrics.balanced_accuracy([0, 3], [0, 1], 3)


DETECTION: list[Callable[..., object]] = [
    metrics.auroc,
    metrics.average_precision,
    metrics.auroc_interval,
    lambda scores, labels: metrics.tpr_at_fpr(scores, labels, 0.1),
]


@pytest.mark.parametrize("metric", [*DETECTION, lambda s, y: metrics.accuracy(s, y, 0.5)])
def test_scores_that_are_not_finite_are_counted(metric: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="2 of 4 scores"):
        metric([0.1, np.nan, np.inf, 0.4], [0, 1, 0, 1])


def test_concordance_refuses_scores_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="1 of 2 scores"):
        metrics.concordance([np.nan, 1.0], [1.0, 2.0])


@pytest.mark.parametrize("metric", DETECTION)
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_refused(metric: Callable[..., object], label: int) -> None:
    with pytest.raises(ValueError, match="both classes"):
        metric([0.1, 0.2], [label, label])


def test_other_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be"):
        metrics.auroc([0.1, 0.2], [-1, 1])
