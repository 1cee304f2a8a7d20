"""Results as a web page: one file that loads nothing else, with thumbnails and heat maps.

The page is in `templates/`. Names of files and texts of their metadata come from anyone: all of
them are escaped, and invisible characters are spelled out.
"""

import base64
import hashlib
import heapq
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup
from PIL import Image

from data_pipelines.files import replacing_file
from data_pipelines.images import MAX_BYTES, open_image, to_rgb
from data_pipelines.items import Item
from data_pipelines.prepare.report.environment import page_environment
from data_pipelines.prepare.report.text import number
from data_pipelines.sources import read_item
from exif_jax.detection.heatmaps import upright
from exif_jax.detection.results import Results, Row
from exif_jax.detection.verdicts import rates_in_words

if TYPE_CHECKING:
    from exif_jax.detection.detectors import Detector

MOST: Final = 1000
"""Images on a page; each takes some ten kilobytes and, to make its thumbnail, its decoding."""
_THUMBNAIL: Final = 240  # pixels of the longer side
_HEATMAP: Final = 640
_ORIENTATION: Final = 0x0112


def write_page(
    path: Path, detector: "Detector", results: Results, items: Mapping[str, Item]
) -> None:
    """Writes the page, atomically; of more than `MOST` images those of the highest scores.

    Args:
        path: of the page.
        detector: that judged.
        results: of it.
        items: the images that were judged, by path; they are read again for their thumbnails.
    """
    counts: Counter[str] = Counter()

    def rows() -> Iterator[tuple[float, int, Row]]:
        for position, row in enumerate(results.rows()):
            if row["path"] in items:
                counts[row["verdict"] or "error"] += 1
                yield math.inf if row["score"] is None else row["score"], position, row

    shown = heapq.nlargest(MOST, rows(), key=lambda entry: entry[:2])
    shown.sort(key=lambda entry: entry[1])
    environment = page_environment("exif_jax.detection")
    environment.filters["number"] = number
    # The very bytes, as their hash allows them to run.
    script = environment.loader.get_source(environment, "sort.js")[0]  # type: ignore[union-attr]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("detections.html.j2")
    stream = template.stream(
        script=Markup(script),
        script_hash=Markup(digest),
        detector=detector,
        rates=rates_in_words(detector.verdicts.rates) if detector.verdicts else "",
        warning=detector.facts.get("threshold_details", {}).get("warning"),
        counts=counts,
        total=counts.total(),
        shown=len(shown),
        rows=(_shown(row, items) for *_, row in shown),
    )
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        stream.dump(file, "utf-8")


def _shown(row: Row, items: Mapping[str, Item]) -> dict[str, Any]:
    """A row with its pictures as data, as text for the page; a picture that is gone is left out."""
    thumbnail = heatmap = None
    if row["score"] is not None:
        try:
            image = open_image(read_item(items[row["path"]], max_bytes=MAX_BYTES))
            orientation = image.getexif().get(_ORIENTATION, 1)
            # JPEG decodes at a fraction of its size, several times as fast.
            image.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))
            thumbnail = _data(upright(Image.fromarray(to_rgb(image)), orientation), _THUMBNAIL)
        except Exception:  # it was read before, so only what changed since fails
            thumbnail = None
    if "heatmap" in row:
        try:
            heatmap = _data(Image.open(row["heatmap"], formats=("PNG",)), _HEATMAP)
        except OSError:
            heatmap = None
    return row | {"thumbnail": thumbnail, "heatmap_data": heatmap}


def _data(image: Image.Image, side: int) -> str:
    small = image.convert("RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
