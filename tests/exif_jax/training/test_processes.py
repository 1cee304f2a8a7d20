"""Two small processes that meet: what they agree on, and how each hears that the other died."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
START = """
import os, sys, threading, time
import jax
jax.config.update("jax_platforms", "cpu")
from exif_jax.training import preemption, processes
processes.HEARTBEAT_SECONDS = 5
me = int(sys.argv[2])
watch = preemption.Watch()
watch.start()
peers = processes.join(f"127.0.0.1:{sys.argv[1]}", 2, me)
watch.meet(peers)

def begin(**more):
    options = dict(alone=False, checkpoint_minutes=0, hang_minutes=0) | more
    watch.begin(0, lambda: None, **options)

def report(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def two():
    """Starts two processes of a program, in one run."""
    started = []

    def start(program):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for index in range(2):
            process = subprocess.Popen(
                [sys.executable, "-c", START + program, str(port), str(index)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def end_of(process):
    output, error = process.communicate(timeout=120)
    return process.returncode, output.splitlines()[-1:], error.splitlines()


@pytest.mark.parametrize("victim", [0, 1])
def test_who_survives_says_so_in_one_line(two, victim):
    processes = two("report('here'); threading.Event().wait()")
    for process in processes:
        assert process.stdout.readline() == "here\n"
    processes[victim].send_signal(signal.SIGKILL)
    status, _, error = end_of(processes[1 - victim])
    assert status == 75 and error == [
        f"error: process {victim} of this run died or cannot be reached; start all again: the same "
        "command continues from the last checkpoint"
    ]


STEPS = """
begin(checkpoint_minutes={minutes})
watch.next_step()
watch.release()
report("here")
saved = []
while (due := watch.next_step()) is not preemption.Due.STOP:
    if due is preemption.Due.SAVE:
        saved.append(watch._position.begun)
        report("saved", saved[-1])
        watch.saved()
    time.sleep(0.002 * (1 + me))  # one is faster
    begun = watch._position.begun
    # As a step of all processes does, it waits for the other.
    peers._client.wait_at_barrier(f"step {{begun}}", 60000)
report(watch.stopped().line)
peers.leave(143)
os._exit(143)
"""


def test_all_save_and_stop_after_the_same_step(two):
    processes = two(STEPS.format(minutes=0.01))
    saved = []
    for process in processes:
        assert process.stdout.readline() == "here\n"
        saved.append(process.stdout.readline())
    assert saved[0] == saved[1] and saved[0].startswith("saved ")
    processes[1].send_signal(signal.SIGTERM)
    (status, last, _), other = end_of(processes[0]), end_of(processes[1])
    assert (status, last) == other[:2] and status == 143
    assert last[0].startswith("preempted (SIGTERM) after step ")


def test_a_notice_that_jax_got_is_heard(two):
    told = """
if me == 0:
    from datetime import datetime, timezone
    now = datetime.now(timezone.utc).isoformat()
    peers._client.key_value_set("RECEIVED_PREEMPTION_NOTICE", now)
"""
    ends = [end_of(process) for process in two(told + STEPS.format(minutes=0))]
    assert ends[0][:2] == ends[1][:2] and ends[0][0] == 143


def test_where_all_is_saved_all_end_at_once(two):
    processes = two("begin(); report('here'); watch.next_step(); threading.Event().wait()")
    for process in processes:
        assert process.stdout.readline() == "here\n"
    processes[0].send_signal(signal.SIGTERM)
    for process in processes:
        status, _, error = end_of(process)
        assert status == 143 and error == ["preempted (SIGTERM); the same command continues"]


def test_an_error_of_one_ends_the_other(two):
    ours = (
        "from data_pipelines.command_line import Exit\nfrom data_pipelines.errors import UserError"
    )
    processes = two(
        f"{ours}\nif me:\n end = peers.exit_of(UserError('no'))\n report(end.line)\n"
        " end.then()\n os._exit(end.status)\nthreading.Event().wait()"
    )
    assert end_of(processes[1])[:2] == (2, ["error: no"])
    assert end_of(processes[0])[0] == 75
