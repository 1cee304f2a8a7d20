"""The fuzzers, for a minute: a few cases of every target, the same every time; and themselves."""

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzzing import campaign
from tests.fuzzing.__main__ import table
from tests.fuzzing.target import FoundError, Target, run_command
from tests.fuzzing.targets import NAMES, load

SEED = 1


@pytest.mark.parametrize("name", [name for name in NAMES if load(name).cases])
def test_a_few_cases_of_every_target_find_nothing(name: str) -> None:
    target = load(name)
    print(f"seed {SEED}")
    report = campaign.fuzz(name, target, SEED, iter(range(target.cases)))
    found = [f"{find.signature}\n{find.error}\n{find.case}" for find in report.finds.values()]
    assert not found, "\n\n".join(found)
    assert report.cases == target.cases == sum(report.outcomes.values())


def _run(case: dict[str, bytes], folder: Path) -> str:
    if b"bad" in case.get("b", b""):
        raise ValueError("bad")
    return "good"


BAD = Target(
    lambda rng: {"a": rng.bytes(9), "b": b"is " + b"bad"[: rng.integers(4)] + b"!"}, _run, 9
)


def test_a_find_is_told_made_small_kept_and_run_again(tmp_path, monkeypatch):
    report = campaign.fuzz("bad", BAD, 3, iter(range(40)))
    (find,) = report.finds.values()
    assert find.case == {"b": b"bad"} and find.times + report.outcomes["good"] == 40
    assert "ValueError: bad" in find.error and find.signature.startswith("ValueError at the target")
    assert campaign.fuzz("bad", BAD, 3, iter([find.number])).finds
    assert "| bad | 40 | 1 | " in table([report])
    monkeypatch.setattr(campaign, "load", {"bad": BAD}.__getitem__)
    kept = find.save(tmp_path)
    assert campaign.replay(kept).signature == find.signature
    kept.write_text(kept.read_text().replace('"b": "YmFk"', '"b": ""'))
    assert campaign.replay(kept) is None


@pytest.mark.parametrize(("seconds", "memory"), [(0.0, 10**9), (100.0, -1)], ids=["slow", "large"])
def test_what_takes_too_much_is_a_find(monkeypatch, seconds, memory):
    monkeypatch.setattr(campaign, "MEBIBYTES", memory)
    target = Target(lambda rng: {}, lambda case, folder: Counter(a=sum(range(10**5))), 1, seconds)
    with pytest.raises(FoundError, match=r"slow|large"):
        campaign.run_case(target, {})


def test_a_process_that_dies_is_a_find_and_the_next_case_is_run(monkeypatch):
    class Process:
        exitcode = -11

        def __init__(self, target, args):
            self.arguments = args

        def start(self):
            _, _, first, cases, _, number, _, results = self.arguments
            number.value = 1 if first == 0 else cases - 1
            if first:
                results.put(campaign.Report("lists", cases - first, Counter(found=cases - first)))

        def is_alive(self):
            return False

        def join(self, timeout=None):
            pass

    context = campaign.multiprocessing.get_context("spawn")
    monkeypatch.setattr(campaign.multiprocessing, "get_context", lambda kind: context)
    monkeypatch.setattr(context, "Process", Process, raising=False)
    report = campaign.campaign("lists", 1, 5, 60.0)
    (find,) = report.finds.values()
    assert (find.number, find.error) == (1, "the process died: -11")
    assert (report.cases, report.outcomes) == (5, Counter(found=3))


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("Traceback (most recent call last):\n  x\n", 1),
        ("", 2),
        ("error: a\nmore\n", 2),
        ("UserWarning: x\n", 0),
        ("stopped\n", 130),
        ("error: " + "x" * 9999 + "\n", 2),
        ("error: \x1b[2J\n", 2),
        ("", 3),
    ],
)
def test_what_a_command_must_not_say_is_a_find(said, status):
    def main(words):
        import sys

        sys.stderr.write(said)
        return status

    with pytest.raises(FoundError):
        run_command(main, [])
