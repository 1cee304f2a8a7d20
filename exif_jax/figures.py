"""What all our figures share: colours, style, writing."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_pipelines.files import replacing_file

# Okabe & Ito: distinct for colour-blind readers; without their yellow, too pale for lines.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = [(colour, style) for style in ("-", "--", ":", "-.") for colour in COLOURS]
STYLE: Any = {"font.size": 9, "axes.titlesize": 9, "text.parse_math": False, "figure.dpi": 120}


def finish(axes: Axes) -> None:
    """A grid, and the legend outside."""
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, handlelength=3)


def save(figure: Figure, path: Path) -> Path:
    """Writes a PNG atomically; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
