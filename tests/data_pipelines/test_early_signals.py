"""Signals in the first moments of a process: one line, no trace."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUSY = """
from data_pipelines.early_signals import kills_at_once, quiet_start
quiet_start()
{then}
print("here", flush=True)
while True:
    pass
"""


def end(number, then=""):
    with subprocess.Popen(
        [sys.executable, "-c", BUSY.format(then=then)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        return process.wait(), process.communicate()[1]


@pytest.mark.parametrize(
    ("number", "then", "status", "said"),
    [
        (signal.SIGINT, "", 130, "interrupted\n"),
        (signal.SIGTERM, "", 143, "ended by SIGTERM\n"),
        (signal.SIGTERM, "kills_at_once()", -signal.SIGTERM, ""),
    ],
)
def test_a_signal_is_one_line(number, then, status, said):
    assert end(number, then) == (status, said)


def test_what_the_caller_ignores_stays_ignored():
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + BUSY.format(
        then="assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN; raise SystemExit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 7


def catches(process, number):
    """Whether a process has a handler of its own."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_train_is_quiet_before_it_has_imported_anything():
    with subprocess.Popen(
        [sys.executable, "train.py", "--help"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not catches(process, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == "interrupted\n" and process.returncode == 130
