"""`exif-jax detect`: one verdict an image."""

import argparse
import json
import sys
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.images import find_images
from exif_jax.detection.detectors import Detection, Detector, load_detector


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE_OR_DIR", help="files, or folders of images"
    )
    parser.add_argument(
        "--detector",
        type=Path,
        required=True,
        help="RUN/detector of a one-class or binary run, or a converted binary checkpoint",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line: path, verdict (photo, generated), score (higher = likelier "
        "generated), threshold, p_value where the detector has held-out photos (of them and the "
        "image itself, the share at least as unlike photos as the image: low = unlike), and error "
        "for an image that could not be read",
    )


def _heading(detector: Detector) -> str:
    rule = detector.facts.get("threshold_rule")
    how = f"; {rule}" if rule else ""
    p_value = f"{'p-value':>7}  " if detector.heldout_photos else ""
    return (
        f"{'verdict':9}  {'score':>11}  {p_value}file\n"
        f"(generated if score > {detector.threshold:.4f}{how})"
    )


def _line(detection: Detection, p_values: bool) -> str:
    path, p_value = detection.path, ""
    if detection.error is not None or detection.score is None:
        verdict, score, path = "error", "", f"{path}: {detection.error}"
    else:
        verdict, score = str(detection.verdict), f"{detection.score:.4f}"
        p_value = f"{detection.p_value:#.2g}" if detection.p_value is not None else ""
    return f"{verdict:9}  {score:>11}  " + (f"{p_value:>7}  " if p_values else "") + path


def _images(sources: list[Path]) -> list[Path]:
    """Files as they were named, readable or not, and the images below folders."""
    paths: list[Path] = []
    for source in sources:
        paths += find_images([source]) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{', '.join(map(str, sources))}: no images found")
    return paths


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; exit status 1 if an image could not be read."""
    detector = load_detector(args.detector)
    paths = _images(args.images)
    # Detectors of older versions, and binary ones, have no warning or no details at all.
    if warning := detector.facts.get("threshold_details", {}).get("warning"):
        print(f"warning: {warning}", file=sys.stderr)
    failed = generated = 0
    calibrated = detector.heldout_photos > 0
    if not args.json:
        print(_heading(detector))
    for detection in detector.detections(paths):
        failed += detection.error is not None
        generated += detection.verdict == "generated"
        text = json.dumps(detection.to_json()) if args.json else _line(detection, calibrated)
        print(text, flush=True)
    if not args.json:
        print(
            f"{len(paths)} images: {len(paths) - failed - generated} photo, {generated} generated"
        )
        if calibrated:
            print(
                f"p-value: of {detector.heldout_photos} held-out photos and the image itself, the "
                "share at least as unlike photos"
            )
    if failed:
        print(f"error: {failed} of {len(paths)} images could not be read", file=sys.stderr)
    return int(failed > 0)
