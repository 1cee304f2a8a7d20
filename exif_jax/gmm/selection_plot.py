"""The candidates of a choice of mixture, drawn."""

import math
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, SymmetricalLogLocator

from exif_jax.figures import LINES, STYLE, finish
from exif_jax.gmm.selection import Candidate


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
            lines.setdefault(row.structure.label, []).append(point)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 3.8), layout="constrained")
        axes = figure.subplots()
        for (name, points), (colour, style) in zip(lines.items(), LINES, strict=False):
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
        finish(axes)
    return figure
