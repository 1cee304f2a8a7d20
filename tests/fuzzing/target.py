"""What a target is, and what counts as a find."""

import contextlib
import io
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 3000  # characters of one message
Case = dict[str, bytes]
"""Input by name: files, words, values. Everything is bytes, so that it is kept and made small."""


@dataclass(frozen=True)
class Target:
    """Something that takes what users give.

    Attributes:
        make: random numbers -> a case; the same for the same numbers.
        run: runs a case in an empty folder; tells what came of it, as a word or several with
            their counts. What it raises is a find.
        cases: to be run in the tests.
        seconds: of CPU; a case takes no longer.
        can_shrink: whether a part of a case is a case, and the same case gives the same every time.
    """

    make: Callable[[Generator], Case]
    run: Callable[[Case, Path], str | Counter[str]]
    cases: int
    seconds: float = 20.0
    can_shrink: bool = True


class FoundError(Exception):
    """What must not happen, but is no exception by itself."""


def refused(error: UserError | ImageError | OSError, given: Sequence[str] = ()) -> str:
    """What came of input that is refused in a message, which is to be short and on one line.

    Args:
        error: with the message.
        given: what the message may repeat, with whatever it holds; it is shown printable.
    """
    control = any("\n" in name or "\\n" in name for name in given)
    text = str(error)
    for name in filter(None, given):
        text = text.replace(name, "")
    if isinstance(error, OSError) and error.filename is None:
        raise FoundError("an error of the disk that names no file") from error
    if not str(error).strip() or ("\n" in text and not control) or len(text) > LONGEST:
        raise FoundError(f"a bad message: {str(error)[: 2 * LONGEST]!r}") from error
    return error.reason if isinstance(error, ImageError) else "refused"


def run_command(main: Callable[[Sequence[str]], int], words: Sequence[str]) -> tuple[int, str, str]:
    """Runs a command in this process; gives its status, output and errors, which are in order.

    Raises:
        FoundError: a trace or a warning is shown, or a mistake not on one line.
    """
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict") for _ in range(2)]
    out, err = streams
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _all_warnings():
        try:
            status = main(list(words))
        except SystemExit as stop:  # of argparse
            status = stop.code if isinstance(stop.code, int) else 1
    texts = []
    for stream in streams:
        stream.flush()
        data = stream.buffer.getvalue()  # type: ignore[attr-defined]
        texts.append(data.decode("utf-8"))
    check_said(status, *texts)
    return status, texts[0], texts[1]


def check_said(status: int, out: str, err: str) -> None:
    """Raises a FoundError unless what a command said fits the status that it ended with."""
    lines = [line for line in err.replace("\r", "\n").split("\n") if line.strip()]
    problems = {
        f"status {status}": status not in (0, 1, 2, 130),
        "a trace": "Traceback (most" in out + err or "Exception ignored" in out + err,
        "a warning": "Warning: " in err,
        "no message": status == 2 and not any("error: " in line for line in lines[-1:]),
        "no word of the interruption": status == 130 and "interrupted" not in "".join(lines[-1:]),
        "an endless message": max(map(len, lines), default=0) > LONGEST,
        "control characters": not all(x.isprintable() for x in (out + err).splitlines()),
    }
    if wrong := [problem for problem, is_so in problems.items() if is_so]:
        raise FoundError(f"{', '.join(wrong)}: status {status}, {out[-500:]!r}, {err[-4000:]!r}")


@contextlib.contextmanager
def _all_warnings() -> Iterator[None]:
    """Shows every warning on standard error, as often as it is given."""

    def show(message: Warning | str, category: type[Warning], *_: object) -> None:
        print(f"{category.__name__}: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # JAX's and TensorFlow's own, at most once a process, of which users see none.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=PendingDeprecationWarning)
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def signature(error: BaseException) -> str:
    """Where an error arose, to tell finds apart: its type, our last line, the last line of all."""
    frames = traceback.extract_tb(error.__traceback__)
    cause = error.__cause__ or error.__context__
    if isinstance(error, FoundError):  # the message says more than the place
        words = str(error).partition(":")[0][:200]
        return f"{words} <- {signature(cause)}" if isinstance(cause, Exception) else words
    ours = [
        f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}"
        for frame in frames
        if frame.filename.startswith(str(ROOT)) and "tests" not in Path(frame.filename).parts
    ]
    last = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else ""
    return f"{type(error).__name__} at {ours[-1] if ours else 'the target'} in {last}"
