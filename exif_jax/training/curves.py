"""The curves of a run, drawn from its metrics.jsonl."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_pipelines.errors import UserError
from exif_jax.figures import COLOURS, LINES, STYLE, finish, save
from exif_jax.training.runs import read_metrics

# Titles of the panels of validation metrics, one for each family.
_TITLES = {
    "concordance": "concordance of ranked tags (chance 0.5)",
    "balanced_accuracy": "balanced accuracy of categorical tags",
    "detection": "detection",
}
_DETECTION = ("auroc", "average_precision", "accuracy", "false_positive_rate", "tpr_at_fpr_5pct")


def training_curves(metrics_path: Path, out: Path) -> Path:
    """Draws the metrics of a run over its steps.

    First panel: training and validation loss. Then one for each family of validation metrics that
    the run has: `MEASURE/NAME`, such as concordance/ISO (the mean over names in bold), and the
    detection metrics, whatever measured them.

    Args:
        metrics_path: metrics.jsonl of a run; a last line cut short by a crash is left out.
        out: the PNG to write.

    Returns:
        `out`.

    Raises:
        UserError: the file is absent or has no complete line.
    """
    lines = read_metrics(metrics_path)
    if not lines:
        raise UserError(f"{metrics_path}: missing, or holds no metrics yet; is this a run?")
    validation = [line for line in lines if line["split"] == "validation"]
    names = sorted({name for line in validation for name in line})
    families: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: _family(name) in ("detection", None)):
        if family := _family(name):
            families.setdefault(family, []).append(name)
    with mpl.rc_context(STYLE):
        panels = 1 + len(families)
        figure = Figure(figsize=(8.5, 2.9 * panels), layout="constrained")
        loss, *others = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        for split, colour, marker in (
            ("train", COLOURS[5], None),
            ("validation", COLOURS[1], "o"),
        ):
            chosen = [line for line in lines if line["split"] == split]
            _draw(loss, chosen, "loss", split, color=colour, marker=marker, markersize=3)
        loss.set_ylabel("loss")
        finish(loss)
        for panel, (family, members) in zip(others, families.items(), strict=True):
            tags = [name for name in members if not name.endswith("/mean")]
            for index, name in enumerate(tags):
                colour, style = LINES[index % len(LINES)]
                _draw(panel, validation, name, _label(name), color=colour, linestyle=style)
            for name in set(members) - set(tags):
                _draw(panel, validation, name, _label(name), color="0.4", linewidth=3.5, alpha=0.6)
            panel.set_title(f"validation: {_TITLES.get(family, family)}")
            if family in _TITLES:
                panel.set_ylim(-0.02, 1.02)
            finish(panel)
        figure.get_axes()[-1].set_xlabel("step")
    return save(figure, out)


def _family(name: str) -> str | None:
    if name.rpartition("/")[2] in _DETECTION:
        return "detection"
    measure, slash, _ = name.partition("/")
    return measure if slash and measure != "count" else None


def _label(name: str) -> str:
    what = name.partition("/")[2]
    return what if what and what not in _DETECTION else name.replace("_", " ")


def _draw(axes: Axes, lines: Sequence[Mapping[str, Any]], name: str, label: str, **kw: Any) -> None:
    points = [(line["step"], line[name]) for line in lines if name in line]
    if points:
        steps, values = zip(*points, strict=True)
        # A single point is no line.
        kw["marker"] = kw.get("marker") or ("o" if len(points) == 1 else None)
        axes.plot(steps, values, label=label, **kw)
