"""Ctrl-C and SIGTERM while Python still imports: one line and no trace.

Imports next to nothing, so that commands can call `quiet_start` before their libraries load.
"""

import os
import signal
import types
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT
PREEMPTED: Final = 128 + signal.SIGTERM
RESTART: Final = 75  # EX_TEMPFAIL of sysexits.h: start again
_TEXTS: Final = {signal.SIGINT: b"interrupted\n", signal.SIGTERM: b"ended by SIGTERM\n"}


def quiet_start() -> None:
    """Both signals end the process from now on, until a command takes them over.

    Those that the caller of the process told it to ignore stay ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, end)


def kills_at_once() -> None:
    """SIGTERM does what it does in every program, also in processes that are forked from now on."""
    if signal.getsignal(signal.SIGTERM) is end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end(number: int, frame: types.FrameType | None) -> None:
    """Ends the process: nothing is begun yet."""
    os.write(2, _TEXTS[signal.Signals(number)])
    os._exit(128 + number)
