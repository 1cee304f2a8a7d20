"""`exif-jax detect`: one verdict an image."""

import argparse
import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from data_pipelines.errors import Interrupted, UserError
from data_pipelines.items import Item
from data_pipelines.sources import Found, find_files, format_kinds, is_source
from data_pipelines.storage import is_uri, valid_text
from data_pipelines.terminal import say
from exif_jax.cli.compiled import keep_compiled
from exif_jax.cli.paths import local_output
from exif_jax.detection.detectors import Detection, Detector, load_detector
from exif_jax.detection.judging import judge
from exif_jax.detection.results import RESULTS, Results
from exif_jax.detection.verdicts import Verdicts, rates_in_words
from exif_jax.models.storage import ARRAYS, sha256

_OUTPUTS: Final = ("out", "heatmap", "csv", "html")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE_OR_DIR",
        help="files, folders (with all below), patterns, lists of them (.txt, .lst), archives "
        "(.tar, .zip)",
    )
    parser.add_argument(
        "--detector",
        metavar="NAME_OR_DIR",
        help="one that is shipped, RUN/detector of a one-class or binary run, or a converted "
        "binary checkpoint; local, gs:// or s3:// (default: the shipped one, binary)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line: path, verdict (photo, generated, unsure), score (higher = "
        "likelier generated), threshold, reasons (why unsure), evidence (what the metadata says; "
        "never part of the score), p_value where the detector has held-out photos (of them and the "
        "image itself, the share at least as unlike photos as the image: low = unlike), "
        "probability where it is calibrated, and error for an image that could not be read",
    )
    parser.add_argument(
        "--csv", type=local_output, metavar="FILE", help="writes a table of the results"
    )
    parser.add_argument(
        "--html",
        type=local_output,
        metavar="FILE",
        help="writes a page of the results with thumbnails, of the 1,000 highest scores if there "
        "are more",
    )
    parser.add_argument(
        "--heatmap",
        type=local_output,
        metavar="DIR",
        help="draws for each image which parts of it look generated; several times the work",
    )
    parser.add_argument(
        "--out",
        type=local_output,
        metavar="DIR",
        help=f"appends each result to DIR/{RESULTS} at once; the same command continues: what was "
        "judged is not judged again",
    )
    parser.add_argument(
        "--prior",
        type=_share,
        metavar="P",
        help="share of generated images, 0..1, that `probability` assumes (default: the "
        "detector's)",
    )
    parser.add_argument(
        "--no-stability",
        action="store_true",
        help="does not check whether a verdict survives mild recompression and rescaling: "
        "detectors that give `unsure` do, by a few parts of two copies of each image",
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; exit status 1 if an image could not be read."""
    keep_compiled()
    detector = load_detector(args.detector)
    found = find_named(args.images)
    items = found.items
    if found.passed_over:
        kinds = format_kinds(found.passed_over)
        say(f"passed over, by their names: {kinds}", file=sys.stderr)
    for name in _OUTPUTS:
        _check_writable(getattr(args, name), f"--{name}", is_folder=name in ("out", "heatmap"))
    # Detectors of older versions, and binary ones, have no warning or no details at all.
    if warning := detector.facts.get("threshold_details", {}).get("warning"):
        say(f"warning: {warning}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        results = None
        if args.out or args.csv or args.html:
            # Without --out on disk, too: a hundred thousand results with evidence fill a memory.
            folder = args.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            results = Results(folder, _settings(detector, args))
        try:
            counts = _judge(detector, items, results, args)
        except KeyboardInterrupt:
            raise Interrupted(_interrupted(results, args)) from None
        if results is not None and args.csv:
            results.write_csv(args.csv)
        if results is not None and args.html:
            from exif_jax.detection.page import write_page

            write_page(args.html, detector, results, {item.name: item for item in items})
    if not args.json:
        _print_summary(detector, counts)
    if counts["error"]:
        total = counts.total()
        print(f"error: {counts['error']} of {total} images could not be read", file=sys.stderr)
    return int(counts["error"] > 0)


def find_named(sources: Sequence[str]) -> Found:
    """The images that sources stand for, named by what the user wrote.

    A file that is named itself and missing becomes an item that cannot be read, so that the others
    are judged.

    Raises:
        UserError: a folder, pattern, list or archive is missing or cannot be read; no images.
    """
    absent = [source for source in sources if not is_source(source)]
    present = [source for source in sources if is_source(source)]
    found = find_files(present) if present or not absent else Found([], {})
    given = {_absolute(source): source for source in present}
    named = [dataclasses.replace(i, name=valid_text(_shown(i, given))) for i in found.items]
    missing = [Item(valid_text(source), source) for source in absent]
    return Found(named + missing, found.passed_over)


def _absolute(source: str) -> str:
    return source if is_uri(source) else os.path.abspath(source)  # noqa: PTH100  (as sources do)


def _shown(item: Item, given: dict[str, str]) -> str:
    """Path of an item below the source, as it was written, that it came from."""
    folder, rest = item.path, ""
    while folder not in given:
        folder, slash, name = folder.rpartition("/")
        if not slash:  # of a pattern or list
            return "/".join(filter(None, (item.path, item.member)))
        rest = f"{name}/{rest}" if rest else name
    source = given[folder] if is_uri(given[folder]) else str(Path(given[folder]))
    parts = [source] if source != "." or not rest else []
    return "/".join([*parts, *filter(None, (rest, item.member))]).replace("//", "/")


def _check_writable(path: Path | None, flag: str, is_folder: bool) -> None:
    """Refuses what cannot be written before hours are spent on it."""
    if path is None:
        return
    folder = path if is_folder else path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if not is_folder and path.is_dir():
            raise IsADirectoryError(None, "Is a directory")
    except OSError as error:
        raise UserError(
            f"{flag}: {path} cannot be written ({error.strerror}); give another place"
        ) from error


def _settings(detector: Detector, args: argparse.Namespace) -> dict[str, Any]:
    """What decides the results, to tell whether a folder is of the same command."""
    return {
        "detector": sha256(detector.extractor.source / ARRAYS),
        "threshold": detector.threshold,
        "verdicts": detector.facts.get("verdicts"),
        "stability": not args.no_stability,
        "prior": args.prior,
    }


def _judge(
    detector: Detector, items: list[Item], results: Results | None, args: argparse.Namespace
) -> Counter[str]:
    """Judges what was not judged before, prints it and keeps it; counts all by verdict."""
    done = results.done if results else set()
    left = [item for item in items if item.name not in done]
    counts: Counter[str] = Counter()
    if results and done:
        wanted = {item.name for item in items}
        before = (row for row in results.rows() if row["path"] in wanted)
        counts.update(row["verdict"] or "error" for row in before)
        print(f"{counts.total()} of {len(items)} images were judged before", file=sys.stderr)
    draw = None
    if args.heatmap:
        from exif_jax.detection.heatmaps import HeatMaps

        draw = HeatMaps(detector, args.heatmap)
    judged = judge(detector, left, stability=not args.no_stability, prior=args.prior, draw=draw)
    if not args.json:
        print(_heading(detector))
    # Where lines go to a terminal they show the progress themselves.
    quiet = True if sys.stdout.isatty() else None
    for detection in tqdm(judged, total=len(left), unit="image", disable=quiet, leave=False):
        if results:
            results.add(detection)
        counts[detection.verdict or "error"] += 1
        lines = [json.dumps(detection.to_json())] if args.json else _lines(detector, detection)
        say(*lines)
    return counts


def _interrupted(results: Results | None, args: argparse.Namespace) -> str:
    if results is None:
        return "interrupted; with --out DIR, results are kept and the same command continues"
    if args.csv:
        results.write_csv(args.csv)
    kept = f"{args.csv} holds the {len(results.done)} images that were judged" if args.csv else ""
    if args.out:
        kept = f"{len(results.done)} images were judged and are kept in {args.out}"
        return f"interrupted; {kept}; the same command continues"
    return f"interrupted; {kept or 'nothing was kept'}; with --out DIR a command can be continued"


def _number_columns(detector: Detector) -> Iterator[tuple[str, str, str]]:
    """Field, heading and format of what some detectors give beside the score."""
    if detector.heldout_photos:
        yield "p_value", "p-value", "#.2g"
    if detector.verdicts and detector.verdicts.rule.calibration:
        yield "probability", "probability", ".3f"


def _heading(detector: Detector) -> str:
    headings = "".join(f"{heading}  " for _, heading, _ in _number_columns(detector))
    columns = f"{'verdict':9}  {'score':>11}  {headings}{'metadata':9}  file\n"
    if detector.verdicts is not None:
        rule, rates = detector.verdicts.rule, rates_in_words(detector.verdicts.rates)
        return columns + (
            f"(photo if score < {rule.photo_below:.4f}, generated if score > "
            f"{rule.generated_above:.4f}{_of_large(detector.verdicts)}, else unsure"
            f"{f'; {rates}' if rates else ''})"
        )
    how = detector.facts.get("threshold_rule")
    return columns + (f"(generated if score > {detector.threshold:.4f}{f'; {how}' if how else ''})")


def _of_large(verdicts: Verdicts) -> str:
    """The thresholds of the largest pictures, where they differ from those of one cell."""
    cells, rule = verdicts.by_cells[-1] if verdicts.by_cells else (1, verdicts.rule)
    thresholds = rule.photo_below, rule.generated_above
    if thresholds == (verdicts.rule.photo_below, verdicts.rule.generated_above):
        return ""
    return f" ({thresholds[0]:.4f}, {thresholds[1]:.4f} from {cells} cells of 256x256 on)"


def _lines(detector: Detector, detection: Detection) -> list[str]:
    path, numbers = detection.path, ""
    for name, heading, form in _number_columns(detector):
        value = getattr(detection, name)
        numbers += f"{'' if value is None else format(value, form):>{len(heading)}}  "
    if detection.error is not None or detection.score is None:
        verdict, score, path = "error", "", f"{path}: {detection.error}"
    else:
        verdict, score = str(detection.verdict), f"{detection.score:.4f}"
    claims = {item.says for item in detection.evidence} - {"nothing"}
    says = "both" if len(claims) == 2 else "".join(claims)
    first = f"{verdict:9}  {score:>11}  {numbers}{says:9}  {path}"
    return [first, *(f"{'':11}{reason}" for reason in detection.reasons)]


def _print_summary(detector: Detector, counts: Counter[str]) -> None:
    may_be_unsure = detector.verdicts is not None or counts["unsure"] > 0
    shown = ["photo", "generated"] + ["unsure"] * may_be_unsure
    print(f"{counts.total()} images: " + ", ".join(f"{counts[name]} {name}" for name in shown))
    if detector.heldout_photos:
        print(
            f"p-value: of {detector.heldout_photos} held-out photos and the image itself, the "
            "share at least as unlike photos"
        )
    print("metadata: what the file itself says, which anyone can write; never part of the score")
