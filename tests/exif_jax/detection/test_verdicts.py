"""From scores to verdicts: thresholds, probabilities, and the reasons why one is unsure."""

import io

import numpy as np
import pytest
from PIL import Image, JpegPresets

from exif_jax.detection.verdicts import (
    STABILITY,
    Calibration,
    Rule,
    expit,
    jpeg_quality,
    logit,
    parse_verdicts,
    picture_reasons,
    probability,
    rates_in_words,
    score_reason,
    stability_reasons,
)

FULL = {
    "photo_below": 0.2,
    "generated_above": 0.9,
    "rates": {"photos_called_generated": {"rate": 0.01, "low": 0.004, "high": 0.5}},
    "calibration": {"slope": 0.8, "intercept": -0.1},
    "by_cells": [
        {"cells": 4, "photo_below": 0.3},
        {"cells": 16, "slope": 2.0, "generated_above": 0.8},
    ],
    "trained_range": {"jpeg_quality": [50, 98], "smallest_side": 128},
}


@pytest.mark.parametrize(
    ("score", "verdict"),
    [(0.1, "photo"), (0.2, "unsure"), (0.5, "unsure"), (0.9, "unsure"), (0.91, "generated")],
)
def test_between_the_thresholds_and_on_them_is_unsure(score, verdict):
    assert Rule(0.2, 0.9).decide(score) == verdict


def test_the_thresholds_alone_are_enough():
    verdicts = parse_verdicts({"photo_below": -3, "generated_above": 7})
    assert verdicts.rule == verdicts.rule_for(1000) == Rule(-3.0, 7.0, None)
    assert [kind.name for kind in verdicts.stability] == list(STABILITY)
    noise = np.random.default_rng(0).integers(255, size=(64, 64, 3), dtype=np.uint8)
    assert picture_reasons(noise, 1, verdicts) == []


def test_an_image_of_more_cells_has_numbers_of_its_own():
    verdicts = parse_verdicts(FULL)
    line = Calibration(0.8, -0.1, 0.5)
    assert verdicts.rule_for(1) == verdicts.rule_for(3) == Rule(0.2, 0.9, line)
    assert verdicts.rule_for(4) == verdicts.rule_for(15) == Rule(0.3, 0.9, line)
    assert verdicts.rule_for(16) == verdicts.rule_for(375) == Rule(0.2, 0.8, Calibration(2, -0.1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"photo_below": None}, "photo_below is missing or no number"),
        ({"generated_above": "1"}, "generated_above is missing or no number"),
        ({"photo_below": 0.95}, "photo_below is above generated_above"),
        ({"surprise": 1}, "surprise is not known"),
        ({"calibration": {"slope": 1}}, "intercept is missing"),
        ({"calibration": {"slope": -1, "intercept": 0}}, "slope must be above 0"),
        ({"calibration": {"slope": 1, "intercept": 0, "prior": 1}}, "prior between 0 and 1"),
        ({"by_cells": [{"cells": 4}, {"cells": 4}]}, "ascending"),
        ({"by_cells": [{"cells": 4, "moon": 1}]}, "moon is not known"),
        ({"calibration": None, "by_cells": [{"cells": 4, "slope": 1}]}, "slope is not known"),
        ({"trained_range": {"jpeg_quality": [50]}}, "verdicts: "),
        ({"rates": {"x": {"rate": 0.1}}}, "verdicts: 'low'"),
        ({"stability": ["moon:1"]}, "known are"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        parse_verdicts(FULL | changes)
    with pytest.raises(ValueError, match="no object"):
        parse_verdicts([FULL])


def test_probabilities_follow_the_calibration_and_the_prior():
    plain = Calibration(1.0, 0.0, 0.5)
    assert probability(0.3, plain) == pytest.approx(0.3)
    # Bayes: with a share of 1 in 100, 99 % at even odds is 50 %.
    assert probability(0.99, plain, prior=0.01) == pytest.approx(0.5)
    assert probability(0.3, Calibration(1.0, 0.0, 0.2), prior=0.2) == pytest.approx(0.3)
    assert probability(0.3, Calibration(2.0, 1.0)) == pytest.approx(expit(2 * logit(0.3) + 1))
    assert 0 < probability(0.0, plain) < 1e-6 < 1 - 1e-6 < probability(1.0, plain) < 1


@pytest.mark.parametrize("quality", [5, 31, 75, 98])
def test_the_quality_of_standard_tables_is_exact(quality):
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    assert jpeg_quality(Image.open(file).quantization) == quality


def test_the_quality_of_other_tables_is_about_that_of_as_coarse_ones():
    by_preset = {
        name: jpeg_quality(dict(enumerate(preset["quantization"])))
        for name, preset in JpegPresets.presets.items()
    }
    assert by_preset["web_low"] < by_preset["web_medium"] < by_preset["web_high"]
    assert by_preset["web_very_high"] < by_preset["web_maximum"] <= 100
    assert 20 < by_preset["web_low"] < 70
    for quality in (10, 50, 90):  # one entry changed makes a standard table another one
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        tables = {k: list(table) for k, table in Image.open(file).quantization.items()}
        tables[0][63] += 1
        assert abs(jpeg_quality(tables) - quality) <= 1
    assert jpeg_quality(None) is jpeg_quality({}) is None


def test_reasons_of_a_picture_are_in_words():
    verdicts = parse_verdicts(FULL)
    noise = np.random.default_rng(0).integers(255, size=(300, 200, 3), dtype=np.uint8)
    assert picture_reasons(noise, None, verdicts) == picture_reasons(noise, 50, verdicts) == []
    (small,) = picture_reasons(noise[:127], 98, verdicts)
    assert "too small: 200 x 127 pixels" in small and "at least 128" in small
    for value, word in [(128, "almost constant"), (255, "saturated"), (3, "black")]:
        (reason,) = picture_reasons(np.full((300, 5000, 3), value, np.uint8), 100, verdicts)
        assert word in reason
    (compressed,) = picture_reasons(noise, 31, verdicts)
    assert "quality of about 31" in compressed and "50 to 98" in compressed
    assert len(picture_reasons(np.zeros((1, 1, 3), np.uint8), 5, verdicts)) == 3


@pytest.mark.parametrize(
    "verdicts", [None, parse_verdicts({"photo_below": 0, "generated_above": 1})]
)
def test_a_picture_that_shows_nothing_has_reasons_whatever_the_detector_says(verdicts):
    noise = np.random.default_rng(0).integers(255, size=(300, 200, 3), dtype=np.uint8)
    assert picture_reasons(noise, 1, verdicts) == []
    for shape in ((1, 1), (1, 200), (63, 200), (200, 2)):
        (small,) = picture_reasons(noise[: shape[0], : shape[1]], None, verdicts)[:1]
        assert small.startswith(
            f"the picture is too small: {shape[1]} x {shape[0]} pixels; what is"
        )
    for value in (3, 128, 255):
        assert len(picture_reasons(np.full((64, 64, 3), value, np.uint8), None, verdicts)) == 1


def test_without_rules_half_of_a_picture_is_enough():
    noise = np.random.default_rng(0).integers(255, size=(256, 256, 3), dtype=np.uint8)
    noise[:200] = 255
    assert picture_reasons(noise, None, None) == []


def test_reasons_of_a_score():
    reason = score_reason(0.51234, Rule(0.2, 0.9))
    assert "0.5123 lies between 0.2" in reason and "0.9, above which it is generated" in reason
    changed = {"jpeg:85": "generated", "resize:0.9": "unsure", "avif:1": None}
    assert stability_reasons("generated", changed) == [
        "the verdict generated does not survive resize:0.9: it becomes unsure",
        "the verdict generated does not survive avif:1, which could not be applied",
    ]
    assert stability_reasons("photo", {"jpeg:85": "photo"}) == []


def test_rates_are_told_with_their_intervals():
    assert rates_in_words(FULL["rates"]) == "photos called generated 1 % [0.4 %, 50 %]"
