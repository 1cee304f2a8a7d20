"""What `hostile.py` found: checks of it, and the tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from hostile_files import EXPECTED
from speed_report import heading

from data_pipelines.prepare.options import Options

Facts = dict[str, Any]
"""What is written as JSON, see `hostile.measure`."""
NARROW_SECONDS = 2
NARROW_MEBIBYTES = 512
_DEATHS = ("crashed", "timed_out", "out_of_memory")
_PARENT_MEBIBYTES = 1024


def complaints(facts: Mapping[str, Any]) -> list[str]:
    """Lists what should not have happened."""
    limit, narrow = Options().memory_per_file, facts["narrow"]
    found = {
        "photos and rejects are not all files": facts["photos"] + facts["rejects"]
        != facts["files"],
        f"{facts['good_missing']} good photos are missing": facts["good_missing"],
        f"{facts['good_changed']} good photos have other windows": facts["good_changed"],
        "a child took more memory than it may": facts["worker_mebibytes"] > limit,
        "the parent took more memory than 1 GiB": facts["parent_mebibytes"] > _PARENT_MEBIBYTES,
        f"{narrow['good_missing']} good photos are missing with narrow limits": narrow[
            "good_missing"
        ],
        f"{narrow['good_changed']} good photos have other windows with narrow limits": narrow[
            "good_changed"
        ],
        "a child took more memory than the narrow limit": narrow["worker_mebibytes"]
        > NARROW_MEBIBYTES,
    }
    wrong = [
        f"{kind}: {reasons} instead of {sorted(EXPECTED[kind])}"
        for kind, reasons in facts["kinds"].items()
        if kind in EXPECTED and not reasons.keys() <= EXPECTED[kind]
    ]
    return [text for text, bad in found.items() if bad] + wrong


def _grid(rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def report(facts: Mapping[str, Any], machine: Mapping[str, Any], quick: bool) -> str:
    """Returns the results as Markdown."""
    options = Options()
    narrow = facts["narrow"]
    counters = (facts["outcomes"], facts["again"], narrow["outcomes"])
    walls = (facts["seconds"], facts["again_seconds"], narrow["seconds"])
    passed = [
        ("", "`exif-jax prepare`", "read again, any EXIF accepted", "bombs, narrow limits"),
        ("wall time, s", *(f"{seconds:.0f}" for seconds in walls)),
        *(
            (f"files: {name}", *(counts.get(name, 0) for counts in counters))
            for name in sorted({*_DEATHS}.union(*counters))
        ),
        (
            "largest peak memory of a child, MiB",
            f"{facts['worker_mebibytes']:.0f}",
            f"{facts['again_mebibytes']:.0f}",
            f"{narrow['worker_mebibytes']:.0f}",
        ),
        (
            "peak memory of the parent, MiB",
            f"{facts['parent_mebibytes']:.0f}",
            "-",
            f"{narrow['parent_mebibytes']:.0f}",
        ),
        ("child processes", facts["processes"], "-", narrow["processes"]),
    ]
    slowest = [("kind", "seconds", "outcome")]
    slowest += [(kind, f"{seconds:.1f}", outcome) for kind, seconds, outcome in facts["slowest"]]
    kinds = [
        ("kind", "files", "outcomes of `exif-jax prepare`", "outcomes when any EXIF is accepted"),
        *(
            (kind, sum(counts.values()), _counts(counts), _counts(facts["again_kinds"][kind]))
            for kind, counts in facts["kinds"].items()
        ),
    ]
    problems = complaints(facts)
    verdict = "Complaints: " + "; ".join(problems) if problems else "Every check passed."
    return f"""# Hostile files

{heading(machine, quick)}
Command: `{facts["command"]}`

{facts["hostile"]:,} hostile files ({facts["megabytes"]:.0f} MB), grown from {facts["seeds"]},
and {facts["good"]} good photos among them. {facts["workers"]} child processes at a time, each with
at most {options.memory_per_file} MiB, {options.seconds_per_file:g} s and {options.max_pixels:,}
pixels a file. The third pass reads {narrow["files"]} files, the bombs and the good photos, with at
most {NARROW_MEBIBYTES} MiB and {NARROW_SECONDS} s a file; a child that dies is replaced.

{verdict} Checked: exit status 0; every file is either in the records or rejected; every good photo
is in the records, with the windows it has when it is read alone; memory within the limits; bombs
and files that are no images have the reasons they should have.

{_grid(passed)}

Slowest files of the second pass (half of all files took at most
{1000 * facts["median_seconds"]:.0f} ms, 99 % at most {1000 * facts["p99_seconds"]:.0f} ms):

{_grid(slowest)}

What became of every kind:

{_grid(kinds)}
"""
