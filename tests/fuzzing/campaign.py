"""Targets in processes of their own: a crash or a hang is a find as well, and ends no campaign.

Case `number` of a target is the same for the same seed, whatever else is run.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzzing.target import Case, FoundError, Target, signature
from tests.fuzzing.targets import load

MEBIBYTES = 1536  # by which one case may raise the peak of memory
_SHRINK_SECONDS = 20.0
_START_SECONDS = 300.0  # of imports, of what the targets damage, and of the first compilation


@dataclass
class Find:
    """What must not happen.

    Attributes:
        target: its name.
        seed: of the campaign.
        number: of the case.
        signature: tells it from other finds.
        error: the trace, or what happened.
        case: made small, if it can be.
        times: so often it was met.
    """

    target: str
    seed: int
    number: int
    signature: str
    error: str
    case: Case
    times: int = 1

    def save(self, folder: Path) -> Path:
        """Keeps it as a file for `--replay`."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}_{zlib.crc32(self.signature.encode()):08x}.json"
        case = {name: b64encode(content).decode() for name, content in self.case.items()}
        path.write_text(json.dumps({**asdict(self), "case": case}, indent=1) + "\n")
        return path


@dataclass
class Report:
    """What came of a target.

    Attributes:
        name: of the target.
        cases: that were run.
        outcomes: how often what came of them.
        finds: by signature.
        seconds: they took.
    """

    name: str
    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    finds: dict[str, Find] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, find: Find) -> None:
        """Takes a find in."""
        if known := self.finds.get(find.signature):
            known.times += find.times
        else:
            self.finds[find.signature] = find


def case_of(name: str, target: Target, seed: int, number: int) -> Case:
    """The case of a number."""
    return target.make(np.random.default_rng([seed, zlib.crc32(name.encode()), number]))


def run_case(target: Target, case: Case) -> str | Counter[str]:
    """Runs a case in a folder of its own.

    Raises:
        Exception: a find.
    """
    with _scratch() as folder:
        began, before = time.process_time(), _peak()  # a busy machine is no find
        outcome = target.run(case, folder)
        seconds, more = time.process_time() - began, _peak() - before
    if seconds > target.seconds:
        raise FoundError(f"slow: {seconds:.0f} s of CPU")
    if more > MEBIBYTES:
        raise FoundError(f"large: {more:.0f} MiB")
    return outcome


def fuzz(
    name: str,
    target: Target,
    seed: int,
    numbers: Iterator[int],
    tell: Callable[[int], None] = lambda number: None,
) -> Report:
    """Runs cases in this process.

    Args:
        name: of the target.
        target: itself.
        seed: of the campaign.
        numbers: of the cases.
        tell: is told each number before its case is run.
    """
    report, began = Report(name), time.monotonic()
    for number in numbers:
        tell(number)
        case = case_of(name, target, seed, number)
        report.cases += 1
        try:
            outcome = run_case(target, case)
        except Exception as error:
            found = signature(error)
            text = "".join(traceback.format_exception(error, limit=-12))[-6000:]
            if found not in report.finds and target.can_shrink:
                case = shrunk(target, case, found)
            report.add(Find(name, seed, number, found, text, case))
        else:
            report.outcomes.update([outcome] if isinstance(outcome, str) else outcome)
    report.seconds = time.monotonic() - began
    return report


def shrunk(target: Target, case: Case, wanted: str) -> Case:
    """A smaller case that fails alike: parts are left out as long as it does."""
    deadline = time.monotonic() + _SHRINK_SECONDS

    def fails(smaller: Case) -> bool:
        try:
            run_case(target, smaller)
        except Exception as error:
            return signature(error) == wanted
        return False

    for name in sorted(case):
        without = {key: content for key, content in case.items() if key != name}
        if time.monotonic() < deadline and fails(without):
            case = without
    for name in sorted(case, key=lambda name: len(case[name])):
        size = len(case[name])
        while size and time.monotonic() < deadline:
            at = 0
            while at < len(case[name]) and time.monotonic() < deadline:
                content = case[name]
                smaller = {**case, name: content[:at] + content[at + size :]}
                if fails(smaller):
                    case = smaller
                else:
                    at += size
            size //= 2
    return case


def campaign(name: str, seed: int, cases: int, seconds: float) -> Report:
    """Runs a target in a child process, in another one after each that crashes or hangs.

    Args:
        name: of the target.
        seed: of the campaign.
        cases: at most.
        seconds: no case begins later.
    """
    report, first = Report(name), 0
    deadline = time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    limit = load(name).seconds
    while first < cases and time.monotonic() < deadline:
        number, since = context.Value("q", -1), context.Value("d", time.monotonic())
        results: Any = context.SimpleQueue()
        budget = deadline - time.monotonic()
        arguments = (name, seed, first, cases, budget, number, since, results)
        process = context.Process(target=_child, args=arguments)
        process.start()
        part: Report | None = None
        hangs = False
        while part is None and process.is_alive() and not hangs:
            process.join(0.2)
            while not results.empty():
                part = results.get()
            shrinking = 3 * _SHRINK_SECONDS
            allowed = _START_SECONDS if number.value < 0 else 10 * limit + shrinking
            hangs = time.monotonic() - since.value > allowed
        if part is None and not results.empty():
            part = results.get()
        if hangs:
            process.kill()
        process.join()
        if part is not None:
            _merge(report, part)
            return report
        at = max(number.value, first)
        what = "hangs" if hangs else f"the process died: {process.exitcode}"
        case = case_of(name, load(name), seed, at)
        report.add(Find(name, seed, at, what, what, case))
        report.cases += at + 1 - first
        first = at + 1
    return report


def _child(
    name: str,
    seed: int,
    first: int,
    cases: int,
    seconds: float,
    number: Any,
    since: Any,
    results: Any,
) -> None:
    deadline = time.monotonic() + seconds

    def numbers() -> Iterator[int]:
        at = first
        # One case at least, whatever the start took.
        while at < cases and (at == first or time.monotonic() < deadline):
            yield at
            at += 1

    def tell(at: int) -> None:
        number.value, since.value = at, time.monotonic()

    if not os.environ.get("FUZZING_SAYS"):
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  (of the whole process)
    results.put(fuzz(name, load(name), seed, numbers(), tell))


def _merge(report: Report, part: Report) -> None:
    report.cases += part.cases
    report.outcomes += part.outcomes
    report.seconds += part.seconds
    for find in part.finds.values():
        report.add(find)


def replay(path: Path) -> Find | None:
    """Runs a kept find again, in this process; None: it is mended."""
    kept = json.loads(path.read_text())
    target = load(kept["target"])
    case = {name: b64decode(content) for name, content in kept["case"].items()}
    try:
        run_case(target, case)
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        return Find(kept["target"], kept["seed"], kept["number"], signature(error), text, case)
    return None


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="case."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _peak() -> float:
    """The largest memory that this process had, MiB; 0 where that is not told."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
