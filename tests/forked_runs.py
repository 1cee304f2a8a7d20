"""Runs of train.py that start quickly: forks of one process that has imported everything."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.test_train import ROOT, environment

_NURSERY = """
import json, os, sys
{imports}
print("ready", flush=True)
for line in sys.stdin:
    wanted = json.loads(line)
    if "wait" in wanted:
        status = os.waitpid(wanted["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
    elif child := os.fork():
        print(child, flush=True)
    else:
        output = os.open(wanted["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for old in (1, 2):
            os.dup2(output, old)
        exec(wanted["code"])
        sys.exit()
"""
_TRAIN = """
import exif_jax.cli.train, exif_jax.stages.binary, exif_jax.stages.one_class
import exif_jax.stages.pretext, exif_jax.training.curves
from data_pipelines.early_signals import quiet_start
from exif_jax.cli.__main__ import main
"""


def free_port():
    """A port of this machine that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nursery:
    """The process that is forked."""

    def __init__(self, imports):
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY.format(imports=imports)],
            cwd=ROOT,
            env=environment(PYTHONPATH=str(ROOT)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._children = []
        assert self._process.stdout.readline() == "ready\n"

    def _answer(self, question):
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def start(self, code, output):
        """A fork that runs a program; what it says goes to a file."""
        pid = self._answer({"code": code, "output": str(output)})
        self._children.append(Child(pid, output, self._answer))
        return self._children[-1]

    def kill_all(self):
        """Ends what is still running."""
        for child in self._children:
            child.kill()

    def close(self):
        self.kill_all()
        self._process.communicate()


class TrainNursery(Nursery):
    """The forks are train.py."""

    def __init__(self):
        super().__init__(_TRAIN)

    def train(self, arguments, output, first=""):
        words = ["train.py", "train", *map(str, arguments)]
        return self.start(f"{first}\nsys.argv = {words!r}\nquiet_start()\nsys.exit(main())", output)

    def train_two(self, arguments, output):
        """Two processes of one run."""
        together = [*arguments, f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
        # See `start_two` of test_train.py.
        first = "import jax\njax.config.update('jax_enable_compilation_cache', False)"
        return [
            self.train([*together, f"--process={i}"], output.with_suffix(f".{i}"), first)
            for i in range(2)
        ]


class Child:
    """A run: what a Popen would offer."""

    def __init__(self, pid, output, answer):
        self.pid, self._output, self._answer = pid, Path(output), answer
        self.returncode = None

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)

    def is_running(self):
        if self.returncode is not None:
            return False
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return state != "Z"
        return False

    def wait(self):
        if self.returncode is None:
            self.returncode = self._answer({"wait": self.pid})
        return self.returncode

    def lines(self):
        """What it said, without its progress bar and what gloo says."""
        text = self._output.read_text() if self._output.exists() else ""
        text = text.replace("\r", "\n").split("\n")
        return [
            line
            for line in text
            if line.strip() and "step" not in line.partition("[")[2] and "[Gloo]" not in line
        ]

    def wait_until(self, ready):
        """Polls until something is so."""
        while not ready():
            assert self.is_running() or ready(), self._output.read_text()
            time.sleep(0.005)

    def kill(self):
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)
            self.wait()
