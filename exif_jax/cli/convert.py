"""`exif-jax convert`: a released checkpoint -> a directory for load_extractor or load_detector."""

import argparse
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.terminal import say
from exif_jax.cli.paths import local_output
from exif_jax.config import PublishedEncoder
from exif_jax.detection.detectors import save_detector
from exif_jax.models.released import RELEASED_TARGETS, import_weights, read_checkpoint
from exif_jax.models.trained import LoadedExtractor, save_extractor


def convert(checkpoint: Path, out: Path) -> str:
    """Converts a checkpoint of the released layout.

    Args:
        checkpoint: `.pth` (needs PyTorch) or `.npz` with the same keys.
        out: directory to write; must not exist.

    Returns:
        What was written: `extractor` (a pretext checkpoint) or `detector` (a binary one).

    Raises:
        UserError: the checkpoint cannot be read or does not fit, or `out` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists: choose another output directory, or remove it")
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such file")
    kind, params = import_weights(read_checkpoint(checkpoint), str(checkpoint))
    model = PublishedEncoder()
    origin = {"converted_from": checkpoint.name}
    if kind == "pretext":
        save_extractor(out, params, model, RELEASED_TARGETS, {"kind": "pretext", **origin})
        return "extractor"
    extractor = LoadedExtractor(model.build(), params["extractor"], model, {}, (), checkpoint)
    facts = {"threshold_rule": "probability of `generated`, as published", **origin}
    save_detector(out, "binary", 0.5, extractor, {"head": params["head"]}, facts)
    return "detector"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="released PyTorch file .pth (needs pip install 'exif-jax[torch]'; loaded with "
        "weights_only, so nothing in it is executed), or an .npz with the same keys",
    )
    parser.add_argument("out", type=local_output, help="directory to write; must not exist yet")


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand."""
    written = convert(args.checkpoint, args.out)
    say(f"wrote the {written} {args.out}: read it with exif_jax.load_{written}({str(args.out)!r})")
    return 0
