"""The tag report: what prepared records hold, for people and programs."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from etils import epath

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, reading, write_text
from data_pipelines.prepare.catalogue import Catalogue
from data_pipelines.prepare.options import REASONS
from data_pipelines.prepare.report.columns import KINDS, NAME_TAGS, column_of
from data_pipelines.prepare.report.text import amount, shortened
from data_pipelines.records import check_records
from data_pipelines.sources import format_kinds
from data_pipelines.storage import expand_user
from data_pipelines.tags import OTHER
from data_pipelines.targets import Target
from data_pipelines.terminal import printable, say

REPORT_FILE: Final = "tag_report.json"
DOMINANT: Final = 0.9
"""A tag with one value in more than this fraction of its photos teaches little."""
RARE_FRACTION: Final = 0.05
RARE_PHOTOS: Final = 20
"""A tag that a smaller fraction, or fewer, of the photos have is too rare to learn from."""
MAX_MAKES: Final = 20
MAX_MODELS: Final = 12
UNKNOWN: Final = "unknown"
"""Stands for a missing make or model among the makes and models."""

Report = dict[str, Any]


def build_report(
    catalogue: Catalogue,
    targets: Sequence[Target],
    *,
    group: np.ndarray,
    heldout: np.ndarray,
    num_alike: int = 0,
    passed_over: Mapping[str, int] | None = None,
    sidecars: Mapping[str, Any] | None = None,
) -> Report:
    """Summarises prepared photos.

    Args:
        catalogue: the n photos in the records; duplicates are among its rejects.
        targets: targets with their classes.
        group: int64 [n], ids of bursts.
        heldout: bool [n], whether a photo is for validation.
        num_alike: photos that look like another one, and are in one group with it.
        passed_over: files of the sources that were not looked at, by kind.
        sidecars: what was read from sidecar files; it goes into the report as it is.

    Returns:
        JSON object without NaN: `num_files` = `num_photos` + the sum of `rejects`; `num_windows`;
        `splits` (photos, windows, groups, cameras of each); `shared` (groups and cameras that are
        in both splits); `tags` (by name: kind, number and fraction of photos with a value; of a
        categorical tag the photos of each class, and the most frequent values of makes and models;
        of a ranked one the unit, minimum, quantiles, maximum, histogram); `makes_models` (photos
        by make and model, which sum to `num_photos`); `rejects` and `reject_examples` by reason;
        `passed_over` (files that were not looked at, by kind; not among `num_files`);
        `skipped_windows` by reason; `num_size_differs`; `num_untimed` (photos without a time in
        EXIF); `num_alike` (photos that look like another one); `sidecars`; `warnings` (sentences).
    """
    sides = {"train": ~heldout, "validation": heldout}
    rejects, examples = catalogue.rejects.most_common(), catalogue.examples
    report = {
        "num_files": len(catalogue) + len(catalogue.rejected),
        "num_photos": len(catalogue),
        "num_windows": int(catalogue.num_windows.sum(dtype=np.int64)),
        "splits": {
            name: {
                "num_photos": int(side.sum()),
                "num_windows": int(catalogue.num_windows[side].sum(dtype=np.int64)),
                "num_groups": len(np.unique(group[side])),
                "num_cameras": len(_cameras(catalogue, side)),
            }
            for name, side in sides.items()
            if side.any()
        },
        "shared": {
            "num_groups": len(np.intersect1d(group[heldout], group[~heldout])),
            "num_cameras": len(
                np.intersect1d(_cameras(catalogue, heldout), _cameras(catalogue, ~heldout))
            ),
        },
        "tags": {target.name: column_of(target, catalogue).summary() for target in targets},
        "makes_models": _count_makes_models(catalogue),
        "rejects": dict(rejects),
        "reject_examples": {reason: list(map(list, examples[reason])) for reason, _ in rejects},
        "passed_over": dict(passed_over or {}),
        "skipped_windows": dict(catalogue.skipped_windows.most_common()),
        "num_size_differs": int(catalogue.size_differs.sum()),
        "num_untimed": int((~catalogue.timed).sum()),
        "num_alike": num_alike,
        "sidecars": sidecars,
    }
    tag_warnings = (_warn_of_tag(target, catalogue, heldout) for target in targets)
    report["warnings"] = [*_warn_of_files(report), *(s for rows in tag_warnings for s in rows)]
    return report


def _cameras(catalogue: Catalogue, keep: np.ndarray) -> np.ndarray:
    """Returns the known cameras of some of the photos, each once."""
    codes = np.unique(catalogue.camera[keep])
    return codes[codes >= 0]


def _count_makes_models(catalogue: Catalogue) -> dict[str, dict[str, int]]:
    """Counts photos by make and model, the most frequent first, the rest as "other"."""
    makes, models = ((*catalogue.words[name], UNKNOWN) for name in NAME_TAGS)
    make, model = (catalogue.values[name].astype(np.int64) for name in NAME_TAGS)
    # -1, missing, becomes the last word.
    pairs = (make % len(makes)) * len(models) + model % len(models)
    nested: dict[str, Counter[str]] = {}
    for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
        by_model = nested.setdefault(makes[pair // len(models)], Counter())
        by_model[models[pair % len(models)]] += int(count)
    totals = Counter({name: by_model.total() for name, by_model in nested.items()})
    frequent = _frequent(totals, MAX_MAKES)
    result = {name: _fold(nested[name]) for name in frequent}
    rest: Counter[str] = sum(
        (by_model for name, by_model in nested.items() if name not in result), Counter()
    )
    if rest:
        result[OTHER] = _fold(rest)
    return result


def _frequent(counts: Counter[str], limit: int) -> list[str]:
    """Returns the most frequent names; the one that stands for the rest is not among them."""
    return [name for name, _ in counts.most_common() if name != OTHER][:limit]


def _fold(counts: Counter[str]) -> dict[str, int]:
    """Keeps the most frequent models and adds up the others."""
    kept = {name: counts[name] for name in _frequent(counts, MAX_MODELS)}
    rest = counts.total() - sum(kept.values())
    return {**kept, OTHER: rest} if rest else kept


def _warn_of_files(report: Report) -> list[str]:
    """Returns sentences about the collection as a whole."""
    num_photos, num_files = report["num_photos"], report["num_files"]
    rejected, differing = num_files - num_photos, report["num_size_differs"]
    sentences = {
        f"{rejected} of {num_files} files were rejected, more than half; see the reasons": (
            2 * rejected > num_files
        ),
        f"only {amount(num_photos, 'photo')}: every tag is too rare to learn from": num_photos
        < RARE_PHOTOS,
        "no photo is held out for validation, so nothing tells whether learning works": (
            "validation" not in report["splits"]
        ),
        f"{report['shared']['num_groups']} bursts are in both splits, so validation looks better "
        "than it is": report["shared"]["num_groups"] > 0,
        f"{differing} photos are not of the size that their EXIF states: crops, or resized, which "
        "erases what a camera leaves in the pixels; `exif-jax prepare --reject size_mismatch` "
        "leaves them out": differing > 0,
        f"{report['num_untimed']} of {num_photos} photos have no time in EXIF: which of them are "
        "one burst, only names and numbers of their files tell": report["num_untimed"] > 0,
    }
    return [sentence for sentence, applies in sentences.items() if applies]


def _warn_of_tag(target: Target, catalogue: Catalogue, heldout: np.ndarray) -> list[str]:
    """Returns sentences about a tag that teaches nothing or little."""
    name, column = target.name, column_of(target, catalogue)
    num, num_photos = len(column.present), len(catalogue)
    if not num:
        return [f"{name}: no photo has it; nothing is learned from it"]
    sentences = []
    # Of a handful of photos every tag is rare, which one sentence says for all.
    if num_photos >= RARE_PHOTOS and num < max(RARE_FRACTION * num_photos, RARE_PHOTOS):
        sentences.append(
            f"{name}: {num} of {num_photos} photos have it, too rare to learn much from"
        )
    distinct, counts = np.unique(column.present, return_counts=True)
    most = int(counts.argmax())
    if (fraction := counts[most] / num) > DOMINANT:
        shown = column.show(distinct[most])
        sentences.append(f"{name}: {fraction:.0%} of its values are {shown}; it teaches little")
    if untaught := column.untaught(~heldout):
        sentences.append(
            f"{name}: no training photo is of class {', '.join(untaught)}; it is never learned"
        )
    return sentences


def format_report(report: Report) -> str:
    """Returns the report as aligned text for a terminal."""
    rejected, shared = sum(report["rejects"].values()), report["shared"]
    lines = [
        f"{report['num_photos']} photos of {report['num_files']} files, "
        f"{report['num_windows']} windows, {rejected} files rejected",
    ]
    lines += [
        f"  {name:<12}{split['num_photos']:>8} photos{split['num_windows']:>9} windows"
        f"{split['num_groups']:>8} groups{split['num_cameras']:>7} cameras"
        for name, split in report["splits"].items()
    ]
    if "validation" in report["splits"]:
        lines.append(
            f"  {'in both':<12}{'':>32}{shared['num_groups']:>8} groups"
            f"{shared['num_cameras']:>7} cameras"
        )
    lines += ["", f"  {'tag':<18}{'photos':>8}{'coverage':>10}  values"]
    lines += [
        f"  {name:<18}{tag['num']:>8}{tag['coverage']:>10.1%}  {KINDS[tag['kind']].line(tag)}"
        for name, tag in report["tags"].items()
    ]
    lines += ["", "  ranked tags: minimum | 25%, 50%, 75% | maximum; others: photos of each class"]
    lines += _format_rejects(report)
    if passed_over := report.get("passed_over"):  # reports of earlier versions have none
        lines += ["", f"passed over, by their names: {format_kinds(passed_over)}"]
    if report["skipped_windows"]:
        counts = (f"{reason} {count}" for reason, count in report["skipped_windows"].items())
        lines += ["", f"windows left out: {', '.join(counts)}"]
    if report["num_size_differs"]:
        lines += ["", f"photos not of the size that EXIF states: {report['num_size_differs']}"]
    if report.get("num_untimed"):  # earlier versions did not count them
        lines += ["", f"photos without a time in EXIF: {report['num_untimed']}"]
    if report.get("num_alike"):  # likewise
        lines += ["", f"photos that look like another one, in its group: {report['num_alike']}"]
    lines += _format_sidecars(report["sidecars"])
    if report["warnings"]:
        lines += ["", "warnings:", *(f"  {printable(text)}" for text in report["warnings"])]
    return "\n".join(lines)


def _format_rejects(report: Report) -> list[str]:
    lines = ["", "rejected, by reason:"] if report["rejects"] else []
    for reason, count in report["rejects"].items():
        lines.append(f"  {reason:<20}{count:>8}  {REASONS.get(reason, '')}".rstrip())
        for path, detail in report["reject_examples"].get(reason, [])[:1]:
            example = f"{path}: {detail}" if detail else path
            lines.append(f"{'':>32}such as {shortened(printable(example))}")
    return lines


def _format_sidecars(sidecars: Mapping[str, Any] | None) -> list[str]:
    if not sidecars:
        return []
    lines = ["", f"sidecars: {sidecars['num_unmatched']} entries fit no photo"]
    return lines + [
        f"  {printable(file['path'])} ({file['kind']}): {file['num_matched']} of "
        f"{file['num_entries']} entries fit a photo"
        for file in sidecars["files"]
    ]


def load_report(directory: Path) -> Report:
    """Reads the report of prepared records.

    Raises:
        UserError: the directory holds no prepared records, or the report is damaged.
    """
    check_records(directory)
    report = read_json(directory / REPORT_FILE)
    expected = {"num_files", "num_photos", "num_windows", "splits", "shared", "tags"}
    expected |= {"makes_models", "rejects", "reject_examples", "skipped_windows"}
    expected |= {"num_size_differs", "sidecars", "warnings"}
    if not isinstance(report, dict) or not expected <= report.keys():
        raise UserError(f"{directory / REPORT_FILE}: damaged; run `exif-jax prepare` again")
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `exif-jax tags`."""
    parser.description = (
        "Show what prepared records hold: for each EXIF tag how many photos have it, its classes "
        "or range; how photos are split into training and validation; which files were rejected "
        "and why; and warnings of what will be hard to learn. Read it before training. Nothing is "
        "computed anew: the report was made with the records."
    )
    parser.add_argument(
        "records",
        type=lambda text: epath.Path(expand_user(text)),
        metavar="DIR",
        help="made by `exif-jax prepare`; a directory or a gs:// URI",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--html",
        type=Path,
        metavar="FILE",
        help="also write a page with plots and explanations; one file that any browser shows, also "
        "offline, and that holds names of rejected files",
    )


def run(args: argparse.Namespace) -> int:
    """Runs `exif-jax tags`; returns the exit status."""
    report = load_report(args.records)
    with reading(args.records / REPORT_FILE, "run `exif-jax prepare` again"):
        text = json.dumps(report) if args.json else format_report(report)
    print(text)
    if args.html:
        # What draws takes half a second to load, which nobody else should wait for.
        from data_pipelines.prepare.report.page import render_page

        name = args.records.name or str(args.records)
        with reading(args.records / REPORT_FILE, "run `exif-jax prepare` again"):
            page = render_page(report, f"Tag report of {name}")
        write_text(args.html, page)
        # Standard output is one JSON object for programs.
        say(f"page: {args.html}", file=sys.stderr if args.json else sys.stdout)
    return 0
