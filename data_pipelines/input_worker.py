"""A process that makes examples for training, until the process that wants them is gone.

It hears of the examples on its standard input, a line of JSON for each batch, and answers with a
line on its standard output when they are in shared memory. What it answers is not pickled: its
libraries read files that come from anyone.
"""

import contextlib
import json
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any, BinaryIO

from data_pipelines.disk import disk_error
from data_pipelines.errors import UserError
from data_pipelines.examples import Loader
from data_pipelines.recycling import Slots


def serve(requests: Iterator[bytes], answers: BinaryIO, load: Loader, slots: Slots) -> None:
    """Answers requests: {"slot": number, "plans": [...]}."""
    for line in requests:
        request = json.loads(line)
        try:
            images = slots.array(request["slot"])
            facts = [load(p, out) for p, out in zip(request["plans"], images, strict=True)]
            answer: dict[str, Any] = {"facts": facts}
        except Exception as error:
            answer = {"error": told(error)}
        _say(answers, answer)


def _say(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def told(error: Exception) -> dict[str, Any]:
    """An error as JSON has it, for `workers.raised`."""
    if isinstance(error, UserError):
        return {"user": str(error)}
    found = disk_error(error)
    if found is not None and found.errno is not None:
        file = None if found.filename is None else os.fsdecode(found.filename)
        return {"errno": found.errno, "file": file}
    return {"trace": "".join(traceback.format_exception(error))}


def _lines(requests: BinaryIO) -> Iterator[bytes]:
    """The requests, of which none waits in the pipe; ends this process after the last."""
    queue = SimpleQueue[bytes]()

    def listen() -> None:
        for line in requests:
            queue.put(line)
        os._exit(0)  # at once, whatever is being made: nobody wants it

    threading.Thread(target=listen, daemon=True).start()
    while True:
        yield queue.get()


def main() -> None:
    """Serves the process that started this one; the arguments are numbers of open files."""
    # Ctrl-C and SIGTERM are for that process, which may need another batch before it stops.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    memory, first = map(int, sys.argv[1:3])
    lines = _lines(sys.stdin.buffer)
    with contextlib.suppress(BrokenPipeError):  # the other process ended between two lines
        try:
            load, shape = pickle.loads(os.pread(first, os.fstat(first).st_size, 0))
        except Exception as error:  # such as records that are gone
            for _ in lines:
                _say(answers, {"error": told(error)})
        else:
            serve(lines, answers, load, Slots(shape, memory))
    os._exit(0)
