"""The command `exif-jax prepare`."""

import argparse
import dataclasses
import sys
from typing import Final

from etils import epath

from data_pipelines.errors import UserError
from data_pipelines.images import WINDOW
from data_pipelines.prepare.options import REASONS, SWITCHES, Options
from data_pipelines.prepare.report.tag_report import format_report
from data_pipelines.prepare.run import REJECTS_FILE, prepare
from data_pipelines.records import PREPARE_FILE

PASSES_OPTIONS: Final = True
"""What `add_arguments` does not know is given to `run` in `args.rest`: options of Beam's own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `exif-jax prepare`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = f"""\
Make training records from photos as the camera wrote them: with EXIF, not resized, not passed
through a messenger or editor. Windows of {WINDOW}x{WINDOW} pixels are cut without resampling;
those of JPEG photos keep the camera's own DCT blocks. They are stored with the EXIF values that are
learned from; place, time, names and serial numbers are not stored.

Every file is either in the records or in DIR/{REJECTS_FILE}, with the reason. After an interruption
run the same command again: it goes on with what is missing."""
    reasons = "\n".join(f"  {name:<20}{meaning}" for name, meaning in REASONS.items())
    switched = ", ".join(name for name, (default, _) in SWITCHES.items() if default)
    parser.epilog = f"""\
why files are rejected:
{reasons}

{parser.epilog}
  exif-jax prepare ~/photos 'trips/*/DCIM' old.zip list.txt --out records --split-by camera
  exif-jax prepare flickr/ --sidecar flickr/exif/ --out records
  exif-jax prepare gs://bucket/photos --out gs://bucket/records --runner DataflowRunner \\
      --project=my-project --region=europe-west4 --temp_location=gs://bucket/tmp"""
    defaults = Options()
    where = parser.add_argument_group("what to read and write")
    where.add_argument(
        "sources",
        nargs="+",
        metavar="PHOTOS",
        help="directory, searched with all below it; glob pattern; .txt or .lst file with a path "
        "a line; .tar or .zip archive; single file; or gs:// URI of one of these",
    )
    where.add_argument(
        "--out", required=True, metavar="DIR", help="directory or gs:// URI to make; must be new"
    )
    where.add_argument(
        "--sidecar",
        action="append",
        default=[],
        metavar="FILE_OR_DIR",
        help="EXIF for photos that carry none: output of exiftool -json, answers of Flickr's "
        "photos.getExif, YFCC100M EXIF lines, or the released exif_tags.json; may be repeated",
    )
    which = parser.add_argument_group("which photos")
    which.add_argument(
        "--accept",
        action="append",
        default=[],
        choices=sorted(SWITCHES),
        help=f"do not reject for this reason, see below; may be repeated (rejected: {switched})",
    )
    which.add_argument(
        "--reject",
        action="append",
        default=[],
        choices=sorted(SWITCHES),
        help="reject for this reason too; may be repeated",
    )
    which.add_argument(
        "--min-side",
        type=int,
        default=defaults.min_side,
        metavar="N",
        help="reject photos with a shorter side in pixels (default: %(default)s)",
    )
    which.add_argument(
        "--max-pixels",
        type=int,
        default=defaults.max_pixels,
        metavar="N",
        help="reject photos with more pixels, before decoding them (default: %(default)s)",
    )
    which.add_argument(
        "--max-bytes",
        type=int,
        default=defaults.max_bytes,
        metavar="N",
        help="reject larger files (default: %(default)s)",
    )
    which.add_argument(
        "--seconds-per-file",
        type=float,
        default=defaults.seconds_per_file,
        metavar="S",
        help="reject files that take longer (default: %(default)s)",
    )
    which.add_argument(
        "--memory-per-file",
        type=int,
        default=defaults.memory_per_file,
        metavar="MIB",
        help="reject files whose reader needs more memory (default: %(default)s MiB)",
    )
    what = parser.add_argument_group("what is stored of them")
    what.add_argument(
        "--windows-per-photo",
        type=int,
        default=defaults.windows_per_photo,
        metavar="N",
        help="windows cut from a photo, at most (default: %(default)s); they do not overlap, and "
        "flat, black or clipped ones are skipped and counted",
    )
    what.add_argument(
        "--encoding",
        choices=("dct", "pixels"),
        default=defaults.encoding,
        help="dct: windows of JPEG photos keep their DCT blocks, quickest and smallest; pixels: "
        "all are decoded and stored as PNG (default: %(default)s)",
    )
    what.add_argument(
        "--focal-length",
        choices=("actual", "35mm"),
        default=defaults.focal_length,
        help="millimetres of the lens, or of its 35 mm equivalent (default: %(default)s)",
    )
    what.add_argument(
        "--max-classes",
        type=int,
        default=defaults.max_classes,
        metavar="N",
        help="makes, and models, that get a class besides 'other' (default: 6 makes, 5 models)",
    )
    what.add_argument(
        "--min-count",
        type=int,
        default=defaults.min_count,
        metavar="N",
        help="makes and models of fewer training photos are 'other' (default: %(default)s)",
    )
    split = parser.add_argument_group("what is held out for validation")
    split.add_argument(
        "--validation-fraction",
        type=float,
        default=defaults.validation_fraction,
        metavar="F",
        help="about this fraction of the photos (default: %(default)s)",
    )
    split.add_argument(
        "--split-by",
        "--split_by",
        choices=("photo", "camera"),
        default=defaults.split_by,
        help="what is never on both sides of the split: a photo and its burst, or a whole camera "
        "model, which tells how well learning carries over to new cameras (default: %(default)s)",
    )
    split.add_argument(
        "--burst-seconds",
        type=float,
        default=defaults.burst_seconds,
        metavar="S",
        help="photos of one camera that follow each other within this time are one burst "
        "(default: %(default)s)",
    )
    split.add_argument(
        "--seed",
        type=int,
        default=defaults.seed,
        help="of the choice of windows and of the split (default: %(default)s)",
    )
    how = parser.add_argument_group("how; no effect on the records")
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read photos (default: one for each CPU core)",
    )
    how.add_argument(
        "--runner",
        default="",
        metavar="NAME",
        help="read with Apache Beam: DirectRunner, FlinkRunner, DataflowRunner, ...; options that "
        "are not listed here are given to it, as --name=value (needs exif-jax[beam])",
    )


def run(args: argparse.Namespace) -> int:
    """Runs `exif-jax prepare`; returns the exit status."""
    if args.rest and not args.runner:
        raise UserError(
            f"{args.rest[0]}: unknown option; see exif-jax prepare --help (options for Apache Beam "
            "need --runner)"
        )
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers: {args.workers} is not at least 1")
    fields = {f.name for f in dataclasses.fields(Options)} - {"reject"}
    reject = (set(Options().reject) | set(args.reject)) - set(args.accept)
    options = Options(
        **{name: getattr(args, name) for name in fields}, reject=tuple(sorted(reject))
    )
    finished = (epath.Path(args.out) / PREPARE_FILE).exists()
    try:
        report = prepare(
            args.sources,
            args.out,
            options,
            sidecars=args.sidecar,
            workers=args.workers,
            runner=args.runner,
            beam_arguments=args.rest,
        )
    except KeyboardInterrupt:
        print(
            f"interrupted; what was read so far is kept in {args.out}: run the same command again "
            "to go on, or delete that directory",
            file=sys.stderr,
        )
        return 130
    print(format_report(report))
    state = "was already made by the same command" if finished else "made"
    print(f"\n{args.out} {state}; rejected files are listed in {args.out}/{REJECTS_FILE}")
    print(f"exif-jax tags {args.out} --html page.html shows this with plots")
    return 0
