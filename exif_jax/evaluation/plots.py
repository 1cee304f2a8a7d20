"""Pictures of scores: histograms and ROC curves."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from data_pipelines.terminal import printable
from exif_jax import metrics
from exif_jax.evaluation.evaluate import AllScores, Row, Scores
from exif_jax.figures import COLOURS, LINES, STYLE, save

_REAL, _GENERATED = COLOURS[0], COLOURS[1]
_BINS = 30


def plot_evaluation(rows: Sequence[Row], scores: AllScores, folder: Path) -> list[Path]:
    """Draws a histogram and a ROC figure for every detector and perturbation.

    Args:
        rows: of `evaluate`.
        scores: of `evaluate`.
        folder: made if absent; pictures of the same name are replaced.

    Returns:
        Files written, named `DETECTOR_PERTURBATION_histograms.png` and `..._roc.png`.
    """
    thresholds = {row.detector: row.threshold for row in rows}
    written = []
    for (detector, perturbation), by_set in scores.items():
        title = printable(f"{detector}, perturbation {perturbation}")
        stem = "_".join(re.sub(r"[^\w.]+", "-", part) for part in (detector, perturbation))
        histograms = score_histograms(by_set, thresholds[detector], title)
        written.append(save(histograms, folder / f"{stem}_histograms.png"))
        written.append(save(roc_curves(by_set, title), folder / f"{stem}_roc.png"))
    return written


def score_histograms(by_set: Mapping[str, Scores], threshold: float, title: str) -> Figure:
    """Scores of photographs and of generated images, a panel for each test set, common bins.

    Bars are fractions of the images of their class. The axis leaves out at most 0.5% of all scores
    at either end; these are counted in the outermost bins.

    Args:
        by_set: test set -> scores.
        threshold: drawn as a line.
        title: of the whole figure.
    """
    pooled = np.concatenate([scored.scores for scored in by_set.values()])
    low, high = np.quantile(pooled, [0.005, 0.995])
    low, high = min(low, threshold), max(high, threshold)
    margin = (high - low) * 0.02 or 0.5
    edges = np.linspace(low - margin, high + margin, _BINS + 1)
    columns = min(4, len(by_set))
    rows = math.ceil(len(by_set) / columns)
    with mpl.rc_context(STYLE):
        # Room for the title and the legend even over a single panel.
        figure = Figure(figsize=(max(2.6 * columns, 5.5), 1.9 * rows + 1.2), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
        for panel, (name, scored) in zip(axes.flat, by_set.items(), strict=False):
            area = metrics.auroc(scored.scores, scored.labels)
            panel.set_title(f"{_shortened(name)}\nAUROC {area:.3f}")
            for label, colour, kind in (
                (0, _REAL, "photographs"),
                (1, _GENERATED, "generated"),
            ):
                inside = np.clip(scored.scores[scored.labels == label], edges[0], edges[-1])
                weights = np.full(len(inside), 1 / len(inside))
                panel.hist(inside, edges, weights=weights, color=colour, alpha=0.35)
                panel.hist(
                    inside, edges, weights=weights, color=colour, histtype="step", label=kind
                )
            panel.axvline(threshold, color="black", linestyle="--", linewidth=1, label="threshold")
        for panel in axes.flat[len(by_set) :]:
            panel.set_axis_off()
        for column in range(columns):
            lowest = (len(by_set) - 1 - column) // columns
            axes[lowest, column].tick_params(labelbottom=True)
        figure.suptitle(title)
        figure.supylabel("fraction of class", fontsize=9)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            title="score (higher = more likely generated)",  # next to the axes it names
            ncols=3,
            frameon=False,
        )
    return figure


def roc_curves(by_set: Mapping[str, Scores], title: str) -> Figure:
    """ROC curves, a line for each test set, the best separated first in the legend.

    Args:
        by_set: test set -> scores.
        title: of the figure.
    """
    areas = {name: metrics.auroc(scored.scores, scored.labels) for name, scored in by_set.items()}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="0.500  chance")
        ranked = sorted(by_set, key=lambda name: -areas[name])
        for index, name in enumerate(ranked):
            fpr, tpr, _ = roc_curve(by_set[name].labels, by_set[name].scores)
            colour, style = LINES[index % len(LINES)]
            label = f"{areas[name]:.3f}  {_shortened(name)}"
            axes.plot(fpr, tpr, color=colour, linestyle=style, linewidth=1.5, label=label)
        axes.set(
            xlabel="false-positive rate (photographs called generated)",
            ylabel="true-positive rate (generated images found)",
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.01),
            title=title,
        )
        axes.grid(alpha=0.3)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            [*handles[1:], handles[0]],
            [*labels[1:], labels[0]],
            loc="outside right upper",
            title="AUROC",
            frameon=False,
            handlelength=3,
        )
    return figure


def _shortened(name: str, limit: int = 28) -> str:
    name = printable(name)
    return name if len(name) <= limit else f"{name[: limit - 3]}..."
