"""How commands end: with one line for a mistake, a full disk or Ctrl-C, never with a trace."""

import contextlib
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from data_pipelines.disk import disk_error, in_words
from data_pipelines.early_signals import INTERRUPTED
from data_pipelines.early_signals import end as ended_early
from data_pipelines.errors import UserError
from data_pipelines.terminal import any_encoding, say

MISTAKE: Final = 2


class Exit(Exception):
    """Ends a command with a line and a status of its own, and at once.

    Attributes:
        status: of the process.
        line: what standard error gets.
        then: called between the line and the end of the process.
    """

    def __init__(self, status: int, line: str, then: Callable[[], None] = lambda: None) -> None:
        super().__init__(line)
        self.status, self.line, self.then = status, line, then


def expected(error: BaseException) -> Exit | None:
    """How a command ends that this error stopped; None: by its trace, as it is a bug."""
    match error:
        case Exit():
            return error
        case UserError():
            return Exit(MISTAKE, f"error: {error}")
        case KeyboardInterrupt():
            return Exit(INTERRUPTED, " ".join(map(str, error.args)) or "interrupted")
        case Exception():
            found = disk_error(error)
            return None if found is None else Exit(MISTAKE, f"error: {in_words(found)}")
    return None


def run(command: Callable[[], int], *, is_process: bool) -> int:
    """Runs a command and tells in one line what stopped it.

    Args:
        command: gives the exit status.
        is_process: whether the process ends with the command. Then one that was interrupted, or
            whose disk failed, ends here and at once: what threads of libraries still do would only
            add their stack traces, and all files are whole at any moment.

    Returns:
        The exit status: 2 for a user's mistake and a disk that fails, 130 for an interruption, that
        of an `Exit`, 0 where nobody reads the output any more.
    """
    with any_encoding(), _interruptions(is_process), _no_traces_of_libraries():
        try:
            status = command()
            sys.stdout.flush()  # Python would do so at its end, too late for one clear line
            return status
        except BrokenPipeError:
            status = 0
        except (Exception, KeyboardInterrupt) as error:
            end = expected(error)
            if end is None:
                raise
            say(end.line, file=sys.stderr)
            end.then()
            status = end.status
            if isinstance(error, UserError):
                return status
        if is_process:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(status)
        return status


@contextlib.contextmanager
def _interruptions(is_process: bool) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt once; another, while that is dealt with, kills the process.

    So does one while the process comes to its end.
    """
    is_main = threading.current_thread() is threading.main_thread()
    ours = (signal.default_int_handler, ended_early)
    if not is_main or signal.getsignal(signal.SIGINT) not in ours:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        after = signal.SIG_DFL if is_process else signal.default_int_handler
        signal.signal(signal.SIGINT, after)


@contextlib.contextmanager
def not_interrupted() -> Iterator[None]:
    """Processes that start within the block never hear of Ctrl-C; who started them ends them.

    A terminal sends it to all processes at once, and each would show its own stack trace.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    within = frame
    while within is not None:
        if within.f_code is _unraisable.__code__:  # where it would be lost; that repeats it
            return
        within = within.f_back
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


def _unraisable(error: "sys.UnraisableHookArgs") -> None:
    """Tells nothing of an error that nobody can catch; repeats an interruption, a moment later."""
    if issubclass(error.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGINT, _interrupt)
        again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()


@contextlib.contextmanager
def _no_traces_of_libraries() -> Iterator[None]:
    """Keeps errors that nobody can catch, such as in a library's callback, off the terminal.

    What matters of them is raised elsewhere, too.
    """
    unraisable, uncaught = sys.unraisablehook, sys.excepthook

    def only_of_main_thread(*error: Any) -> None:
        # Threads of Python have another hook: libraries in C++ print by this one.
        if threading.current_thread() is threading.main_thread():
            uncaught(*error)

    sys.unraisablehook, sys.excepthook = _unraisable, only_of_main_thread
    try:
        yield
    finally:
        sys.unraisablehook, sys.excepthook = unraisable, uncaught
