"""The command `exif-jax sweep`: checks the grid, runs `exif-jax train` for every point of it."""

import argparse
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from data_pipelines.disk import naming
from data_pipelines.errors import Interrupted, UserError
from data_pipelines.storage import check_path
from data_pipelines.terminal import say
from exif_jax.cli.entry import config_file, load_config
from exif_jax.cli.paths import local_output
from exif_jax.cli.sweep import results
from exif_jax.cli.sweep.grid import Point, grid_points
from exif_jax.config import EvaluationConfig

PASSES_OPTIONS: Final = True
"""What `add_arguments` does not know is given to `run` in `args.rest`: --config.FIELD=VALUE."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = (
        "exif-jax sweep --config=CONFIG --grid FIELD=VALUES [--grid ...] [--seeds 0,1,2]\n"
        "                      [--config.FIELD=VALUE ...] --workdir DIR"
    )
    parser.description = """\
Train once for every combination of the grid's values and seeds, one run after the other, each by
`exif-jax train` in a folder of its own below DIR. Started again, finished runs are not repeated and
killed ones continue; a larger grid or more seeds add runs. A run that fails does not stop the
others. At the end a table of the last validation numbers, mean and spread (standard deviation) over
the seeds, which is also written with a plot: DIR/sweep.json, sweep.csv, sweep.png."""
    parser.epilog = f"""\
VALUES are separated by commas; or by |, if there is one, so that values can hold commas:

  --grid optimizer.learning_rate=1e-4,3e-4,1e-3        three values
  --grid 'objectives.tags=all|ranked|FNumber,ISO'      three values, the last one with a comma
  --grid 'model.stage_depths=(4,2,2,2)|(2,1,1,1)'      two

{parser.epilog}

which tags help (all of them, one kind only, each of two left out):

  exif-jax sweep --config=pretext --config.data.photos=records --config.steps=5000 \\
      --grid 'objectives.tags=all|ranked|categorical|-FNumber|-Make' --seeds 0,1,2 \\
      --metrics concordance/mean,balanced_accuracy/mean --workdir sweeps/tags"""
    parser.add_argument(
        "--config",
        required=True,
        metavar="CONFIG",
        help="as for `exif-jax train`: a file, or the name of one of ours",
    )
    parser.add_argument(
        "--grid",
        action="append",
        required=True,
        metavar="FIELD=VALUES",
        help="a field of the configuration and its values; once for every field that varies",
    )
    parser.add_argument(
        "--seeds", default="0", metavar="SEEDS", help="separated by commas (default: 0)"
    )
    parser.add_argument(
        "--metrics",
        default="",
        metavar="NAMES",
        help="validation numbers in table and plot beside the loss, separated by commas (default: "
        "means over tags, and AUROCs); the files have all",
    )
    parser.add_argument(
        "--workdir", required=True, type=local_output, metavar="DIR", help="of the sweep"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the subcommand; exit status 1 if a run failed."""
    name, colon, argument = config_file(args.config).partition(":")
    fixed = [f"--config={Path(name).resolve()}{colon}{argument}", *args.rest]
    points = grid_points(args.grid, args.seeds)
    _check(fixed, points)
    workdir = Path(args.workdir).resolve()
    with _locked(workdir) as lock:
        (workdir / "logs").mkdir(exist_ok=True)
        runs = []
        for point in points:
            command = ["train", *fixed, *point.overrides, f"--workdir={workdir / point.name}"]
            runs.append(results.Run(point, command, workdir / "logs" / f"{point.name}.txt"))
        results.take_up(workdir, runs)
        try:
            for number, one in enumerate(runs, start=1):
                _train(one, f"[{number}/{len(runs)}] {one.point.name}", workdir, lock)
                results.write(workdir, runs)
        except KeyboardInterrupt:
            raise Interrupted("interrupted; the same command continues") from None
        metrics = results.chosen_metrics(runs, args.metrics)
        summaries = results.summarise(runs)
        from exif_jax.cli.sweep.plot import plot_sweep  # matplotlib takes seconds to load

        plot_sweep(summaries, metrics, workdir / "sweep.png")
    print(f"\n{results.format_table(summaries, metrics)}")
    say(f"sweep.json, sweep.csv and sweep.png are in {workdir}")
    failed = [one for one in runs if one.status != 0]
    for one in failed:
        say(f"error: {one.point.name}: {one.error} (log: {one.log})", file=sys.stderr)
    return int(bool(failed))


def _check(fixed: Sequence[str], points: Sequence[Point]) -> None:
    """Raises a UserError for what would make every run fail, before anything is written."""
    given = {word.partition("=")[0].lstrip("-").removeprefix("config.") for word in fixed}
    for field in ("seed", *points[0].fields):
        if field in given:
            other = "--seeds" if field == "seed" else "--grid"
            raise UserError(f"--config.{field}: it has its values from {other}; leave it out")
    if isinstance(load_config(fixed), EvaluationConfig):
        raise UserError("--config gives an evaluation: a sweep repeats stages of training")
    for point in points:
        load_config([*fixed, *point.overrides])


def _train(one: results.Run, title: str, workdir: Path, lock: int) -> None:
    """Runs a child process to its end, unless the run is finished."""
    if one.status == 0:
        say(f"{title}: finished before")
        return
    say(f"{title} ...")
    began = time.monotonic()
    with naming(one.log), one.log.open("a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(f"exif-jax {shlex.join(one.command)}\n")
        log.flush()
        one.status = subprocess.run(
            [sys.executable, "-m", "exif_jax.cli", *one.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[lock],
        ).returncode
    if one.status == 0:
        one.metrics = _last_validation(workdir / one.point.name)
        what = f"finished, loss {one.metrics.get('loss', float('nan')):.4g}"
    else:
        one.error = _last_line(one.log) if one.status > 0 else f"killed by signal {-one.status}"
        what = f"failed (status {one.status}): {one.error}"
    say(f"{title}: {what}, {time.monotonic() - began:.0f} s")


def _last_validation(run: Path) -> dict[str, float]:
    from exif_jax.training.runs import read_metrics  # JAX takes seconds to load

    rows = [row for row in read_metrics(run / "metrics.jsonl") if row["split"] == "validation"]
    return {k: v for k, v in rows[-1].items() if k not in ("step", "split")} if rows else {}


def _last_line(log: Path) -> str:
    lines = re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace").strip())
    return lines[-1].removeprefix("error: ")


@contextmanager
def _locked(workdir: Path) -> Iterator[int]:
    """Makes the workdir, and keeps other sweeps out of it.

    Gives the lock's file descriptor to runs, which outlive a sweep that is killed: as long as one
    has it, a second sweep must not start another in the same folder.
    """
    import fcntl  # not on Windows, where ArrayRecord is not either

    check_path(workdir)
    lock = workdir / ".lock"
    if workdir.is_dir() and any(workdir.iterdir()) and not lock.exists():
        raise UserError(f"{workdir} is not empty and holds no sweep: choose another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{workdir}: another sweep, or a run that a killed one left, is at work here; wait "
                "until it ends, or end it"
            ) from error
        yield file.fileno()
