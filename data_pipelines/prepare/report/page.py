"""The tag report as a web page: one file without scripts, for photographers and engineers."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from data_pipelines.prepare.options import REASONS
from data_pipelines.prepare.report.html import (
    Html,
    amount,
    details,
    el,
    join,
    number,
    page,
    percent,
    table,
    with_code,
)
from data_pipelines.prepare.report.plots import bar, stack
from data_pipelines.prepare.report.tags import categorical, coverage, makes_models, ranked

Report = Mapping[str, Any]

_SHOWN_UNMATCHED: Final = 50

REMEDIES: Final[dict[str, str]] = {
    "no_exif": "Give the originals: messengers, web sites and editors remove EXIF. Where EXIF was "
    "exported to a separate file, give that as a sidecar.",
    "damaged_exif": "Copy the file from the camera or backup again, or leave it out.",
    "exif_too_large": "Leave it out; something else than a camera wrote it.",
    "no_tags": "Leave it out; there is nothing to learn from it.",
    "not_a_camera": "Nothing to do: such files teach no camera's traces.",
    "size_mismatch": "Give the full-size originals.",
    "duplicate": "Nothing to do: one copy is in the records.",
    "unreadable": "Check the file's permissions and the disk.",
    "empty_file": "Copy it again; an interrupted copy leaves such files.",
    "too_many_bytes": "Raise --max-bytes if files of that size are meant.",
    "not_an_image": "Nothing to do, if it is none; else export it as JPEG.",
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
    """Returns the report as one HTML file that loads nothing from elsewhere.

    Args:
      report: Of `tag_report.build_report`.
      title: Shown on top, and in the browser's tab.
    """
    sections = {
        "Overview": _overview(report),
        "Read this first": _read_first(report),
        "Coverage": coverage(report),
        "Settings of the camera": ranked(report),
        "Classes": categorical(report),
        "Makes and models": makes_models(report),
        "Training and validation": _splits(report),
        "Rejected files": _rejects(report),
        "Windows and sizes": _windows(report),
        "Sidecars": _sidecars(report["sidecars"]),
    }
    ids = {name: name.lower().replace(" ", "-") for name in sections}
    header = el(
        "header",
        el("h1", title),
        el(
            "p",
            "What was found in the photos: what their EXIF (the camera's notes in the file) says, "
            "what was used for training records, and what was not.",
            class_="soft",
        ),
        el("nav", *(el("a", n, href=f"#{ids[n]}") for n in sections), aria_label="sections"),
    )
    main = el("main", *(el("section", el("h2", n), b, id_=ids[n]) for n, b in sections.items()))
    footer = el(
        "footer",
        el(
            "p",
            "Made by ",
            el("code", "exif-jax tags DIR --html FILE"),
            "; ",
            el("code", "exif-jax tags DIR --json"),
            " prints the same numbers for programs. This page loads nothing from elsewhere and "
            "runs no scripts. It holds names of files.",
        ),
    )
    return page(title, join(header, main, footer))


def _overview(report: Report) -> Html:
    num_photos, num_files = report["num_photos"], report["num_files"]
    rejected = num_files - num_photos
    splits, tags = report["splits"], report["tags"].values()
    equation = (
        _term(num_photos, "photo", "in the records"),
        el("i", " + "),
        _term(rejected, "file", "rejected"),
        el("i", " = "),
        _term(num_files, "file", "looked at"),
    )
    tiles = {
        "windows of 256x256 pixels": number(report["num_windows"]),
        "windows a photo": f"{report['num_windows'] / num_photos:.1f}" if num_photos else "-",
        "camera models": number(_num_cameras(report)),
        "photos for training": number(splits.get("train", {}).get("num_photos", 0)),
        "photos for validation": number(splits.get("validation", {}).get("num_photos", 0)),
        "tags with values": f"{sum(tag['num'] > 0 for tag in tags)} of {len(report['tags'])}",
    }
    return join(
        el("div", *equation, class_="equation"),
        stack([("in the records", num_photos, "c0"), ("rejected", rejected, "c1")]),
        el(
            "div",
            *(el("div", el("b", v), n, class_="card small") for n, v in tiles.items()),
            class_="tiles",
        ),
    )


def _term(value: int, word: str, what: str) -> Html:
    digits, _, words = amount(value, word).partition(" ")
    return el("span", el("b", digits), f" {words} {what}")


def _num_cameras(report: Report) -> int:
    """Camera models in all: those of each split, less those counted twice."""
    each = sum(split["num_cameras"] for split in report["splits"].values())
    return int(each - report["shared"]["num_cameras"])


def _read_first(report: Report) -> Html:
    if report["warnings"]:
        found = amount(len(report["warnings"]), "warning")
        warnings = join(
            el("h3", f"{found}, most general first"),
            el(
                "ul", *(el("li", "⚠ ", with_code(w)) for w in report["warnings"]), class_="warnings"
            ),
        )
    else:
        warnings = el("p", "✓ No warnings.", class_="ok")
    return join(el("ul", *(el("li", s) for s in _summary(report))), warnings)


def _summary(report: Report) -> Iterable[str]:
    """Yields what the numbers say, in sentences."""
    num_photos, num_files = report["num_photos"], report["num_files"]
    yield (
        f"{number(num_photos)} of {amount(num_files, 'file')} ({percent(num_photos, num_files)}) "
        "can be learned from."
    )
    if report["rejects"]:
        reason, most = next(iter(report["rejects"].items()))
        yield (
            f"The most frequent reason for leaving files out is {reason} "
            f"({amount(most, 'file')}): {REASONS.get(reason, 'see below')}."
        )
    make = report["tags"].get("Make", {})
    if make.get("num"):
        name, most = next(iter(make["values"].items()))
        yield (
            f"The photos come from {amount(_num_cameras(report), 'camera model')}; the most "
            f"frequent make is {name}, with {percent(most, make['num'])} of the photos whose make "
            "is known. A detector judges best what it has seen: the more makes and models, the "
            "better."
        )
    tags = report["tags"]
    if tags and num_photos:
        good = sum(tag["coverage"] >= 0.5 for tag in tags.values())
        weakest = min(tags, key=lambda name: tags[name]["num"])
        yield (
            f"{good} of {len(tags)} tags are known of at least half of the photos; the one known "
            f"of the fewest is {weakest} ({percent(tags[weakest]['num'], num_photos)})."
        )
    held = report["splits"].get("validation", {}).get("num_photos", 0)
    if held:
        yield (
            f"{amount(held, 'photo')} ({percent(held, num_photos)}) are held out: the model never "
            "learns from them, so they tell how well it does on photos it has not seen."
        )


def _splits(report: Report) -> Html:
    splits, shared = report["splits"], report["shared"]
    rows: list[tuple[object, ...]] = [
        (
            name,
            *(number(split[f"num_{what}"]) for what in ("photos", "windows", "groups", "cameras")),
        )
        for name, split in splits.items()
    ]
    if "validation" not in splits:
        note = el("p", "⚠ No photo is held out for validation.", class_="bad")
    else:
        rows.append(
            (
                "in both",
                number(0),
                number(0),
                number(shared["num_groups"]),
                number(shared["num_cameras"]),
            )
        )
        note = join(_groups_note(shared["num_groups"]), _cameras_note(shared["num_cameras"]))
    sides = [("train", "c0"), ("validation", "c2")]
    return join(
        stack([(n, splits[n]["num_photos"], css) for n, css in sides if n in splits]),
        table(("", "photos", "windows", "groups", "cameras"), rows, "Splits"),
        el(
            "p",
            "A group is a burst: photos of one camera in quick succession, almost the same "
            "picture, or copies of one photo.",
            class_="soft small",
        ),
        note,
    )


def _groups_note(num: int) -> Html:
    if num:
        text = f"✗ {amount(num, 'group')} in both: validation looks better than it is."
        return el("p", text, class_="bad")
    return el(
        "p", "✓ No group is in both: no near copy of a training photo is held out.", class_="ok"
    )


def _cameras_note(num: int) -> Html:
    if num:
        return el(
            "p",
            f"{amount(num, 'camera model')} in both. That is normal when single photos are held "
            "out: validation then tells about new photos of known cameras. ",
            el("code", "exif-jax prepare --split-by camera"),
            " tells about unknown cameras.",
        )
    return el(
        "p", "✓ No camera model is in both: validation tells about unknown cameras.", class_="ok"
    )


def _rejects(report: Report) -> Html:
    if not report["rejects"]:
        return el("p", "✓ No file was rejected.", class_="ok")
    rejected = sum(report["rejects"].values())
    reasons = (
        _reason(reason, n, rejected, report["reject_examples"].get(reason, []))
        for reason, n in report["rejects"].items()
    )
    return join(
        el(
            "p",
            f"{amount(rejected, 'file')}, each with the first reason that was found. "
            "Every one is listed in ",
            el("code", "rejects.jsonl"),
            " in the records' directory.",
            class_="soft",
        ),
        *reasons,
    )


def _reason(reason: str, num: int, rejected: int, examples: list[list[str]]) -> Html:
    rows = (
        el("li", el("code", path), el("span", f" {detail}", class_="soft") if detail else None)
        for path, detail in examples
    )
    return el(
        "div",
        el(
            "h3",
            el("code", reason),
            f" {amount(num, 'file')} ",
            el("span", percent(num, rejected), class_="soft"),
        ),
        bar(num, rejected, "reject"),
        el("div", el("b", "What it means: "), REASONS.get(reason, "unknown to this version")),
        el("div", el("b", "What to do: "), REMEDIES.get(reason, "See rejects.jsonl.")),
        details("Examples", el("ul", *rows, class_="examples"), bool(examples)),
        class_="card reason",
    )


def _windows(report: Report) -> Html:
    skipped, differing = report["skipped_windows"], report["num_size_differs"]
    if skipped:
        rows: list[tuple[object, ...]] = [
            (reason, number(n), WINDOW_MEANINGS.get(reason, "")) for reason, n in skipped.items()
        ]
        windows = join(
            el(
                "p",
                "The records hold small windows cut from the photos. These were looked at and "
                "left out, as they would teach nothing:",
                class_="soft",
            ),
            table(("reason", "windows", "meaning"), rows, "Windows left out"),
        )
    else:
        windows = el("p", "✓ No window was left out.", class_="ok")
    share = percent(differing, report["num_photos"])
    if differing:
        sizes = el(
            "p",
            f"{amount(differing, 'photo')} ({share}) in the records do not have the pixel size "
            "that their EXIF states. They are crops, which is harmless, or were resized, which "
            "erases the traces of the camera; EXIF cannot tell which. ",
            el("code", "exif-jax prepare --reject size_mismatch"),
            " leaves them out.",
        )
    else:
        sizes = el("p", "✓ No photo has another pixel size than its EXIF states.", class_="ok")
    return join(windows, el("h3", "Pixel size"), sizes)


def _sidecars(sidecars: Mapping[str, Any] | None) -> Html:
    if not sidecars:
        return el("p", "None was given: all EXIF is from the photos themselves.", class_="soft")
    rows: list[tuple[object, ...]] = [
        (
            file["path"],
            el("span", file["kind"]),
            number(file["num_entries"]),
            number(file["num_matched"]),
            percent(file["num_matched"], file["num_entries"]),
        )
        for file in sidecars["files"]
    ]
    num, names = sidecars["num_unmatched"], sidecars["unmatched"][:_SHOWN_UNMATCHED]
    if num:
        unmatched = el("p", f"⚠ {number(num)} of the entries fit no photo.")
    else:
        unmatched = el("p", "✓ Every entry fits a photo.", class_="ok")
    return join(
        el(
            "p",
            "Files with EXIF that was exported from photos, and how many of their entries fit "
            "a photo that was given.",
            class_="soft",
        ),
        table(("file", "kind", "entries", "matched", "share"), rows, "Sidecar files"),
        unmatched,
        details(
            f"The first {len(names)}" if num > len(names) else "Which",
            el("ul", *(el("li", el("code", name)) for name in names), class_="examples"),
            bool(names),
        ),
    )
