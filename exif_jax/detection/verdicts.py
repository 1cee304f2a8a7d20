"""From scores to verdicts: photo, generated or unsure, the reasons why unsure, and probabilities.

A detector carries its rules in detector.json under `verdicts`:

    {
      "photo_below": 0.2, "generated_above": 0.9,
      "rates": {
        "photos_called_generated": {"rate": 0.01, "low": 0.004, "high": 0.022},
        "generated_called_photo": {"rate": 0.05, "low": 0.03, "high": 0.09}
      },
      "calibration": {"slope": 0.8, "intercept": -0.1, "prior": 0.5},
      "by_cells": [{"cells": 8, "photo_below": 0.3, "slope": 0.9}],
      "trained_range": {"jpeg_quality": [50, 98], "smallest_side": 128},
      "stability": ["jpeg:85", "resize:0.9"]
    }

Only the two thresholds are required. Of `by_cells`, the last entry with no more cells than the
image has takes the place of the numbers that it names: an image of many cells is judged with more
certainty than one of a single cell. Functions here know nothing of detectors and files.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.evidence.camera import standard_quality, standard_tables
from data_pipelines.images import PATCH
from data_pipelines.perturbations import Perturbation, parse_perturbation
from data_pipelines.prepare.window_quality import is_flat, window_problem

Verdict = Literal["photo", "generated", "unsure"]
STABILITY: Final = ("jpeg:85", "resize:0.9")
"""What a verdict must survive, unless a detector says otherwise."""
_SAMPLED = 1024  # pixels of a side that are looked at to tell whether a picture is constant
_CONTENT: Final = {
    "black": "more than half of the picture is black",
    "clipped": "more than half of the picture is saturated",
    "flat": "the picture is almost constant",
}
_CERTAIN = 1e-7  # float32 cannot tell a probability nearer to 0 or 1


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A binary score's log-odds -> those of the probability: slope * log-odds + intercept.

    Attributes:
        slope: above 0.
        intercept: of the same line.
        prior: share of generated images for which the line holds.
    """

    slope: float
    intercept: float
    prior: float = 0.5


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the score of an image of some size is read.

    Attributes:
        photo_below: scores below it are called photo.
        generated_above: scores above it are called generated.
        calibration: for a probability, or None.
    """

    photo_below: float
    generated_above: float
    calibration: Calibration | None = None

    def decide(self, score: float) -> Verdict:
        """The verdict by the score alone."""
        if score > self.generated_above:
            return "generated"
        return "photo" if score < self.photo_below else "unsure"


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """What `verdicts` of detector.json says, see the module's docstring.

    Attributes:
        rule: for an image of one cell.
        by_cells: (cells, rule) of images with at least as many, ascending.
        rates: as stated in the file.
        jpeg_quality: lowest and highest quality in training, or None.
        smallest_side: in training, in pixels; 0: not told, a patch of the network counts.
        stability: what a verdict must survive.
    """

    rule: Rule
    by_cells: tuple[tuple[int, Rule], ...] = ()
    rates: dict[str, Any] = dataclasses.field(default_factory=dict)
    jpeg_quality: tuple[int, int] | None = None
    smallest_side: int = 0
    stability: tuple[Perturbation, ...] = ()

    def rule_for(self, cells: int) -> Rule:
        """The rule for an image of so many cells of 256x256, side by side."""
        return next((rule for least, rule in reversed(self.by_cells) if least <= cells), self.rule)


def parse_verdicts(description: Any) -> Verdicts:
    """Reads `verdicts` of detector.json.

    Raises:
        ValueError: a field is missing, unknown or out of range; the message names it.
    """
    if not isinstance(description, Mapping):
        raise ValueError("verdicts is no object")
    known = {"photo_below", "generated_above", "rates", "calibration", "by_cells", "trained_range"}
    if unknown := sorted(set(description) - known - {"stability"}):
        raise ValueError(f"verdicts.{unknown[0]} is not known to this version")
    calibration = description.get("calibration")
    numbers = {name: description.get(name) for name in ("photo_below", "generated_above")}
    rule = _rule(numbers | dict(calibration or {}), calibrated=calibration is not None)
    by_cells: list[tuple[int, Rule]] = []
    for entry in description.get("by_cells", ()):
        own = dict(entry)
        cells = own.pop("cells", None)
        if not isinstance(cells, int) or (by_cells and cells <= by_cells[-1][0]):
            raise ValueError("verdicts.by_cells: needs ascending whole numbers as cells")
        merged = numbers | dict(calibration or {}) | own
        by_cells.append((cells, _rule(merged, calibrated=calibration is not None)))
    trained = description.get("trained_range", {})
    try:
        rates = dict(description.get("rates", {}))
        rates_in_words(rates)
        stability = tuple(map(parse_perturbation, description.get("stability", STABILITY)))
        quality = trained.get("jpeg_quality")
        return Verdicts(
            rule,
            tuple(by_cells),
            rates,
            None if quality is None else (int(quality[0]), int(quality[1])),
            int(trained.get("smallest_side", 0)),
            stability,
        )
    except (AttributeError, LookupError, OverflowError, TypeError, UserError) as error:
        raise ValueError(f"verdicts: {error}") from error


def _rule(numbers: Mapping[str, Any], calibrated: bool) -> Rule:
    names = ["photo_below", "generated_above"]
    names += ["slope", "intercept"] if calibrated else []
    allowed = {*names, "prior"} if calibrated else set(names)
    for name in [*names, *sorted(set(numbers) - set(names))]:
        value = numbers.get(name)
        if name not in allowed:
            raise ValueError(f"verdicts: {name} is not known to this version")
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise ValueError(f"verdicts: {name} is missing or no number")
    if numbers["photo_below"] > numbers["generated_above"]:
        raise ValueError("verdicts: photo_below is above generated_above")
    line = None
    if calibrated:
        line = Calibration(numbers["slope"], numbers["intercept"], numbers.get("prior", 0.5))
        if line.slope <= 0 or not 0 < line.prior < 1:
            raise ValueError("verdicts: slope must be above 0 and prior between 0 and 1")
    return Rule(float(numbers["photo_below"]), float(numbers["generated_above"]), line)


def logit(probability: float) -> float:
    """Log-odds; of 0 and 1 those of the nearest probability that float32 scores can tell."""
    p = min(max(float(probability), _CERTAIN), 1 - _CERTAIN)
    return math.log(p / (1 - p))


def expit(log_odds: float) -> float:
    """The inverse of `logit`."""
    return float(0.5 * (1 + math.tanh(log_odds / 2)))


def probability(score: float, calibration: Calibration, prior: float | None = None) -> float:
    """The probability that an image is generated.

    Args:
        score: of a binary detector, 0..1.
        calibration: of the detector.
        prior: share of generated images among those that are judged; that of the calibration by
            default.
    """
    log_odds = calibration.slope * logit(score) + calibration.intercept
    if prior is not None:
        log_odds += logit(prior) - logit(calibration.prior)
    return expit(log_odds)


def jpeg_quality(tables: Mapping[int, Any] | None) -> int | None:
    """About the quality, on libjpeg's scale 1..100, of a JPEG file's quantisation tables.

    Exact for libjpeg's own tables; for others that of the luminance table with the nearest sum.

    Returns:
        None without tables.
    """
    if not tables:
        return None
    exact = standard_quality(tables)
    if exact is not None:
        return exact
    total = sum(tables[min(tables)])
    sums = {sum(grey): quality for (grey, *more), quality in standard_tables().items() if not more}
    return sums[min(sums, key=lambda known: abs(known - total))]


def picture_reasons(
    pixels: np.ndarray, quality: int | None, verdicts: Verdicts | None
) -> list[str]:
    """Why no verdict on a picture is to be relied on, whatever its score; in words.

    Args:
        pixels: uint8 [H, W, 3].
        quality: of `jpeg_quality`, or None.
        verdicts: of the detector; None: it has none, but whether a picture shows anything at all
            does not depend on it.
    """
    reasons = []
    height, width = pixels.shape[:2]
    smallest = verdicts.smallest_side if verdicts else 0
    if min(height, width) < (smallest or PATCH):
        trained = f"the detector was trained on sides of at least {smallest}"
        enlarged = f"what is smaller than {PATCH} is enlarged before it is judged"
        why = trained if smallest else enlarged
        reasons.append(f"the picture is too small: {width} x {height} pixels; {why}")
    step = max(1, -(-max(height, width) // _SAMPLED))
    seen = pixels[::step, ::step]
    # Detectors without rules go by their threshold alone wherever there is something to see.
    if problem := window_problem(seen) if verdicts else "flat" * is_flat(seen):
        reasons.append(_CONTENT[problem])
    low, high = (verdicts and verdicts.jpeg_quality) or (0, 100)
    if quality is not None and quality < low:
        reasons.append(
            f"it is compressed too much: JPEG of a quality of about {quality}; the detector was "
            f"trained on {low} to {high}"
        )
    return reasons


def score_reason(score: float, rule: Rule) -> str:
    """Why a score between the thresholds is no verdict."""
    return (
        f"the score {score:.4g} lies between {rule.photo_below:.4g}, below which it is a photo, "
        f"and {rule.generated_above:.4g}, above which it is generated"
    )


def stability_reasons(verdict: Verdict, changed: Mapping[str, Verdict | None]) -> list[str]:
    """What a verdict does not survive.

    Args:
        verdict: on the picture as it is.
        changed: verdicts after each perturbation, by name; None: it could not be applied.
    """
    lost = {name: other for name, other in changed.items() if other != verdict}
    return [
        f"the verdict {verdict} does not survive {name}"
        + (f": it becomes {other}" if other else ", which could not be applied")
        for name, other in lost.items()
    ]


def rates_in_words(rates: Mapping[str, Any]) -> str:
    """Stated error rates on one line, with their intervals."""

    def percent(value: float) -> str:
        return f"{100 * value:.{2 if value < 0.1 else 3}g} %"

    return ", ".join(
        f"{name.replace('_', ' ')} {percent(rate['rate'])} "
        f"[{percent(rate['low'])}, {percent(rate['high'])}]"
        for name, rate in rates.items()
    )
