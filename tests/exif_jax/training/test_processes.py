"""Two small processes that meet: what they agree on, and how each hears that the other died."""

import signal

import pytest

from tests.forked_runs import Nursery, free_port

IMPORTS = """
import threading, time
import jax
jax.config.update("jax_platforms", "cpu")
from data_pipelines.errors import UserError
from exif_jax.training import preemption, processes, shares
processes.HEARTBEAT_SECONDS = 5
"""
START = """
me = {index}
watch = preemption.Watch()
watch.start()
peers = processes.join("127.0.0.1:{port}", 2, me)
watch.meet(peers)

def begin(**more):
    options = dict(alone=False, checkpoint_minutes=0, hang_minutes=0) | more
    watch.begin(0, lambda: None, **options)

def report(*words):
    print(*words, flush=True)
"""


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery(IMPORTS)
    yield nursery
    nursery.close()


@pytest.fixture
def two(nursery, tmp_path):
    """Starts two processes of a program, in one run; with a word to wait for."""

    def start(program, word="here"):
        port = free_port()
        processes = [
            nursery.start(START.format(index=i, port=port) + program, tmp_path / str(i))
            for i in range(2)
        ]
        for process in processes:
            process.wait_until(lambda process=process: word in "".join(process.lines()))
        return processes

    yield start
    nursery.kill_all()


@pytest.mark.parametrize("victim", [0, 1])
def test_who_survives_says_so_in_one_line(two, victim):
    processes = two("report('here'); threading.Event().wait()")
    processes[victim].send_signal(signal.SIGKILL)
    survivor = processes[1 - victim]
    assert survivor.wait() == 75 and survivor.lines() == [
        "here",
        f"error: process {victim} of this run died or cannot be reached; start all again: the same "
        "command continues from the last checkpoint",
    ]


def test_who_waits_for_a_dead_one_says_so(two):
    program = """
jax.devices()
report("here")
if me:
    threading.Event().wait()
try:
    shares.meet()
except Exception as error:
    end = peers.exit_of(error)
    os._exit(end.status)
"""
    processes = two(program)
    processes[1].send_signal(signal.SIGKILL)
    assert processes[0].wait() == 75
    assert processes[0].lines()[1].startswith("error: process 1 of this run died")


STEPS = """
begin(checkpoint_minutes={minutes})
watch.next_step()
watch.release()
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
    processes = two(STEPS.format(minutes=0.01), "saved")
    processes[1].send_signal(signal.SIGTERM)
    assert [process.wait() for process in processes] == [143, 143]
    said = [process.lines() for process in processes]
    assert said[0] == said[1] and said[0][-1].startswith("preempted (SIGTERM) after step ")


def test_a_notice_that_jax_got_is_heard(two):
    told = """
if me == 0:
    from datetime import datetime, timezone
    now = datetime.now(timezone.utc).isoformat()
    peers._client.key_value_set("RECEIVED_PREEMPTION_NOTICE", now)
"""
    processes = two(told + STEPS.format(minutes=0), "preempted")
    assert [process.wait() for process in processes] == [143, 143]
    assert processes[0].lines() == processes[1].lines()


def test_where_all_is_saved_all_end_at_once(two):
    processes = two("begin(); watch.next_step(); report('here'); threading.Event().wait()")
    processes[0].send_signal(signal.SIGTERM)
    line = "preempted (SIGTERM); the same command continues"
    for process in processes:
        assert process.wait() == 143 and process.lines() == ["here", line]


def test_an_error_of_one_ends_the_other(two):
    program = """
report("here")
if me:
    end = peers.exit_of(UserError("no"))
    report(end.line)
    end.then()
    os._exit(end.status)
threading.Event().wait()
"""
    processes = two(program)
    assert [process.wait() for process in processes] == [75, 2]
    assert processes[1].lines() == ["here", "error: no"]
    assert len(processes[0].lines()) == 2
