"""Plots of the report page: histograms as inline SVG, areas of the map of makes and models."""

import functools
import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from data_pipelines.prepare.report.text import amount, format_value, plain
from data_pipelines.terminal import printable

WIDTH: Final = 360
HEIGHT: Final = 186
_COLOURS: Final = {
    "#0072b2": "var(--bar)",
    "#0e8f6d": "var(--bar2)",
    "#1b2430": "var(--ink)",
    "#8a94a1": "var(--grey)",
    "#d8dde4": "var(--rule)",
    "#f6f7f9": "var(--card)",
}
"""What is drawn in these colours takes those of the style sheet, which knows light and dark."""
_BAR, _BOX, _INK, _AXIS, _GRID, _CARD = _COLOURS
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": _AXIS,
    "axes.grid": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72,
    "font.size": 12,
    "grid.color": _GRID,
    "svg.fonttype": "none",
    "svg.hashsalt": "tag report",
    "text.parse_math": False,
    "ytick.major.size": 0,
}
_TICKS: Final = {
    "f-number": (1, 1.4, 2, 2.8, 4, 5.6, 8, 11, 16, 22, 32, 45, 64, 90, 128),
    "s": (
        *(1 / n for n in (8000, 4000, 2000, 1000, 500, 250, 125, 60, 30, 15, 8, 4, 2)),
        *(1, 2, 4, 8, 15, 30, 60, 120, 240, 480, 900, 1800, 3600),
    ),
    "ISO": tuple(25.0 * 2**k for k in range(-5, 20)),
}
"""By unit, the values that photographers count in."""
_rounds: Final = functools.partial(MaxNLocator, steps=[1, 2, 5, 10])


def histogram(name: str, tag: Mapping[str, Any]) -> Markup:
    """Returns the histogram of a ranked tag as an SVG element, with a box plot below its axis.

    One photo or more has the tag.
    """
    edges, counts = np.array(tag["histogram"]["edges"]), np.array(tag["histogram"]["counts"])
    some, highest = counts > 0, counts.max()

    def show(value: float, _: object = None) -> str:
        return printable(format_value(value, tag["unit"]))

    with style.context(["default", _STYLE]):  # whatever the reader's own defaults are
        figure = Figure((WIDTH / 72, HEIGHT / 72))
        FigureCanvasAgg(figure)  # it measures the labels
        bars, box = figure.subplots(
            2,
            sharex=True,
            gridspec_kw={"height_ratios": (6, 1), "hspace": 0.55},
            subplot_kw={"xscale": tag["histogram"]["scale"]},
        )
        figure.subplots_adjust(left=0.13, right=0.92, top=0.95, bottom=0.05)
        bars.bar(
            edges[:-1][some],
            np.maximum(counts[some], highest * 0.012),  # something is never drawn as nothing
            np.diff(edges)[some],
            align="edge",
            color=_BAR,
            edgecolor=_CARD,
        )
        # A single value is a bar like others, not a wall.
        bars.margins(x=3 if len(counts) == 1 else 0)
        bars.set_ylim(0, highest)
        bars.yaxis.set_major_locator(_rounds(4, integer=True))
        bars.yaxis.set_major_formatter(lambda value, _: plain(value))
        bars.minorticks_off()
        bars.tick_params("x", labelbottom=True, length=0, pad=5)
        bars.xaxis.set_major_formatter(show)
        _label(bars, _ticks(tag))
        names = ("whislo", "q1", "med", "q3", "whishi")
        box.bxp(
            [dict(zip(names, tag["quantiles"].values(), strict=True))],
            orientation="horizontal",
            widths=0.8,
            patch_artist=True,
            showfliers=False,
            showcaps=False,
            boxprops={"facecolor": _BOX, "edgecolor": _BOX},
            whiskerprops={"color": _BOX, "linewidth": 2},
            medianprops={"color": _INK, "linewidth": 3},
        )
        box.axis("off")
        label = (
            f"Histogram of {name}: {amount(tag['num'], 'photo')} from {show(tag['min'])} to "
            f"{show(tag['max'])}, median {show(tag['quantiles']['0.5'])}"
        )
        return _inline(figure, label)


def _ticks(tag: Mapping[str, Any]) -> list[float]:
    """Returns round values within the axis of a histogram."""
    edges, log = tag["histogram"]["edges"], tag["histogram"]["scale"] == "log"
    low, high = edges[0], edges[-1]
    if len(edges) == 2:  # one value, in the middle
        return [tag["min"]]
    # Rounding must not lose the ticks at the ends.
    slack = 1e-9 * (high - low)

    def inside(values: Sequence[float]) -> list[float]:
        return [float(v) for v in values if low - slack <= v <= high + slack]

    decades = LogLocator(subs=(1, 2, 5), numticks=99)
    chosen = inside(_TICKS.get(tag["unit"]) or decades.tick_values(low, high)) if log else []
    return chosen if len(chosen) > 1 else inside(_rounds(5).tick_values(low, high))


def _label(axes: Axes, values: Sequence[float]) -> None:
    """Labels every k-th value, so that no labels touch."""
    for step in range(1, len(values) + 1):
        axes.set_xticks(values[::step])
        labels = [text.get_window_extent() for text in axes.get_xticklabels()]
        if all(left.x1 + 6 <= right.x0 for left, right in pairwise(labels)):
            return


def _inline(figure: Figure, label: str) -> Markup:
    """Returns what a figure draws, as an element to put into a page.

    Only paths and texts are taken, without identifiers, fonts and references to other things:
    several figures share the page and its style sheet.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", metadata=nothing, transparent=True)
    elements = []
    for node in ElementTree.fromstring(file.getvalue()).iterfind(".//{*}g/*"):
        kind, look = node.tag.rpartition("}")[2], node.get("style", "")
        if kind == "path" and look != "fill: none":
            for colour, variable in _COLOURS.items():
                look = look.replace(colour, variable)
            points = " ".join(node.get("d", "").split())
            elements.append(Markup('<path d="{}" style="{}"/>').format(points, look))
        if kind == "text":
            anchor = re.search(r"text-anchor: (\w+)", look)
            elements.append(
                Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
                    node.get("x"), node.get("y"), anchor[1] if anchor else "start", node.text
                )
            )
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, printable(label), Markup("").join(elements)
    )


Area = tuple[float, float, float, float]
"""Left, top, width and height, as fractions of the whole map's."""


def divide(sizes: Sequence[int], aspect: float, area: Area = (0.0, 0.0, 1.0, 1.0)) -> list[Area]:
    """Divides an area in proportion to sizes, each near to a square.

    Args:
        sizes: largest first, all above 0; one or more.
        aspect: width over height of the whole map.
        area: what is divided: in two across its longer side, as evenly as possible, and so on.
    """
    if len(sizes) == 1:
        return [area]
    shares = np.cumsum(sizes[:-1]) / sum(sizes)
    cut = int(np.abs(shares - 0.5).argmin()) + 1
    share = float(shares[cut - 1])
    left, top, width, height = area
    if width * aspect >= height:
        part = width * share
        areas = (left, top, part, height), (left + part, top, width - part, height)
    else:
        part = height * share
        areas = (left, top, width, part), (left, top + part, width, height - part)
    return divide(sizes[:cut], aspect, areas[0]) + divide(sizes[cut:], aspect, areas[1])
