"""Command line: `python -m data_pipelines.simulated --out DIR`."""

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial

from data_pipelines import command_line
from data_pipelines.storage import local_path
from data_pipelines.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the arguments and makes the data set; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m data_pipelines.simulated",
        description="Makes SIMULATED photographs with EXIF (a small physical model of photography, "
        "invented makers) and simulated generated images. No real camera or generator is involved.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=local_path, required=True, help="folder to make")
    parser.add_argument("--photos", type=int, default=400, help="photographs with EXIF")
    parser.add_argument("--labelled", type=int, default=150, help="training images per class")
    parser.add_argument("--test", type=int, default=60, help="test images per class and family")
    parser.add_argument("--seed", type=int, default=0, help="of the whole data set")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes; 0 = only this one"
    )
    options = parser.parse_args(argv)
    return command_line.run(partial(_make, options), is_process=argv is None)


def _make(options: argparse.Namespace) -> int:
    from data_pipelines.simulated.dataset import make_dataset  # only now: it loads for a second

    made = make_dataset(**vars(options))
    say(f"{options.out}: {'made' if made else 'already there, with the same arguments'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
