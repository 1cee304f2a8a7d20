"""The command `exif-jax prepare`."""

import argparse
from typing import Final

from etils import epath

from data_pipelines.errors import Interrupted, UserError
from data_pipelines.images import WINDOW
from data_pipelines.prepare.options import REASONS, add_flags, options_of
from data_pipelines.prepare.report.tag_report import format_report
from data_pipelines.prepare.run import REJECTS_FILE, prepare
from data_pipelines.records import PREPARE_FILE
from data_pipelines.storage import expand_user
from data_pipelines.terminal import say

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
    parser.epilog = f"""\
why files are rejected:
{reasons}

{parser.epilog}
  exif-jax prepare ~/photos 'trips/*/DCIM' old.zip list.txt --out records --split-by camera
  exif-jax prepare flickr/ --sidecar flickr/exif/ --out records
  exif-jax prepare gs://bucket/photos --out gs://bucket/records --runner DataflowRunner \\
      --project=my-project --region=europe-west4 --temp_location=gs://bucket/tmp"""
    where = parser.add_argument_group("what to read and write")
    where.add_argument(
        "sources",
        nargs="+",
        type=expand_user,
        metavar="PHOTOS",
        help="directory, searched with all below it; glob pattern; .txt or .lst file with a path "
        "a line; .tar or .zip archive; single file; or gs:// URI of one of these",
    )
    where.add_argument(
        "--out",
        required=True,
        type=expand_user,
        metavar="DIR",
        help="directory or gs:// URI to make; must be new",
    )
    where.add_argument(
        "--sidecar",
        action="append",
        default=[],
        type=expand_user,
        metavar="FILE_OR_DIR",
        help="EXIF for photos that carry none: output of exiftool -json, answers of Flickr's "
        "photos.getExif, YFCC100M EXIF lines, or the released exif_tags.json; may be repeated",
    )
    add_flags(parser)
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
    finished = (epath.Path(args.out) / PREPARE_FILE).exists()
    try:
        report = prepare(
            args.sources,
            args.out,
            options_of(args),
            sidecars=args.sidecar,
            workers=args.workers,
            runner=args.runner,
            beam_arguments=args.rest,
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; what was read so far is kept in {args.out}: run the same command again "
            "to go on, or delete that directory"
        ) from None
    print(format_report(report))
    state = "was already made by the same command" if finished else "made"
    say(
        "",
        f"{args.out} {state}; rejected files are listed in {args.out}/{REJECTS_FILE}",
        f"exif-jax tags {args.out} --html page.html shows this with plots",
    )
    return 0
