"""Worker processes: the same batches, errors in one line, and no process that outlives its use."""

import contextlib
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import grain
import numpy as np
import pytest

from data_pipelines import input_worker, workers
from data_pipelines.command_line import Exit
from data_pipelines.errors import UserError
from data_pipelines.examples import LabelledWindows, drawing, generator
from data_pipelines.perturbations import Augmentation
from data_pipelines.pipeline import labelled_batches, record_batches
from data_pipelines.records import open_records
from data_pipelines.recycling import Slots
from tests.data_pipelines.labelled_files import write_labelled

# The process prints the number of its worker and waits.
OPENS = """
import sys
from pathlib import Path
from data_pipelines.pipeline import record_batches
from data_pipelines.records import open_records
batches = iter(record_batches(open_records(Path(sys.argv[1])), "train", 4, 0, 1, workers=1))
next(batches)
print(batches._close[0].__self__._workers[0].process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("labelled"), ".jpg", "broken\udcff")


def processes(batches):
    """Of an iterator of batches."""
    return [worker.process for worker in batches._close[0].__self__._workers]


def is_running(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_the_batches_of_records_are_those_of_threads(records):
    opened = open_records(records)
    arguments = (opened, "train", 4, 3, 2, 1, 2)
    expected = iter(record_batches(*arguments))
    with contextlib.closing(record_batches(*arguments, workers=2).after(0)) as batches:
        held = [next(batches) for _ in range(9)]  # more than were made ahead
        for process in processes(batches):
            # What a terminal and a cluster send to all processes is for the first one.
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
        held += [next(batches) for _ in range(6)]
        ended = processes(batches)
    for batch in held:
        same(batch, next(expected))
    assert all(process.returncode == -signal.SIGKILL for process in ended)
    with contextlib.closing(record_batches(*arguments, workers=1).after(7)) as batches:
        same(held[7], next(batches))


def test_labelled_batches_are_those_of_threads(labelled):
    arguments = (labelled, Augmentation(), 4, 0, 2)
    expected = iter(labelled_batches(*arguments))
    with contextlib.closing(iter(labelled_batches(*arguments, workers=1))) as batches:
        for _ in range(6):
            batch = next(batches)
            same(batch, next(expected))
            broken = np.array(["broken" in str(path) for path in batch["path"]])
            np.testing.assert_array_equal(batch["valid"] == 0, broken)


def test_a_process_draws_what_grains_generators_draw():
    def both(_, rng):
        state = drawing(rng)
        return json.loads(json.dumps(state)), rng.random(), rng.integers(9, size=3), rng.normal()

    data = grain.MapDataset.range(4).seed(3).random_map(both)
    for state, uniform, integers, normal in data:
        again = generator(state)
        assert again.random() == uniform
        np.testing.assert_array_equal(again.integers(9, size=3), integers)
        assert again.normal() == normal


def test_damaged_records_and_a_killed_process_end_in_one_line(records, tmp_path):
    damaged = tmp_path / "records"
    damaged.mkdir()
    for path in records.iterdir():
        data = bytearray(path.read_bytes())
        if "train.array_record" in path.name:
            for place in range(2000, 400_000, 5000):
                data[place] ^= 255
        (damaged / path.name).write_bytes(data)
    batches = iter(record_batches(open_records(damaged), "train", 8, 0, 1, workers=1))
    with contextlib.closing(batches):
        for _ in range(2):  # it stays so
            with pytest.raises(UserError, match="damaged or was copied in part"):
                next(batches)
    batches = iter(record_batches(open_records(records), "train", 4, 0, 1, workers=1))
    with contextlib.closing(batches):
        next(batches)
        processes(batches)[0].kill()
        with pytest.raises(Exit, match="ended by signal 9") as info:
            for _ in range(4):
                next(batches)
        assert info.value.status == 75


def test_a_worker_ends_with_the_process_that_wants_its_batches(records):
    command = [sys.executable, "-c", OPENS, str(records)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_running(pid)
        process.kill()
        _, errors = process.communicate()
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline
    assert not errors


def test_what_is_not_closed_ends_with_its_last_name(records):
    batches = iter(record_batches(open_records(records), "train", 4, 0, 1, workers=1))
    (process,) = processes(batches)
    del batches
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (UserError("say so"), UserError, "say so"),
        (OSError(28, "full", "a\udcff"), OSError, "No space left on device: 'a\\udcff'"),
        (KeyError("x"), workers.WorkerError, "KeyError: 'x'"),
    ],
)
def test_errors_come_back_as_what_they_are(error, kind, text):
    raised = workers.raised(json.loads(json.dumps(input_worker.told(error))))
    assert type(raised) is kind
    assert text in str(raised)


def test_a_request_is_answered_in_shared_memory(labelled):
    load = pickle.loads(
        pickle.dumps(LabelledWindows([str(i.path) for i in labelled], Augmentation()))
    )
    ours = Slots((2, 256, 256, 3))
    slot, answers = ours.take(), io.BytesIO()
    drawn = [[0, 0, 0, 5], [1, 2]]
    requests = [
        json.dumps({"slot": slot, "plans": plans}).encode()
        for plans in ([[1, drawn], [7, drawn]], [[99, drawn], [0, drawn]])
    ]
    input_worker.serve(iter(requests), answers, load, Slots((2, 256, 256, 3), os.dup(ours.file)))
    first, second = map(json.loads, answers.getvalue().splitlines())
    assert [facts["reason"] for facts in first["facts"]] == ["", "undecodable"]
    assert "IndexError" in second["error"]["trace"]
    expected = np.empty((256, 256, 3), np.uint8)
    load([1, drawn], expected)
    np.testing.assert_array_equal(ours.lend(slot)[0], expected)
