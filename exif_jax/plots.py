"""Pictures of results: score histograms, ROC curves, training curves (PNG)."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator
from sklearn.metrics import roc_curve

from exif_jax import metrics
from exif_jax.errors import UserError
from exif_jax.evaluation import AllScores, Row, Scores
from exif_jax.gmm import Candidate

# Okabe & Ito: distinct for colour-blind readers; without their yellow, too pale for lines.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES = [(colour, style) for style in ("-", "--", ":", "-.") for colour in _COLOURS]
_REAL, _GENERATED = _COLOURS[0], _COLOURS[1]
_BINS = 30
_STYLE: Any = {"font.size": 9, "axes.titlesize": 9, "text.parse_math": False, "figure.dpi": 120}

# Validation metrics, one panel for each family; TAG stands for any tag.
_FAMILIES = {
    "concordance/TAG": "concordance of ranked tags (chance 0.5)",
    "balanced_accuracy/TAG": "balanced accuracy of categorical tags",
    "detection": "detection",
}
_DETECTION = ("auroc", "average_precision", "accuracy", "false_positive_rate")


def plot_evaluation(rows: Sequence[Row], scores: AllScores, folder: Path) -> list[Path]:
    """Draws a histogram and a ROC figure for every detector and perturbation.

    Args:
        rows: of `evaluate`.
        scores: `read_scores` of the same evaluation.
        folder: made if absent; pictures of the same name are replaced.

    Returns:
        Files written, named `DETECTOR_PERTURBATION_histograms.png` and `..._roc.png`.
    """
    thresholds = {row.detector: row.threshold for row in rows}
    written = []
    for (detector, perturbation), by_set in scores.items():
        title = f"{detector}, perturbation {perturbation}"
        stem = "_".join(re.sub(r"[^\w.]+", "-", part) for part in (detector, perturbation))
        histograms = score_histograms(by_set, thresholds[detector], title)
        written.append(_save(histograms, folder / f"{stem}_histograms.png"))
        written.append(_save(roc_curves(by_set, title), folder / f"{stem}_roc.png"))
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
    with mpl.rc_context(_STYLE):
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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.2, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="0.500  chance")
        ranked = sorted(by_set, key=lambda name: -areas[name])
        for index, name in enumerate(ranked):
            fpr, tpr, _ = roc_curve(by_set[name].labels, by_set[name].scores)
            colour, style = _LINES[index % len(_LINES)]
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


def training_curves(metrics_path: Path, out: Path) -> Path:
    """Draws the metrics of a run over its steps.

    First panel: training and validation loss. Then one for each family of validation metrics that
    the run has: `concordance/TAG`, `balanced_accuracy/TAG` (the mean over tags in bold), and the
    detection metrics.

    Args:
        metrics_path: metrics.jsonl of a run; a last line cut short by a crash is left out.
        out: the PNG to write.

    Returns:
        `out`.

    Raises:
        UserError: the file is absent or has no complete line.
    """
    lines = _read_metrics(metrics_path)
    validation = [line for line in lines if line["split"] == "validation"]
    names = sorted({name for line in validation for name in line})
    families = {family: [name for name in names if _family(name) == family] for family in _FAMILIES}
    families = {family: members for family, members in families.items() if members}
    with mpl.rc_context(_STYLE):
        panels = 1 + len(families)
        figure = Figure(figsize=(8.5, 2.9 * panels), layout="constrained")
        loss, *others = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        for split, colour, marker in (
            ("train", _COLOURS[5], None),
            ("validation", _COLOURS[1], "o"),
        ):
            chosen = [line for line in lines if line["split"] == split]
            _draw(loss, chosen, "loss", split, color=colour, marker=marker, markersize=3)
        loss.set_ylabel("loss")
        _finish(loss)
        for panel, (family, members) in zip(others, families.items(), strict=True):
            tags = [name for name in members if not name.endswith("/mean")]
            for index, name in enumerate(tags):
                colour, style = _LINES[index % len(_LINES)]
                _draw(panel, validation, name, _label(name), color=colour, linestyle=style)
            for name in set(members) - set(tags):
                _draw(panel, validation, name, _label(name), color="0.4", linewidth=3.5, alpha=0.6)
            panel.set(title=f"validation: {_FAMILIES[family]}", ylim=(-0.02, 1.02))
            _finish(panel)
        figure.get_axes()[-1].set_xlabel("step")
    return _save(figure, out)


def selection_plot(
    table: Sequence[Candidate], chosen: Candidate, criterion: str, out: Path
) -> Path:
    """Writes `selection_curves` to a PNG; returns its path."""
    return _save(selection_curves(table, chosen, criterion), out)


def selection_curves(table: Sequence[Candidate], chosen: Candidate, criterion: str) -> Figure:
    """How far every candidate is from the best, over the number of components.

    The scale is logarithmic beyond 1: likelihoods of mixtures with too many parameters fall without
    bound, and would press the others together.

    Args:
        table: candidates of `gmm.compare`; those that could not be fitted are left out.
        chosen: marked.
        criterion: `heldout`, `bic` or `aic`.
    """
    labels = {
        "heldout": "held-out log-likelihood\nbelow the best (nats a row)",
        "bic": "BIC above the lowest",
        "aic": "AIC above the lowest",
    }
    lowest = chosen.cost(criterion)
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in table:
        if math.isfinite(row.cost(criterion)):
            point = (row.num_components, row.cost(criterion) - lowest)
            lines.setdefault(row.name, []).append(point)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 3.8), layout="constrained")
        axes = figure.subplots()
        for (name, points), (colour, style) in zip(lines.items(), _LINES, strict=False):
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, color=colour, linestyle=style, marker="o", markersize=4, label=name)
        axes.plot(
            chosen.num_components,
            0,
            "o",
            markersize=13,
            fillstyle="none",
            color="black",
            label="chosen",
        )
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1, 3)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.invert_yaxis()
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="components", ylabel=labels[criterion])
        _finish(axes)
    return figure


def _family(name: str) -> str | None:
    if name in _DETECTION:
        return "detection"
    family = f"{name.partition('/')[0]}/TAG"
    return family if family in _FAMILIES else None


def _label(name: str) -> str:
    return name.partition("/")[2] or name.replace("_", " ")


def _draw(axes: Axes, lines: Sequence[Mapping[str, Any]], name: str, label: str, **kw: Any) -> None:
    points = [(line["step"], line[name]) for line in lines if name in line]
    if points:
        steps, values = zip(*points, strict=True)
        # A single point is no line.
        kw["marker"] = kw.get("marker") or ("o" if len(points) == 1 else None)
        axes.plot(steps, values, label=label, **kw)


def _finish(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, handlelength=3)


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); is this a run?") from error
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            if number < len(texts):
                raise UserError(f"{path}: line {number} is not JSON ({error})") from error
    if not lines:
        raise UserError(f"{path}: holds no metrics yet")
    return lines


def _shortened(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else f"{name[: limit - 3]}..."


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(part, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
