"""The picture of a sweep: metrics against the values of a field."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
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
    positions = numbers or [float(index) for index in range(len(values[along]))]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 2.6 * len(metrics) + 0.6), layout="constrained")
        panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
        for axes, metric in zip(panels, metrics, strict=True):
            for index, (label, members) in enumerate(lines.items()):
                colour, style = LINES[index % len(LINES)]
                # Words have no order: no lines between them, and room beside each other.
                aside = 0.0 if numbers else 0.12 * (index - (len(lines) - 1) / 2)
                known = [s for s in members if s.mean(metric) is not None]
                x = [positions[values[along].index(s.fields[along])] + aside for s in known]
                axes.errorbar(
                    x,
                    [s.mean(metric) for s in known],
                    [s.spread(metric) or 0.0 for s in known],
                    color=colour,
                    linestyle=style if numbers else "",
                    marker="o",
                    markersize=4,
                    capsize=3,
                    label=label,
                )
                for position, summary in zip(x, known, strict=True):
                    runs = summary.metrics[metric]
                    axes.plot([position] * len(runs), runs, ".", color=colour, alpha=0.4)
            axes.set_ylabel(metric)
            axes.grid(alpha=0.3)
        if numbers and min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            panels[-1].set_xscale("log")
        long = sum(map(len, values[along])) > 60
        panels[-1].set_xticks(
            positions, values[along], rotation=30 if long else 0, ha="right" if long else "center"
        )
        panels[-1].minorticks_off()
        panels[-1].set_xlabel(along)
        if len(lines) > 1:
            handles = panels[0].get_legend_handles_labels()
            figure.legend(*handles, loc="outside lower center", ncols=2, frameon=False)
        figure.suptitle("last validation; bars: standard deviation over seeds, dots: runs")
    return save(figure, path)


def _numbers(values: Sequence[str]) -> list[float]:
    """The values if all are numbers, otherwise nothing."""
    try:
        return [float(value) for value in values]
    except ValueError:
        return []
