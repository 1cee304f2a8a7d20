"""Heat maps: a picture with the scores of its cells over it, as PNG with a legend."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from data_pipelines.files import replacing_file
from data_pipelines.images import PATCH
from exif_jax.detection.cells import Cells, by_patch
from exif_jax.detection.judging import Picture

if TYPE_CHECKING:
    from exif_jax.detection.detectors import Detector

_SIDES: Final = (320, 1600)  # of the picture as it is drawn: its longer side lies between
_LEGEND: Final = 130  # pixels
_DPI: Final = 100
_OPACITY: Final = 0.45
_TURN: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """An image, in the orientation of the sensor, as its EXIF orientation says to look at it."""
    return image.transpose(_TURN[orientation]) if orientation in _TURN else image


class HeatMaps:
    """Draws into a folder: `draw(picture)` gives the file, and where the cells lie."""

    def __init__(self, detector: "Detector", folder: Path) -> None:
        self._detector = detector
        self._folder = folder

    def __call__(self, picture: Picture) -> tuple[str, dict[str, Any]]:
        """Scores the cells of a picture and draws them; see `judging.Draw`."""
        scores, cells = self._detector.cells(picture.pixels)
        path = self._folder / _file_name(picture.path)
        thresholds: tuple[float, ...] = (self._detector.threshold,)
        if self._detector.verdicts is not None:
            rule = self._detector.verdicts.rule
            thresholds = (rule.photo_below, rule.generated_above)
        figure = _draw(picture, cells, scores, thresholds, self._detector.description.bounds)
        with replacing_file(path) as temporary:
            FigureCanvasAgg(figure).print_png(temporary)
        return str(path), cells.to_json(scores)


def _file_name(path: str) -> str:
    """Safe, and another one for every path."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(path).stem)[:60].lstrip(".") or "image"
    return f"{stem}-{hashlib.sha256(path.encode()).hexdigest()[:10]}.png"


def _draw(
    picture: Picture,
    cells: Cells,
    scores: np.ndarray,
    thresholds: tuple[float, ...],
    bounds: tuple[float, float] | None,
) -> Figure:
    height, width = picture.pixels.shape[:2]
    scale = min(1, _SIDES[1] / max(height, width))
    scale = max(scale, _SIDES[0] / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(picture.pixels).resize(size, reducing_gap=2.0).convert("L")
    turned = [
        np.asarray(upright(layer, picture.orientation))
        for layer in (image, _layer(cells, scores, size, scale))
    ]
    tall, wide = turned[0].shape
    total = wide + _LEGEND, max(tall, 360)
    figure = Figure((total[0] / _DPI, total[1] / _DPI), dpi=_DPI)
    place = (0, 1 - tall / total[1], wide / total[0], tall / total[1])
    axes = figure.add_axes(place)
    axes.axis("off")
    axes.imshow(turned[0], cmap="gray", vmin=0, vmax=255, aspect="auto")
    middle = sum(thresholds) / len(thresholds)
    spread = max(float(np.abs(scores - middle).max()), 1e-6)
    low, high = bounds or (middle - spread, middle + spread)
    layer = axes.imshow(
        turned[1], cmap="coolwarm", vmin=low, vmax=high, alpha=_OPACITY, aspect="auto"
    )
    bar = figure.add_axes(((wide + 12) / total[0], 0.06, 18 / total[0], 0.88))
    figure.colorbar(layer, cax=bar).set_label("score of the cells: higher = likelier generated")
    for threshold in thresholds:
        bar.axhline(threshold, color="black", linewidth=2)
    return figure


def _layer(cells: Cells, scores: np.ndarray, size: tuple[int, int], scale: float) -> Image.Image:
    """The scores at the size of the drawn picture; no number where no cell lies."""
    heat = Image.fromarray(by_patch(cells, scores).astype(np.float32))
    one = min(cells.height, cells.width) < PATCH  # the only cell is the whole image
    covered = (cells.width, cells.height) if one else (heat.width * PATCH, heat.height * PATCH)
    left, top = (round(start * scale) for start in (cells.lefts[0], cells.tops[0]))
    wide, tall = (max(1, round(side * scale)) for side in covered)
    wide, tall = min(wide, size[0] - left), min(tall, size[1] - top)
    layer = np.full((size[1], size[0]), np.nan, np.float32)
    drawn = np.asarray(heat.resize((wide, tall), Image.Resampling.BILINEAR))
    layer[top : top + tall, left : left + wide] = drawn
    return Image.fromarray(layer)
