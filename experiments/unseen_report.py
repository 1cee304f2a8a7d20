"""Report of `unseen.py`: tables with intervals, promises kept or not, a reliability diagram."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib.pyplot as plt
import numpy as np
from comparison import CALIPER, FEWEST_SOURCES, RESAMPLES, Judge, summary, table
from held_out import FOLDS, folds
from photos import Item, log
from scipy.special import expit

from exif_jax import metrics
from exif_jax.detection.calibration import (
    fit_calibration,
    group_threshold,
    rate_above,
    reliability,
)

Scores = Mapping[str, Mapping[str, np.ndarray]]
"""Detector -> condition -> scores [seeds, n]."""

PROMISES = (0.01, 0.02, 0.05)
MAIN = ("binary", "one-class")
_MAPS = 57
_LOG_MAGNITUDES = slice(_MAPS * (_MAPS + 1) // 2, _MAPS * (_MAPS + 1) // 2 + _MAPS)


def results_of(items: Sequence[Item], descriptions: np.ndarray, scores: Scores) -> dict[str, Any]:
    """Everything that is reported, JSON-serialisable."""
    judge = Judge(items, descriptions[:, _LOG_MAGNITUDES].mean(axis=1))
    trivial = {"trivial: mean log-magnitude": {"none": judge.trivial[None]}}
    rows, areas = [], {}
    for name, by_condition in {**trivial, **scores}.items():
        own = by_condition["none"]
        areas[name] = {c: judge.area(x) for c, x in by_condition.items()}
        matched = judge.area(own, matched=True)
        areas[name]["matched pairs"] = matched
        spread = [judge._area(row, False)[0] for row in own]
        rows.append(
            {
                "detector": name,
                "AUROC": summary(areas[name]["none"]),
                "over seeds": f"{min(spread):.3f} - {max(spread):.3f}",
                "matched pairs": summary(matched),
                "TPR at 1 % FPR": summary(judge.detected(own, 0.01)),
                "TPR at 5 % FPR": summary(judge.detected(own, 0.05)),
            }
        )
    conditions = [c for c in scores[MAIN[0]] if c != "none"]
    perturbed = [
        {"detector": name, "none": float(areas[name]["none"][0])}
        | {c: summary(areas[name][c]) for c in conditions}
        for name in scores
    ]
    gains = [
        {
            "detector": main,
            "less": other,
            "AUROC": summary(areas[main]["none"] - areas[other]["none"]),
            "matched pairs": summary(areas[main]["matched pairs"] - areas[other]["matched pairs"]),
        }
        for main in MAIN
        for other in scores
        if other.startswith(f"{main}, ")
    ]
    return {
        "facts": {
            "photographs": int((judge.labels == 0).sum()),
            "cameras": len(set(judge.kinds[judge.labels == 0].tolist())),
            "generated": int(judge.labels.sum()),
            "generators": len(set(judge.kinds[judge.labels == 1].tolist())),
            "source images": len(set(judge.sources[judge.labels == 1].tolist())),
            "seeds": len(scores[MAIN[0]]["none"]),
            "resamples": RESAMPLES,
        },
        "rows": rows,
        "perturbed": perturbed,
        "gains": gains,
        "promises": promises(items, scores, judge),
        "generators": _by_generator(judge, scores),
        "cameras": _by_camera(judge, scores),
    }


def promises(items: Sequence[Item], scores: Scores, judge: Judge) -> list[dict[str, Any]]:
    """Rates on the cameras of each fold, at thresholds set on the cameras of the others."""
    rows = []
    parts = folds(items)
    for main in MAIN:
        for rate in PROMISES:
            shifted, found = [], []
            for row in scores[main]["none"]:
                over = np.full(len(items), np.nan)
                for fold in parts:
                    photos = np.setdiff1d(np.arange(len(items)), fold.test)
                    photos = photos[judge.labels[photos] == 0]
                    limit = group_threshold(row[photos], judge.kinds[photos], rate)
                    over[fold.test] = row[fold.test] - limit
                real = judge.labels == 0
                shifted.append(rate_above(over[real], judge.kinds[real], 0.0))
                found.append((over[~real] > 0).mean())
            measured = np.mean(shifted, axis=0).tolist()
            rows.append(
                {
                    "detector": main,
                    "promised": f"{rate:.0%}",
                    "photos of unseen cameras called generated": {
                        "value": measured[0],
                        "interval": measured[1:],
                    },
                    "unseen generators' images called so": float(np.mean(found)),
                }
            )
    return rows


def _by_generator(judge: Judge, scores: Scores) -> list[dict[str, Any]]:
    """AUROC against all photographs; an interval from `FEWEST_SOURCES` source images on."""
    rows = []
    generators = judge.kinds[judge.labels == 1]
    for kind in sorted(set(generators.tolist())):
        own = generators == kind
        sources = len(set(judge.sources[judge.labels == 1][own].tolist()))
        row: dict[str, Any] = {
            "generator": kind,
            "windows": int(own.sum()),
            "source images": sources,
        }
        for main in MAIN:
            values = np.mean([_area_of(judge, x, own) for x in scores[main]["none"]], axis=0)
            row[main] = summary(values) if sources >= FEWEST_SOURCES else float(values[0])
        rows.append(row)
    return rows


def _area_of(judge: Judge, scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    fake = scores[judge.labels == 1][own][:, None]
    real = scores[judge.labels == 0]
    right = ((fake > real) + 0.5 * (fake == real)).astype(np.float64)
    weights = judge.generated[:, own]
    with np.errstate(invalid="ignore"):
        areas = ((weights @ right) * judge.photos).sum(axis=1) / (
            weights.sum(axis=1) * judge.photos.sum(axis=1)
        )
    return np.where(np.isfinite(areas), areas, areas[0])


def _by_camera(judge: Judge, scores: Scores) -> list[dict[str, Any]]:
    """AUROC of each camera's photographs against all generated images, the worst first."""
    rows = []
    cameras = judge.kinds[judge.labels == 0]
    for kind in sorted(set(cameras.tolist())):
        own = cameras == kind
        row: dict[str, Any] = {"camera": kind, "windows": int(own.sum())}
        for main in MAIN:
            kept = (judge.labels == 1) | (judge.kinds == kind)
            areas = [metrics.auroc(x[kept], judge.labels[kept]) for x in scores[main]["none"]]
            row[main] = float(np.mean(areas))
        rows.append(row)
    return sorted(rows, key=lambda row: row[MAIN[0]])


def plot_reliability(labels: np.ndarray, log_odds: np.ndarray, path: Path) -> None:
    """Stated against true probability; the calibrated line is fitted to the same scores."""
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(5, 6), height_ratios=(4, 1), sharex=True, layout="constrained"
    )
    line = fit_calibration(log_odds, labels)
    for name, values in (("raw", log_odds), ("calibrated", line.slope * log_odds + line.intercept)):
        rows = reliability(expit(values), labels)
        top.plot([r[0] for r in rows], [r[1] for r in rows], "o-", label=name)
    top.plot([0, 1], [0, 1], color="grey", linewidth=1)
    top.set(
        ylabel="share of generated images", title="Reliability at a prior of 1/2, held-out windows"
    )
    top.legend()
    probability = expit(line.slope * log_odds + line.intercept)
    for label, name in ((0, "photographs"), (1, "generated")):
        bottom.hist(probability[labels == label], 20, (0, 1), density=True, alpha=0.6, label=name)
    bottom.set(xlabel="stated probability of `generated`", ylabel="density", yscale="log")
    bottom.legend(fontsize="small")
    fig.savefig(path, dpi=120)
    plt.close(fig)


def write_report(
    items: Sequence[Item], descriptions: np.ndarray, scores: Scores, work: Path
) -> None:
    """Writes results.json, results.md and reliability.png."""
    results = results_of(items, descriptions, scores)
    labels = np.array([item.label for item in items])
    plot_reliability(labels, scores[MAIN[0]]["none"][0], work / "reliability.png")
    (work / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    text = render("unseen.md", **results, folds=FOLDS, caliper=CALIPER, fewest=FEWEST_SOURCES)
    (work / "results.md").write_text(text)
    log.info("%s", work / "results.md")


def render(template: str, **values: Any) -> str:
    """A text of `templates`, filled in; `table` makes tables of rows."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(template).render(table=table, **values)
