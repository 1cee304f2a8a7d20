"""Thresholds keep the rate that they state, p-values are valid, and both say what they cannot."""

import json

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from exif_jax.detection.thresholds import (
    conformal_p_values,
    fitting_percentile_threshold,
    quantile_threshold,
)

rates = st.floats(0.001, 0.999)


def sample(n, seed, ties):
    values = np.random.default_rng(seed).normal(size=n)
    return np.round(values) if ties else values


samples = st.builds(sample, st.integers(1, 400), st.integers(0, 2**32 - 1), st.booleans())


@hypothesis.given(samples, rates)
def test_the_threshold_is_the_conformal_order_statistic(values, rate):
    rule, n = quantile_threshold(values, rate), len(values)
    k = round(rule.expected_rate * (n + 1))
    assert rule.threshold == np.sort(values)[k - 1]
    assert (values < rule.threshold).sum() <= k - 1  # of the photos it was set on
    if rule.warning:
        assert k == 1 and rule.expected_rate > rate
    else:
        assert rule.expected_rate <= rate + 1e-9 < (k + 1) / (n + 1) + 1e-6
    assert (rule.name, rule.photos, rule.false_positive_rate) == ("heldout_quantile", n, rate)


@hypothesis.given(samples, rates, st.floats(0.01, 0.98))
def test_the_interval_widens_with_its_confidence_and_narrows_with_photos(values, rate, confidence):
    rule = quantile_threshold(values, rate, confidence)
    low, high = rule.interval
    assert 0 <= low < high <= 1 and rule.confidence == confidence
    wider_low, wider_high = quantile_threshold(values, rate, confidence + 0.01).interval
    assert wider_low < low < high < wider_high
    # The same rate k / (n + 1) from ten times as many photos.
    many = quantile_threshold(np.resize(values, 10 * len(values) + 9), rule.expected_rate)
    few = quantile_threshold(values, rule.expected_rate)
    assert many.expected_rate == pytest.approx(few.expected_rate)
    assert np.ptp(many.interval) < np.ptp(few.interval)


@hypothesis.given(samples, rates, st.floats(0.1, 10), st.floats(-5, 5))
def test_only_the_order_of_the_values_matters(values, rate, scale, shift):
    rule = quantile_threshold(values, rate)
    moved = quantile_threshold(np.sort(values * scale + shift), rate)
    assert moved.threshold == rule.threshold * scale + shift
    assert (moved.expected_rate, moved.interval) == (rule.expected_rate, rule.interval)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (50, 0.1), (7, 0.3)])
def test_new_photos_lie_below_the_threshold_at_the_stated_rate(n, rate):
    rng = np.random.default_rng(1)
    trials = 4000
    values = rng.standard_cauchy((trials, n + 1))
    rules = [quantile_threshold(row[:-1], rate) for row in values]
    below = np.mean([row[-1] < rule.threshold for row, rule in zip(values, rules, strict=True)])
    expected = rules[0].expected_rate
    assert abs(below - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)
    # Of distribution-free values only ranks matter, so uniform ones show the spread of the rate.
    spread = np.array([quantile_threshold(row, rate).threshold for row in rng.random((trials, n))])
    low, high = rules[0].interval
    assert np.mean((spread >= low) & (spread <= high)) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.07, 0.29, 1 / 3, 0.5, 0.9])
def test_the_photos_that_a_rate_needs_suffice_and_one_less_does_not(rate):
    needed = next(n for n in range(1, 1100) if not quantile_threshold(np.zeros(n), rate).warning)
    assert needed == max(1, np.ceil(1 / rate - 1e-6) - 1)
    if needed > 1:
        assert f"needs {needed} photos" in quantile_threshold(np.zeros(needed - 1), rate).warning


def test_too_few_photos_are_told_in_numbers():
    rule = quantile_threshold([3.0, 1.0, 2.0], 0.05)
    assert (rule.threshold, rule.expected_rate) == (1.0, 0.25)
    assert rule.warning == (
        "3 held-out photos are too few for a false-positive rate of 5 %: the smallest that they "
        "can state is 25 %, which the threshold is set for; 5 % needs 19 photos"
    )


def test_the_published_rule_is_a_percentile_that_promises_nothing():
    values = np.random.default_rng(0).normal(size=1000)
    rule = fitting_percentile_threshold(values)
    assert (rule.name, rule.photos, rule.false_positive_rate) == ("fitting_percentile", 1000, 0.02)
    assert rule.threshold == np.percentile(values, 2)
    assert np.mean(values < rule.threshold) == 0.02
    assert rule.expected_rate is rule.interval is rule.confidence is None
    assert "photos that the mixture was fitted to" in rule.warning
    assert "on new photos is likely higher than 2 %, and unknown" in rule.warning


def test_a_rule_tells_how_it_was_set():
    heldout = quantile_threshold(np.arange(216), 0.05)
    assert heldout.summary == (
        "set on 216 held-out photos for 5 % of photos called generated: expect 4.6 % [2.2 %, 7.8 %]"
    )
    published = fitting_percentile_threshold(np.arange(1944), 7)
    assert published.summary == "set at percentile 7 of the 1944 photos that were fitted"


@pytest.mark.parametrize(
    "rule", [quantile_threshold([1.0, 2.0], 0.4), fitting_percentile_threshold([1.0, 2.0])]
)
def test_a_rule_survives_json(rule):
    fields = json.loads(json.dumps(rule.to_json()))
    assert fields == rule.to_json()
    assert fields.pop("log_density_threshold") == rule.threshold
    low_high = fields.pop("interval")
    assert (tuple(low_high) if low_high else None) == rule.interval
    assert fields == {name: getattr(rule, name) for name in fields}
    assert len(fields) == 6


@hypothesis.given(samples, st.lists(st.integers(-3, 3), max_size=9))
def test_p_values_count_the_photos_at_or_below(calibration, images):
    p = conformal_p_values(calibration, images)
    expected = [(1 + sum(calibration <= x)) / (len(calibration) + 1) for x in images]
    assert p.dtype == np.float64 and p.shape == (len(images),)
    np.testing.assert_array_equal(p, expected)
    assert ((p > 0) & (p <= 1)).all()


@hypothesis.given(samples, samples, rates)
def test_p_values_agree_with_the_verdict(calibration, images, rate):
    rule = quantile_threshold(calibration, rate)
    hypothesis.assume(not rule.warning)
    p = conformal_p_values(calibration, images)
    np.testing.assert_array_equal(p <= rate + 1e-12, images < rule.threshold)


@pytest.mark.parametrize("ties", [False, True])
def test_a_photo_has_a_small_p_value_no_more_often_than_stated(ties):
    rng = np.random.default_rng(2)
    values = rng.standard_cauchy((4000, 20))
    values = np.round(values) if ties else values
    p = np.concatenate([conformal_p_values(row[1:], row[:1]) for row in values])
    for level in (0.05, 0.1, 0.5, 0.9):
        error = 4 * np.sqrt(level * (1 - level) / len(p))
        assert np.mean(p <= level) <= level + error
        assert ties or np.mean(p <= level) >= level - error  # 20 levels: exact without ties


RULES = {
    "quantile": lambda values: quantile_threshold(values, 0.1),
    "percentile": fitting_percentile_threshold,
    "calibration": lambda values: conformal_p_values(values, [0.0]),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "is empty: at least one photo"),
        ([0.0, np.nan], "1 of 2 are not finite"),
        ([np.inf, -np.inf], "2 of 2 are not finite"),
        (np.zeros((3, 1)), r"not of shape \(3, 1\)"),
        (1.0, r"not of shape \(\)"),
    ],
)
def test_bad_samples_are_one_clear_error(rule, values, message):
    with pytest.raises(ValueError, match=message):
        RULES[rule](values)


def test_bad_images_are_refused_and_none_are_not():
    with pytest.raises(ValueError, match="log_density: 1 of 1 are not finite"):
        conformal_p_values([0.0], [np.nan])
    with pytest.raises(ValueError, match="log_density must be one number an image"):
        conformal_p_values([0.0], [[0.0]])
    assert conformal_p_values([0.0], []).shape == (0,)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_rates_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"fpr = .* must lie between 0 and 1"):
        quantile_threshold([0.0], bad)
    with pytest.raises(ValueError, match=r"confidence = .* must lie between 0 and 1"):
        quantile_threshold([0.0], 0.1, bad)
    with pytest.raises(ValueError, match=r"percent / 100 = .* must lie between 0 and 1"):
        fitting_percentile_threshold([0.0], 100 * bad)
