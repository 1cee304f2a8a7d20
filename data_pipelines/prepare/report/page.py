"""The tag report as a web page: one file without scripts, for photographers and engineers.

The page is in `templates/`; here is what its texts and areas are made of.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from jinja2 import UndefinedError

from data_pipelines.prepare.options import REASONS
from data_pipelines.prepare.report import text
from data_pipelines.prepare.report.environment import page_environment
from data_pipelines.prepare.report.plots import Area, divide, histogram
from data_pipelines.sources import format_kinds

Report = Mapping[str, Any]

_MAP_ASPECT: Final = 1.0  # between that of wide screens and that of phones, see the style sheet

TAG_MEANINGS: Final[dict[str, str]] = {
    "FNumber": "aperture that was set; a small number is a wide opening",
    "Make": "maker of the camera",
    "ExposureTime": "how long the shutter was open",
    "ISO": "sensitivity that was set",
    "FocalLength": "focal length of the lens; a longer one shows less of the scene",
    "Model": "camera model",
    "Flash": "whether the flash fired",
    "MaxApertureValue": "widest aperture of the lens, in stops: 2 EV is f/2, 4 EV is f/4",
    "ExposureBiasValue": "exposure compensation that was dialled in, in stops",
    "MeteringMode": "which part of the picture the light meter looked at",
    "ExposureMode": "whether camera or photographer set the exposure",
    "WhiteBalance": "whether camera or photographer set the white balance",
    "BrightnessValue": "brightness of the scene that the camera measured, in stops",
    "SceneCaptureType": "scene programme, such as portrait or night",
}
"""What a tag tells, beside its name; it may be left out."""

REMEDIES: Final[dict[str, str]] = {
    "no_exif": "Give the originals: messengers, web sites and editors remove EXIF. Where EXIF was "
    "exported to a separate file, give that as a sidecar.",
    "damaged_exif": "Copy the file from the camera or backup again, or leave it out.",
    "exif_too_large": "Leave it out; something else than a camera wrote it.",
    "no_tags": "Leave it out; there is nothing to learn from it.",
    "not_a_camera": "Nothing to do: such files teach no camera's traces.",
    "size_mismatch": "Give the full-size originals.",
    "duplicate": "Nothing to do: one copy is in the records.",
    "near_duplicate": "Nothing to do: the better file of the photo is in the records.",
    "unreadable": "Check the file's permissions and the disk.",
    "empty_file": "Copy it again; an interrupted copy leaves such files.",
    "too_many_bytes": "Raise --max-bytes if files of that size are meant.",
    "not_an_image": "Nothing to do, if it is none; else export it as JPEG.",
    "raw_file": "Give the JPEG or HEIC file that the camera wrote beside it; one that a raw "
    "converter makes has the converter's traces, not the camera's.",
    "heic_not_supported": "Install exif-jax[heic] and run prepare again.",
    "too_many_pixels": "Raise --max-pixels if pictures of that size are meant.",
    "too_small": "Give the full-size originals; thumbnails teach nothing.",
    "undecodable": "Copy the file from the camera or backup again.",
    "unsupported_pixels": "Export it with 8 or 16 bits a channel.",
    "no_usable_window": "Nothing to do: pictures of a lens cap or a white wall look so.",
    "timed_out": "Raise --seconds-per-file if disk or network is slow.",
    "out_of_memory": "Raise --memory-per-file if pictures are that large.",
    "crashed": "Leave it out; a file that crashes its reader is damaged or made to do so.",
}
"""What a photographer can do about a reason of rejection."""

WINDOW_MEANINGS: Final[dict[str, str]] = {
    "flat": "almost one brightness: there is no content to learn from",
    "black": "more than half of it is black",
    "clipped": "more than half of it is overexposed",
}


def render_page(report: Report, title: str) -> str:
    """Returns a report of `tag_report.build_report` as one HTML file that loads nothing else.

    Raises:
        LookupError: something that is shown is not in the report; and what else a report leads to
            that was not built there.
    """
    environment = page_environment("data_pipelines.prepare.report")
    environment.filters |= {
        name: getattr(text, name) for name in ("number", "amount", "percent", "format_value")
    }
    environment.filters["kinds"] = format_kinds
    environment.globals |= {"histogram": histogram, "TAG_MEANINGS": TAG_MEANINGS}
    # Camera models in all: those of each split, less those counted twice.
    cameras = sum(split["num_cameras"] for split in report["splits"].values())
    template = environment.get_template("page.html.j2")
    try:
        return template.render(
            report=report,
            title=title,
            num_cameras=cameras - report["shared"]["num_cameras"],
            blocks=list(_blocks(report["makes_models"])),
            REASONS=REASONS,
            REMEDIES=REMEDIES,
            WINDOW_MEANINGS=WINDOW_MEANINGS,
        )
    except UndefinedError as error:
        raise LookupError(str(error)) from error


def _blocks(makes_models: Mapping[str, Mapping[str, int]]) -> Iterator[dict[str, Any]]:
    """Yields the blocks of the map of makes, the largest first, with a cell for each model."""
    rows = [
        (make, sorted(models.items(), key=lambda item: -item[1]), sum(models.values()))
        for make, models in makes_models.items()
    ]
    rows.sort(key=lambda row: -row[2])
    areas = divide([total for *_, total in rows], _MAP_ASPECT) if rows else []
    for (make, models, total), area in zip(rows, areas, strict=True):
        aspect = _MAP_ASPECT * area[2] / area[3]
        cells = zip(models, divide([n for _, n in models], aspect), strict=True)
        yield {
            "make": make,
            "total": total,
            "style": _position(area),
            "cells": [(model, n, _position(place)) for (model, n), place in cells],
        }


def _position(area: Area) -> str:
    names = ("left", "top", "width", "height")
    return ";".join(f"{name}:{100 * v:.3f}%" for name, v in zip(names, area, strict=True))
