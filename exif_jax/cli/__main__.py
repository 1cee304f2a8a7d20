"""The command line `exif-jax`."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from data_pipelines.errors import UserError

# name: (module with add_arguments and run, help, example)
COMMANDS = {
    "prepare": (
        "data_pipelines.prepare.command",
        "photos with EXIF -> training records, rejected files and a tag report",
        "exif-jax prepare ~/photos --out records",
    ),
    "tags": (
        "data_pipelines.prepare.report.tag_report",
        "coverage, classes and ranges of every tag in prepared records",
        "exif-jax tags records --json",
    ),
    "detect": (
        "exif_jax.cli.detect",
        "a verdict, photo or generated, on every image",
        "exif-jax detect ~/pictures --detector RUN2/detector",
    ),
    "convert": (
        "exif_jax.cli.convert",
        "a released PyTorch checkpoint -> an extractor or detector directory",
        "exif-jax convert checkpoint.pth extractor",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 2 for a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="exif-jax",
        description="Tells photographs from AI-generated images by what a camera leaves in them.",
        epilog="Training and evaluation: train.py and eval.py in the repository.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name, (module, text, example) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text, epilog=f"example: {example}"
        )
        # Only the command that runs is imported: the others' libraries take seconds to load.
        if name in words[:1]:
            implementation = importlib.import_module(module)
            implementation.add_arguments(command)
            command.set_defaults(
                run=implementation.run, passes=getattr(implementation, "PASSES_OPTIONS", False)
            )
    args, rest = parser.parse_known_args(words)
    if rest and not args.passes:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    try:
        status: int = args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except OSError as error:  # no space, no permission: the message names the file
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main())
