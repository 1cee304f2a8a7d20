"""The command line `exif-jax`."""

from data_pipelines.early_signals import kills_at_once, quiet_start

if __name__ == "__main__":
    quiet_start()

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from data_pipelines import command_line
from data_pipelines.terminal import printable

# name: (module, help, example); the module has add_arguments and run, or, of those whose flags are
# the fields of a configuration, main.
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
    "train": (
        "exif_jax.cli.train",
        "one stage of the method: records -> extractor, extractor -> detector",
        "exif-jax train --config=pretext --config.data.photos=records --workdir=runs/pretext",
    ),
    "runs": (
        "exif_jax.cli.runs",
        "a table of runs: state, step, losses, rate and goodput",
        "exif-jax runs runs",
    ),
    "eval": (
        "exif_jax.cli.evaluate",
        "detectors on labelled images: tables, scores and plots",
        "exif-jax eval --config=evaluation --config.detectors=runs/binary/detector "
        "--config.data.images=labelled --workdir=runs/evaluation",
    ),
    "plan": (
        "exif_jax.cli.plan",
        "what a stage costs on a TPU pod that is not there: memory, traffic, bounds of time",
        "exif-jax plan --config=pretext --topology=v5e:16x16 --config.batch_size=16384",
    ),
    "sweep": (
        "exif_jax.cli.sweep.command",
        "a grid over fields of a configuration and seeds: one run each, a table and a plot",
        "exif-jax sweep --config=pretext --config.data.photos=records "
        "--grid optimizer.learning_rate=1e-4,1e-3 --seeds 0,1,2 --workdir sweeps/rate",
    ),
    "detect": (
        "exif_jax.cli.detect",
        "a verdict, photo or generated, on every image",
        "exif-jax detect ~/pictures --html page.html",
    ),
    "convert": (
        "exif_jax.cli.convert",
        "a released PyTorch checkpoint -> an extractor or detector directory",
        "exif-jax convert checkpoint.pth extractor",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 2 for a user's mistake.

    Args:
        arguments: words of it; None: those of the process, which ends with it.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return command_line.run(partial(_run, words), is_process=arguments is None)


class _Parser(argparse.ArgumentParser):
    """Shows words of the command line, which may be names that a pattern matched, printable."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _run(words: list[str]) -> int:
    # Only now, as most of the time before can be interrupted by nothing but a stack trace.
    from exif_jax.cli.paths import expand_home

    words = [expand_home(word) for word in words]
    parser = _Parser(
        prog="exif-jax",
        description="Tells photographs from AI-generated images by what a camera leaves in them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text, example) in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=text, epilog=f"example: {example}"
        )
        # Only the command that runs is imported: the others' libraries take seconds to load.
        if name in words[:1]:
            implementation = importlib.import_module(module)
            if hasattr(implementation, "main"):
                return int(implementation.main(words[1:]))
            kills_at_once()  # as nothing asks for more
            implementation.add_arguments(command)
            command.set_defaults(
                run=implementation.run, passes=getattr(implementation, "PASSES_OPTIONS", False)
            )
    args, rest = parser.parse_known_args(words)
    if rest and not args.passes:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.rest = rest
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
