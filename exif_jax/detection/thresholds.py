"""Thresholds of the density of photographs, what they promise, and p-values of single images.

Everything here is about log-densities: low = unlike photographs = generated. An image is called
generated when its log-density lies strictly below the threshold.
"""

import dataclasses
import math
from typing import Any, Literal

import numpy as np
import scipy  # whose parts are loaded when they are used: that of statistics takes a second
from numpy.typing import ArrayLike

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


@dataclasses.dataclass(frozen=True)
class ThresholdRule:
    """A threshold, how it was set, and what that says of new photos.

    Rates are fractions of photos, in 0..1.

    Attributes:
        name: `heldout_quantile`, of photos that were not fitted; `fitting_percentile`, of those
            that were (the published rule).
        threshold: log-densities strictly below it are called generated.
        false_positive_rate: of photos called generated, as wanted.
        expected_rate: the probability that a new photo is called generated; None for
            `fitting_percentile`, which promises nothing.
        interval: where the rate over many new photos lies, with probability `confidence` over the
            choice of the held-out photos; None likewise.
        confidence: of the interval; None likewise.
        photos: that the threshold was set on.
        warning: a sentence on why the rate wanted is not to be relied on, or None.
    """

    name: Literal["heldout_quantile", "fitting_percentile"]
    threshold: float
    false_positive_rate: float
    expected_rate: float | None
    interval: tuple[float, float] | None
    confidence: float | None
    photos: int
    warning: str | None

    @property
    def summary(self) -> str:
        """How the threshold was set, in half a line."""
        if self.expected_rate is None or self.interval is None:
            return (
                f"set at percentile {100 * self.false_positive_rate:g} of the {self.photos} photos "
                "that were fitted"
            )
        low, high = map(_percent, self.interval)
        return (
            f"set on {self.photos} held-out photos for {_percent(self.false_positive_rate)} of "
            f"photos called generated: expect {_percent(self.expected_rate)} [{low}, {high}]"
        )

    def to_json(self) -> dict[str, Any]:
        """Every field; `log_density_threshold`, as a detector's `threshold` is of its scores."""
        fields = dataclasses.asdict(self)
        interval = list(self.interval) if self.interval else None
        fields |= {"log_density_threshold": fields.pop("threshold"), "interval": interval}
        return fields


def quantile_threshold(
    log_density: ArrayLike, fpr: float, confidence: float = 0.95
) -> ThresholdRule:
    """Threshold with a stated false-positive rate, from photos that were not fitted.

    The threshold is the k-th smallest of n log-densities, k = floor(fpr * (n + 1)), at least 1. A
    new photo lies below it with probability k / (n + 1), whatever the distribution (at most, where
    log-densities tie); the rate over many new photos, with this threshold, follows
    Beta(k, n + 1 - k). Both hold for photos drawn like the held-out ones and independently of them.

    Args:
        log_density: float [n], of held-out photos, in the precision in which images are compared
            with the threshold: rounding afterwards can move a photo to its other side.
        fpr: false-positive rate wanted, between 0 and 1.
        confidence: of the interval, between 0 and 1; equal tails are left out.

    Returns:
        The rule `heldout_quantile`. Where even k = 1 gives more than the rate wanted, it has a
        warning with the number of photos that the rate needs.

    Raises:
        ValueError: no photos, another shape, values that are not finite, a rate out of range.

    References:
        Wilks, "Determination of sample sizes for setting tolerance limits", 1941 (order
        statistics); Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005
        (split conformal prediction).
    """
    values = _sample(log_density, "log_density")
    _check_fraction("fpr", fpr)
    _check_fraction("confidence", confidence)
    n = len(values)
    wanted = math.floor(fpr * (n + 1) + _ROUNDING)
    k = min(max(wanted, 1), n)
    tail = (1 - confidence) / 2
    low, high = scipy.stats.beta.ppf([tail, 1 - tail], k, n + 1 - k)
    warning = None
    if wanted < 1:
        needed = math.ceil((1 - _ROUNDING) / fpr) - 1
        warning = (
            f"{n} held-out photos are too few for a false-positive rate of {_percent(fpr)}: the "
            f"smallest that they can state is {_percent(1 / (n + 1))}, which the threshold is set "
            f"for; {_percent(fpr)} needs {needed} photos"
        )
    return ThresholdRule(
        name="heldout_quantile",
        threshold=float(np.partition(values, k - 1)[k - 1]),
        false_positive_rate=fpr,
        expected_rate=k / (n + 1),
        interval=(float(low), float(high)),
        confidence=confidence,
        photos=n,
        warning=warning,
    )


def fitting_percentile_threshold(log_density: ArrayLike, percent: float = 2.0) -> ThresholdRule:
    """The published rule: a percentile of the log-densities of the very photos that were fitted.

    Args:
        log_density: float [n], of the photos that the mixture was fitted to.
        percent: of them to call generated, between 0 and 100; interpolated linearly.

    Returns:
        The rule `fitting_percentile`, with a warning: a mixture is densest where it was fitted, so
        more of the new photos are likely to lie below the threshold, and how many is not known.

    Raises:
        ValueError: no photos, another shape, values that are not finite, a percentage out of range.

    References:
        Zhong et al., "Self-Supervised AI-Generated Image Detection: A Camera Metadata
        Perspective", arXiv 2512.05651.
    """
    values = _sample(log_density, "log_density")
    _check_fraction("percent / 100", percent / 100)
    return ThresholdRule(
        name="fitting_percentile",
        threshold=float(np.percentile(values, percent)),
        false_positive_rate=percent / 100,
        expected_rate=None,
        interval=None,
        confidence=None,
        photos=len(values),
        warning=(
            "the threshold is set on the photos that the mixture was fitted to: its false-positive "
            f"rate on new photos is likely higher than {_percent(percent / 100)}, and unknown"
        ),
    )


def conformal_p_values(calibration: ArrayLike, log_density: ArrayLike) -> np.ndarray:
    """How usual images are among held-out photos: (1 + #{calibration <= x}) / (n + 1).

    For a photo that is exchangeable with the held-out ones, P(p <= a) <= a for every a. Windows of
    one photo, bursts, and the photos of one camera are not exchangeable with photos of new cameras,
    so in practice this is approximate. `quantile_threshold` of the same photos calls generated what
    has p <= fpr, where its photos suffice for the rate.

    Args:
        calibration: float [n], log-densities of held-out photos, in any order.
        log_density: float [m], of the images, in the same precision; ties count. May be empty.

    Returns:
        float64 [m], in (0, 1]; small = unlike photos. Takes O((n + m) log n).

    Raises:
        ValueError: an empty calibration, another shape, values that are not finite.

    References:
        Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005.
    """
    ordered = np.sort(_sample(calibration, "calibration"))
    values = _finite(log_density, "log_density")
    at_most = np.searchsorted(ordered, values, side="right")
    result: np.ndarray = (1 + at_most) / (len(ordered) + 1)
    return result


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one number an image, [n], not of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {np.sum(~np.isfinite(array))} of {len(array)} are not finite")
    return array


def _sample(values: ArrayLike, name: str) -> np.ndarray:
    array = _finite(values, name)
    if not len(array):
        raise ValueError(f"{name} is empty: at least one photo is needed")
    return array


def _check_fraction(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} = {value} must lie between 0 and 1")


def _percent(rate: float) -> str:
    return f"{100 * rate:.{2 if rate < 0.1 else 3}g} %"
