"""Hostile input and random interruptions: no trace, no hang, bounded memory.

python -m tests.fuzzing [--seconds 600] [--seed N] [--only NAME,...] [--cases N] [--finds FOLDER]
python -m tests.fuzzing --replay FIND.json ...

Every target gets its share of the time. A find is any exception but those that stand for bad input,
a message that is empty, endless or of several lines, a warning that users see, a crash, a hang or
too much memory; of an interruption a trace, a wrong status, or that the same command does not end
with the same result afterwards. Finds are made small, kept as files, and shown with the command
that runs them again. Exit status 1: there is one.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # compilation is most of the time

from tests.fuzzing.campaign import Report, campaign, replay
from tests.fuzzing.target import ROOT
from tests.fuzzing.targets import NAMES

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def table(reports: Sequence[Report]) -> str:
    """What came of all targets, as Markdown."""
    rows = [("target", "cases", "finds", "outcomes")]
    for report in reports:
        told = ", ".join(f"{count} {what}" for what, count in report.outcomes.most_common(12))
        rows.append((report.name, str(report.cases), str(len(report.finds)), told))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|---|", *lines[1:]])


def _show(report: Report, folder: Path) -> None:
    for find in report.finds.values():
        path = find.save(folder)
        print(f"\nFOUND in {find.target}, {find.times} times: {find.signature}\n{find.error}")
        for name, content in list(find.case.items())[:8]:
            print(f"  {name!r}: {content[:200]!r}{'...' * (len(content) > 200)}")
        print(f"again: {Path(sys.executable).name} -m tests.fuzzing --replay {path}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the targets; returns 1 if something was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="all targets together")
    parser.add_argument("--seed", type=int, help="of all random choices; by default another one")
    parser.add_argument("--only", default=",".join(NAMES), help="names of targets")
    parser.add_argument("--cases", type=int, default=10**9, help="of each target, at most")
    parser.add_argument("--finds", type=Path, default=ROOT / "finds", help="where they are kept")
    parser.add_argument("--replay", type=Path, nargs="+", help="kept finds to run again")
    options = parser.parse_args(argv)
    if options.replay:
        again = [find for path in options.replay if (find := replay(path))]
        for find in again:
            print(f"{find.target}: {find.signature}\n{find.error}")
        print(f"{len(again)} of {len(options.replay)} still happen")
        return int(bool(again))
    seed = time.time_ns() % 2**31 if options.seed is None else options.seed
    names = options.only.split(",")
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"{', '.join(unknown)}: no such target; known are {', '.join(NAMES)}")
    print(f"seed {seed}", flush=True)
    reports: list[Report] = []
    deadline = time.monotonic() + options.seconds
    for index, name in enumerate(names):
        share = max(0.0, deadline - time.monotonic()) / (len(names) - index)
        report = campaign(name, seed, options.cases, share)
        reports.append(report)
        told = f"{report.cases} cases, {len(report.finds)} finds, {report.seconds:.0f} s"
        print(f"{name}: {told}", flush=True)
        _show(report, options.finds)
    print(f"\n{table(reports)}\n\nseed {seed}")
    return int(any(report.finds for report in reports))


if __name__ == "__main__":
    sys.exit(main())
