"""Where the time of a run went: from rows of time.jsonl, also of starts that were killed."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from data_pipelines.command_line import Exit
from data_pipelines.errors import UserError
from exif_jax.training import timeline
from exif_jax.training.timeline import (
    CAUSES,
    Timeline,
    goodput,
    in_words,
    opened,
    read_timeline,
    record_end,
    record_start,
    seconds_by_cause,
    state_of,
)


def rows(*events):
    """Rows of (time, event, step, seconds by cause); a start has neither step nor seconds."""
    found = []
    for at, event, step, seconds, *facts in events:
        row = {"at": at, "event": event, **(facts[0] if facts else {})}
        if event != "start":
            row |= {"seconds": seconds} | ({} if step is None else {"step": step})
        found.append(row)
    return found


FIRST = (
    (0, "start", None, None),
    (10, "begin", 0, {"start": 10}),
    (40, "saved", 20, {"start": 10, "compile": 5, "train": 20, "wait": 4, "save": 1}),
    (60, "beat", None, {"start": 10, "compile": 5, "train": 40, "wait": 4, "save": 1}),
)


def of(seconds):
    return {cause: x for cause, x in seconds.items() if x}


def test_a_run_without_interruption_lost_nothing():
    whole = rows(*FIRST, (70, "end", 40, FIRST[-1][3] | {"evaluate": 10}, {"state": "finished"}))
    seconds = seconds_by_cause(whole)
    assert of(seconds) == {
        "start": 10, "compile": 5, "train": 40, "wait": 4, "save": 1, "evaluate": 10,
    }  # fmt: skip
    assert goodput(seconds) == pytest.approx(40 / 70) and state_of(whole) == "finished"
    assert in_words(seconds).startswith("goodput 57.1% of 1.17 min: train 57.1%, wait 5.7%")


def test_steps_that_are_done_again_are_lost_until_the_process_was_last_heard_of():
    killed = rows(
        *FIRST,
        (100, "start", None, None),
        (103, "begin", 20, {"start": 2, "restore": 1}, {"heard": 66}),
        (133, "end", 50, {"start": 2, "restore": 1, "train": 30}, {"state": "finished"}),
    )
    seconds = seconds_by_cause(killed)
    # 20 s of training until the last row, and 6 until the last line of metrics.
    assert seconds["lost"] == 26 and seconds["down"] == 34 and seconds["train"] == 50
    assert sum(seconds.values()) == 133


def test_what_was_heard_long_after_the_last_beat_was_no_process():
    killed = rows(
        *FIRST,
        (9000, "start", None, None),
        (9001, "begin", 20, {"start": 1}, {"heard": 8000}),  # as the run was copied
    )
    assert seconds_by_cause(killed)["lost"] == 20 + timeline.BEAT_SECONDS


def test_a_start_from_further_back_loses_what_earlier_starts_did():
    twice = rows(
        *FIRST,
        (100, "start", None, None),
        (101, "begin", 20, {"start": 1}),
        (111, "saved", 30, {"start": 1, "train": 10}),
        (200, "start", None, None),
        (201, "begin", 20, {"start": 1}),
        (300, "start", None, None),
        (301, "begin", 0, {"start": 1}),
    )
    seconds = seconds_by_cause(twice)
    # 20, 10, and all of the first start, whose save and input count, too.
    assert seconds["train"] == 0 and seconds["lost"] == 40 + 4 + 1 + 10
    assert seconds["start"] == 13 and seconds["compile"] == 5
    assert goodput(seconds) is None


def test_a_preempted_run_loses_nothing_but_the_time_until_it_goes_on():
    preempted = rows(
        *FIRST[:-1],
        (45, "end", 20, FIRST[2][3] | {"save": 6}, {"state": "preempted"}),
        (100, "start", None, None),
        (101, "begin", 20, {"start": 1}),
    )
    assert seconds_by_cause(preempted)["lost"] == 0
    assert seconds_by_cause(preempted)["down"] == 55


def test_the_time_of_a_finished_run_does_not_go_on():
    finished = rows(*FIRST, (60, "end", 40, FIRST[-1][3], {"state": "finished"}))
    looked_at = rows((500, "start", None, None), (501, "end", None, {"start": 1}))
    looked_at[-1]["state"] = "finished"
    before = seconds_by_cause(finished)
    assert seconds_by_cause(finished + looked_at) == before
    longer = rows((500, "start", None, None), (509, "begin", 40, {"start": 9}),
        (519, "saved", 50, {"start": 9, "train": 10}))  # fmt: skip
    after = seconds_by_cause(finished + longer)
    assert after["train"] == before["train"] + 10
    assert after["down"] == after["lost"] == 0


def test_nothing_is_known_of_a_run_of_an_earlier_version(tmp_path):
    assert read_timeline(tmp_path) == []
    assert seconds_by_cause([]) == dict.fromkeys(CAUSES, 0)
    assert goodput(seconds_by_cause([])) is None and state_of([]) == "interrupted"


def test_a_killed_process_leaves_whole_rows_and_is_no_longer_running(tmp_path):
    code = (
        "import os, sys, pathlib\n"
        "from exif_jax.training.timeline import Timeline, record_start\n"
        f"run = pathlib.Path({str(tmp_path)!r})\n"
        "record_start(run)\n"
        "timeline = Timeline(run, lambda: {'train': 2.0}, True)\n"
        "timeline.begin(0); timeline.add('saved', 7)\n"
        "assert 'jax' not in sys.modules\n"
        "print('there', flush=True); sys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1)
    with child:
        assert child.stdout.readline() == b"there\n"
        assert state_of(read_timeline(tmp_path)) == "running"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    with (tmp_path / "time.jsonl").open("a") as file:
        file.write('{"at": 1, "ev')  # as a machine that went down may leave it
    found = read_timeline(tmp_path)
    assert [row["event"] for row in found] == ["start", "begin", "saved"]
    assert state_of(found) == "interrupted"
    record_start(tmp_path)
    assert [row["event"] for row in read_timeline(tmp_path)][2:] == ["saved", "start"]


def test_a_process_of_another_host_runs_as_long_as_it_beats(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(timeline.time, "time", lambda: now)
    there = [{"at": 900.0, "event": "start", "host": "elsewhere", "pid": 1, "born": None}]
    assert state_of(there) == "running"
    now = 2000.0
    assert state_of(there) == "interrupted"
    here = [there[0] | {"host": socket.gethostname(), "pid": os.getpid(), "born": -1}]
    assert state_of(here) == "interrupted"  # another process has the number now


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, "finished"),
        (Exit(143, "preempted"), "preempted"),
        (KeyboardInterrupt(), "interrupted"),
        (UserError("the loss became nan"), "failed"),
        (ZeroDivisionError("a bug"), "failed"),
    ],
)
def test_an_end_is_recorded_once(tmp_path, error, state):
    record_start(tmp_path)
    assert opened(tmp_path, True) < 60
    line = Timeline(tmp_path, lambda: {"train": 1.0}, True)
    line.begin(3)
    line.add("saved", 4)
    assert line.end(error) == state and line.end(None) is None
    line.add("saved", 5)
    record_end(tmp_path, None)
    start, begin, saved, end = read_timeline(tmp_path)
    assert (start["event"], begin["step"], saved["step"]) == ("start", 3, 4)
    assert end["state"] == state == state_of([start, end])
    assert ("step" in end) == (state in ("finished", "preempted"))
    assert ("error" in end) == (state == "failed")


def test_a_stage_that_fails_before_the_loop_has_failed(tmp_path):
    record_end(tmp_path, UserError("never opened"))
    assert read_timeline(tmp_path) == []
    record_start(tmp_path)
    record_end(tmp_path, UserError("no photos"))
    assert state_of(read_timeline(tmp_path)) == "failed"


def test_it_beats(tmp_path, monkeypatch):
    monkeypatch.setattr(timeline, "BEAT_SECONDS", 0.01)
    record_start(tmp_path)
    line = Timeline(tmp_path, lambda: {"train": 1.0}, True)
    line.begin(0)
    while not any(row["event"] == "beat" for row in read_timeline(tmp_path)):
        pass
    line.end(None)
    assert read_timeline(tmp_path)[-1]["event"] == "end"


@pytest.mark.parametrize(
    "text",
    [
        '{"at": "x", "event": "start"}',
        '{"event": "start"}',
        '{"at": 1, "event": "start", "seconds": 3}',
    ],
)
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "time.jsonl").write_text(text + "\n" + json.dumps({"at": 1, "event": "end"}) + "\n")
    with pytest.raises(UserError, match=r"time\.jsonl: damaged .*; delete it"):
        read_timeline(tmp_path)
