"""Sections of the report page about the tags: coverage, numbers, classes, makes and models."""

from collections.abc import Mapping
from typing import Any, Final

from data_pipelines.prepare.report.html import (
    Html,
    breakable,
    details,
    el,
    join,
    number,
)
from data_pipelines.prepare.report.plots import (
    bar_list,
    format_value,
    histogram,
    histogram_table,
    makes_map,
)
from data_pipelines.tags import OTHER

Report = Mapping[str, Any]

_SHOWN_CLASSES: Final = 15

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


def coverage(report: Report) -> Html:
    """Returns bars of how many photos have each tag."""
    num_photos = report["num_photos"]
    rows: list[tuple[object, int, str]] = [
        (join(el("b", name), el("div", _meaning(name), class_="soft small hide")), tag["num"], "")
        for name, tag in report["tags"].items()
    ]
    return join(
        el(
            "p",
            "How many photos have a valid value of each tag. The others do not count for that tag.",
            class_="soft",
        ),
        bar_list(rows, num_photos, "Photos with each tag", "bars wide"),
    )


def _meaning(name: str) -> str:
    return TAG_MEANINGS.get(name, "")


def ranked(report: Report) -> Html:
    """Returns a card with a histogram for each ranked tag."""
    cards = (_ranked_card(n, t) for n, t in report["tags"].items() if t["kind"] == "ranked")
    return join(
        el(
            "p",
            "How often each value occurs. Below each axis: the line is the median (half of the "
            "photos have less), the box holds the middle half of the photos, the whisker all but "
            "the lowest and highest 5%.",
            class_="soft",
        ),
        el("div", *cards, class_="grid"),
    )


def _ranked_card(name: str, tag: Mapping[str, Any]) -> Html:
    head = join(el("h3", name), el("div", _meaning(name), class_="soft small"))
    if not tag["num"]:
        return el("div", head, el("p", "No photo has it.", class_="bad"), class_="card")
    names = {"0.05": "5%", "0.25": "25%", "0.5": "median", "0.75": "75%", "0.95": "95%"}
    points = [("min", tag["min"]), *((names[q], v) for q, v in tag["quantiles"].items())]
    facts = (
        el("div", el("span", label), format_value(name, value, tag["unit"]))
        for label, value in [*points, ("max", tag["max"])]
    )
    return el(
        "div",
        head,
        histogram(name, tag),
        el("div", *facts, el("div", el("span", "photos"), number(tag["num"])), class_="facts"),
        el("details", el("summary", "All numbers"), histogram_table(name, tag)),
        class_="card",
    )


def categorical(report: Report) -> Html:
    """Returns a card with bars for each categorical tag."""
    cards = (_class_card(n, t) for n, t in report["tags"].items() if t["kind"] == "categorical")
    return join(
        el(
            "p",
            "The model learns to tell these classes apart. “other” holds every value without a "
            "class of its own. Shares are of the photos that have the tag.",
            class_="soft",
        ),
        el("div", *cards, class_="grid"),
    )


def _class_card(name: str, tag: Mapping[str, Any]) -> Html:
    head = join(el("h3", name), el("div", _meaning(name), class_="soft small"))
    if not tag["num"]:
        return el("div", head, el("p", "No photo has it.", class_="bad"), class_="card")
    rows: list[tuple[object, int, str]] = [
        (breakable(word), n, "rest" if word == OTHER else "") for word, n in tag["classes"].items()
    ]
    without = tag["num"] - sum(tag["classes"].values())
    if without:
        rows.append(("(no class)", without, "rest"))
    values: list[tuple[object, int, str]] = [(w, n, "") for w, n in tag.get("values", {}).items()]
    return el(
        "div",
        head,
        bar_list(rows[:_SHOWN_CLASSES], tag["num"], f"Photos by class of {name}"),
        details(
            f"More classes ({len(rows) - _SHOWN_CLASSES})",
            bar_list(rows[_SHOWN_CLASSES:], tag["num"], f"More classes of {name}"),
            len(rows) > _SHOWN_CLASSES,
        ),
        details(
            f"Most frequent values ({len(values)})",
            bar_list(values, tag["num"], f"Most frequent values of {name}"),
            bool(values),
        ),
        class_="card",
    )


def makes_models(report: Report) -> Html:
    """Returns the map of makes and models, and its numbers."""
    makes = report["makes_models"]
    if not makes:
        return el("p", "There are no photos.", class_="soft")
    cards = (
        el(
            "div",
            el("h3", f"{make} ", el("span", number(sum(models.values())), class_="soft")),
            bar_list(
                [(m, n, "rest" if m == OTHER else "") for m, n in models.items()],
                sum(models.values()),
                f"Photos by model of {make}",
            ),
            class_="card",
        )
        for make, models in makes.items()
    )
    return join(
        el(
            "p",
            "Every area is a number of photos: a block for each make, in it a cell for each model. "
            "“unknown” are photos without this name in EXIF, “other” all that are less frequent.",
            class_="soft",
        ),
        makes_map(makes),
        el("details", el("summary", "All numbers"), el("div", *cards, class_="grid")),
    )
