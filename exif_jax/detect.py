"""`exif-jax detect`: one verdict an image."""

import argparse
import json
import sys
from pathlib import Path

from data_pipelines.images import find_images
from exif_jax.detector import Detection, load_detector
from exif_jax.errors import UserError


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
        "generated), threshold, and error for an image that could not be read",
    )


def _line(detection: Detection) -> str:
    if detection.error is not None or detection.score is None:
        return f"{'error':9}  {'':>11}  {detection.path}: {detection.error}"
    return f"{detection.verdict:9}  {detection.score:11.4f}  {detection.path}"


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
    failed = generated = 0
    if not args.json:
        print(
            f"{'verdict':9}  {'score':>11}  file  (generated if score > {detector.threshold:.4f})"
        )
    for detection in detector.detections(paths):
        failed += detection.error is not None
        generated += detection.verdict == "generated"
        print(json.dumps(detection.to_json()) if args.json else _line(detection), flush=True)
    if not args.json:
        print(
            f"{len(paths)} images: {len(paths) - failed - generated} photo, {generated} generated"
        )
    if failed:
        print(f"error: {failed} of {len(paths)} images could not be read", file=sys.stderr)
    return int(failed > 0)
