"""The tag report: what prepared records hold, for people and programs."""

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from data_pipelines.records import check_records
from data_pipelines.tags import TAG_BY_NAME, Target, class_index
from exif_jax.errors import UserError
from exif_jax.storage import read_json

REPORT_FILE: Final = "tag_report.json"
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
DOMINANT: Final = 0.9
"""A tag with one value in more than this fraction of its photos teaches little."""

Report = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class PhotoSummary:
    """What the report needs to know of a photo.

    Attributes:
      values: Valid tag values by name.
      num_windows: Windows cut from it.
      split: "train" or "validation".
      group: Id of its burst.
      camera: Make and model, empty if unknown.
    """

    values: Mapping[str, str | float]
    num_windows: int
    split: str
    group: int
    camera: str


def build_report(
    photos: Sequence[PhotoSummary], targets: Sequence[Target], rejects: Iterable[str]
) -> Report:
    """Summarises prepared photos.

    Args:
      photos: Every photo in the records.
      targets: Targets with their classes.
      rejects: Reason of every rejected file.

    Returns:
      JSON object: `num_files` = `num_photos` + the sum of `rejects` (count by reason),
      `num_windows`, `splits` (photos, windows, groups, cameras of each), `tags` (by name: kind,
      unit, number and fraction of photos with a value; for categorical tags the photos of each
      class, for ranked ones minimum, quantiles, maximum), `warnings` (sentences).
    """
    reasons = Counter(rejects)
    tags = {target.name: _summarise_tag(target, photos) for target in targets}
    return {
        "num_files": len(photos) + reasons.total(),
        "num_photos": len(photos),
        "num_windows": sum(photo.num_windows for photo in photos),
        "splits": {
            name: _summarise_split([photo for photo in photos if photo.split == name])
            for name in sorted({photo.split for photo in photos})
        },
        "tags": tags,
        "rejects": dict(reasons.most_common()),
        "warnings": [
            sentence
            for target in targets
            if (sentence := _warning(target.name, [p.values.get(target.name) for p in photos]))
        ],
    }


def _summarise_split(photos: Sequence[PhotoSummary]) -> dict[str, int]:
    return {
        "num_photos": len(photos),
        "num_windows": sum(photo.num_windows for photo in photos),
        "num_groups": len({photo.group for photo in photos}),
        "num_cameras": len({photo.camera for photo in photos if photo.camera}),
    }


def _summarise_tag(target: Target, photos: Sequence[PhotoSummary]) -> dict[str, Any]:
    values = [photo.values[target.name] for photo in photos if target.name in photo.values]
    summary: dict[str, Any] = {
        "kind": target.kind,
        "num": len(values),
        "coverage": len(values) / len(photos) if photos else 0.0,
    }
    if target.kind == "categorical":
        indices = Counter(class_index(str(value), target) for value in values)
        summary["classes"] = {name: indices[i] for i, name in enumerate(target.classes)}
        return summary
    summary["unit"] = TAG_BY_NAME[target.name].unit
    if values:
        numbers = np.array(values, np.float64)
        summary["min"] = float(numbers.min())
        summary["quantiles"] = {
            str(q): float(v)
            for q, v in zip(QUANTILES, np.quantile(numbers, QUANTILES), strict=True)
        }
        summary["max"] = float(numbers.max())
    return summary


def _warning(name: str, values: Sequence[str | float | None]) -> str:
    """One sentence about a tag that teaches nothing or little; empty if there is none."""
    counts = Counter(value for value in values if value is not None)
    if not counts:
        return f"{name}: no photo has it; nothing is learned from it"
    value, count = counts.most_common(1)[0]
    fraction = count / counts.total()
    if fraction <= DOMINANT:
        return ""
    shown = value if isinstance(value, str) else f"{value:g}"
    return f"{name}: {fraction:.0%} of its values are {shown}; little is learned from it"


def format_report(report: Report) -> str:
    """Returns the report as aligned text for a terminal."""
    rejected = sum(report["rejects"].values())
    lines = [
        f"{report['num_photos']} photos of {report['num_files']} files, "
        f"{report['num_windows']} windows, {rejected} files rejected",
    ]
    lines += [
        f"  {name:<12}{split['num_photos']:>8} photos{split['num_windows']:>9} windows"
        f"{split['num_groups']:>8} groups{split['num_cameras']:>7} cameras"
        for name, split in report["splits"].items()
    ]
    lines += ["", f"  {'tag':<18}{'photos':>8}{'coverage':>10}  values"]
    lines += [
        f"  {name:<18}{tag['num']:>8}{tag['coverage']:>10.1%}  {_format_values(tag)}"
        for name, tag in report["tags"].items()
    ]
    lines += ["", "  ranked tags: minimum | 25%, 50%, 75% | maximum; others: photos of each class"]
    if rejected:
        lines += ["", "rejected, by reason:"]
        lines += [f"  {reason:<20}{count:>8}" for reason, count in report["rejects"].items()]
    if report["warnings"]:
        lines += ["", "warnings:", *(f"  {sentence}" for sentence in report["warnings"])]
    return "\n".join(lines)


def _format_values(tag: Mapping[str, Any]) -> str:
    if tag["kind"] == "categorical":
        return ", ".join(f"{name} {count}" for name, count in tag["classes"].items())
    if not tag["num"]:
        return "none"
    middle = " ".join(f"{tag['quantiles'][q]:.4g}" for q in ("0.25", "0.5", "0.75"))
    return f"{tag['min']:.4g} | {middle} | {tag['max']:.4g} {tag['unit']}"


def load_report(directory: Path) -> Report:
    """Reads the report of prepared records.

    Raises:
      UserError: The directory holds no prepared records, or the report is damaged.
    """
    check_records(directory)
    report = read_json(directory / REPORT_FILE)
    expected = {"num_files", "num_photos", "num_windows", "splits", "tags", "rejects", "warnings"}
    if not isinstance(report, dict) or not expected <= report.keys():
        raise UserError(f"{directory / REPORT_FILE}: damaged; run `exif-jax prepare` again")
    return report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `exif-jax tags`."""
    parser.description = (
        "Show what prepared records hold: for each EXIF tag how many photos have it, its classes "
        "or range, and which files were rejected and why."
    )
    parser.add_argument("records", type=Path, metavar="DIR", help="made by `exif-jax prepare`")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(args: argparse.Namespace) -> int:
    """Runs `exif-jax tags`; returns the exit status."""
    report = load_report(args.records)
    print(json.dumps(report) if args.json else format_report(report))
    return 0
