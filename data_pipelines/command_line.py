"""How commands end: with one line for a mistake, a full disk or Ctrl-C, never with a trace."""

import contextlib
import dataclasses
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
from data_pipelines.errors import Interrupted, UserError
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
        case Interrupted():
            return Exit(INTERRUPTED, str(error))
        case KeyboardInterrupt():  # to which Python itself may have added words
            return Exit(INTERRUPTED, "interrupted")
        case Exception():
            found = disk_error(error)
            return None if found is None else Exit(MISTAKE, f"error: {in_words(found)}")
    return None


@dataclasses.dataclass
class _Interruption:
    """Of the command that runs.

    Attributes:
        came: whether it was raised; libraries may take that for an error of their own.
        waits: whether it is to be raised once an import is done.
        repeats: whether the next signal is not pressed but repeated.
        again: repeats it, unless the command ends before.
    """

    came: bool = False
    waits: bool = False
    repeats: bool = False
    again: threading.Timer | None = None


_interruption: Final = _Interruption()


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
            # A library may take an interruption for an error of its own.
            end = expected(KeyboardInterrupt() if _lost_interruption(error) else error)
            if end is None:
                raise
            say(end.line, file=sys.stderr)
            end.then()
            status = end.status
            if status == MISTAKE and isinstance(error, UserError):
                return status
        if is_process:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(status)
        return status


def _lost_interruption(error: BaseException) -> bool:
    return _interruption.came and not isinstance(error, (KeyboardInterrupt, Exit))


@contextlib.contextmanager
def _interruptions(is_process: bool) -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt once; another, while that is dealt with, kills the process.

    So does one while the process comes to its end.
    """
    _interruption.came = _interruption.waits = _interruption.repeats = False
    is_main = threading.current_thread() is threading.main_thread()
    usual = (signal.default_int_handler, ended_early)
    if not is_main or signal.getsignal(signal.SIGINT) not in usual:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        if _interruption.again is not None:
            _interruption.again.cancel()
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
    imports = False
    while frame is not None and frame.f_code is not run.__code__:
        if frame.f_code is _unraisable.__code__:  # where it would be lost; that repeats it
            return
        imports = imports or frame.f_code.co_filename.startswith("<frozen importlib")
        frame = frame.f_back
    is_second = _interruption.waits and not _interruption.repeats
    _interruption.repeats = False
    # In an import libraries take it for an error of their own, or crash: it waits until that is
    # done. A second one does not.
    if imports and not is_second:
        _interruption.waits = True
        _repeat()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _interruption.came, _interruption.waits = True, False
    raise KeyboardInterrupt


def _repeat() -> None:
    """Sends the interruption again, a moment later."""

    def send() -> None:
        _interruption.repeats = True
        os.kill(os.getpid(), signal.SIGINT)

    _interruption.again = threading.Timer(0.05, send)
    _interruption.again.daemon = True
    _interruption.again.start()


def _unraisable(error: "sys.UnraisableHookArgs") -> None:
    """Tells nothing of an error that nobody can catch; repeats an interruption, a moment later."""
    if issubclass(error.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGINT, _interrupt)
        _repeat()


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
