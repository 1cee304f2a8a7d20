"""The picture of a sweep: metrics against the values of a field."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exif_jax.cli.sweep.results import Summary
from exif_jax.figures import LINES, STYLE, save


def plot_sweep(summaries: Sequence[Summary], metrics: Sequence[str], path: Path) -> Path:
    """Draws a panel for every metric: means, their spread as bars, every run as a dot.

    The field with the most values runs along the axis; of the others, each combination is a line.

    Args:
        summaries: of all points of the grid.
        metrics: names.
        path: the PNG to write.
    """
    values = {f: list(dict.fromkeys(s.fields[f] for s in summaries)) for f in summaries[0].fields}
    along = max(values, key=lambda field: len(values[field]))
    lines: dict[str, list[Summary]] = {}
    for summary in summaries:
        others = [f"{f.rpartition('.')[2]}={v}" for f, v in summary.fields.items() if f != along]
        lines.setdefault(", ".join(others), []).append(summary)
    numbers = _numbers(values[along])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 2.6 * len(metrics) + 0.6), layout="constrained")
        for axes, metric in zip(
            figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0], metrics, strict=True
        ):
            for (label, members), (colour, style) in zip(lines.items(), LINES * 99, strict=False):
                known = [s for s in members if s.mean(metric) is not None]
                x = [numbers[values[along].index(s.fields[along])] for s in known]
                y = [s.mean(metric) for s in known]
                bars = [s.spread(metric) or 0.0 for s in known]
                axes.errorbar(
                    *(x, y, bars), color=colour, linestyle=style, marker="o", capsize=3, label=label
                )
                for position, summary in zip(x, known, strict=True):
                    runs = summary.metrics[metric]
                    axes.plot([position] * len(runs), runs, ".", color=colour, alpha=0.4)
            axes.set_ylabel(metric)
            axes.grid(alpha=0.3)
        _label(axes, along, values[along], numbers)
        if len(lines) > 1:
            handles = figure.get_axes()[0].get_legend_handles_labels()
            figure.legend(*handles, loc="outside right upper", frameon=False)
        figure.suptitle("last validation; bars: standard deviation over seeds, dots: runs")
    return save(figure, path)


def _numbers(values: Sequence[str]) -> list[float]:
    """Positions on the axis: the values if all are numbers, otherwise their order."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return [float(index) for index in range(len(values))]


def _label(axes: Axes, field: str, values: Sequence[str], numbers: Sequence[float]) -> None:
    axes.set_xlabel(field)
    if min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
        axes.set_xscale("log")
    turned = sum(map(len, values)) > 60
    axes.set_xticks(
        numbers, values, rotation=30 if turned else 0, ha="right" if turned else "center"
    )
    axes.minorticks_off()
