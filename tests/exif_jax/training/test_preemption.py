"""SIGTERM, the clock and hanging steps, in the loop on a toy stage and in small processes."""

import dataclasses
import os
import signal
import threading
from types import SimpleNamespace

import grain
import numpy as np
import pytest

from data_pipelines.command_line import Exit
from exif_jax.config import PretextConfig
from exif_jax.training import preemption
from exif_jax.training.checkpoints import Checkpoints
from exif_jax.training.loop import fit
from exif_jax.training.preemption import Position, Watch, common_step
from tests.exif_jax.training.test_loop import rows, toy_stage
from tests.forked_runs import Nursery

PLAN = PretextConfig(steps=400, log_every=1, eval_every=400, checkpoint_every=1000)


@pytest.mark.parametrize(
    ("positions", "step"),
    [
        (["7 -"], 7),
        (["7 -", "8 -", "7 -"], 8),  # who is behind goes on to it
        (["7 7", "8 -", "6 -"], 7),  # an evaluation of step 7: step 8 cannot be finished
        (["0 0", "0 0"], 0),
        (["6 5", "5 5"], 5),  # a first step, compiled by one of them
    ],
)
def test_the_step_that_all_can_reach(positions, step):
    assert common_step([Position.parse(text) for text in positions]) == step


@pytest.fixture
def watch():
    watch = Watch()
    watch.start()
    yield watch
    watch.close()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def latest(workdir):
    checkpoints = Checkpoints(workdir / "checkpoints")
    step = checkpoints.latest()
    checkpoints.close()
    return step


def told_after(step):
    """A toy stage whose process gets SIGTERM when a step is begun."""
    stage = toy_stage([1.0] * 9, [])
    begun = 0

    def train(*arguments):
        nonlocal begun
        begun += 1
        if begun == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return stage.step(*arguments)

    return dataclasses.replace(stage, step=train)


def test_sigterm_between_steps_saves_the_newest(watch, tmp_path):
    with pytest.raises(Exit, match=r"preempted \(SIGTERM\) after step (\d+), which is") as stop:
        fit(told_after(3), PLAN, tmp_path / "parts", watch)
    assert stop.value.status == 143 and 3 <= latest(tmp_path / "parts") < 400
    ends = [fit(toy_stage([1.0] * 9, []), PLAN, tmp_path / name) for name in ("parts", "whole")]
    assert float(ends[0].params["x"]) == float(ends[1].params["x"])
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_sigterm_while_it_waits_for_data_saves_at_once(watch, tmp_path):
    never, fourth = threading.Event(), threading.Event()
    toy, steps = toy_stage([1.0], []), []

    def train(*arguments):
        steps.append(None)
        if len(steps) == 4:
            fourth.set()
        return toy.step(*arguments)

    def load(index):
        if index == 8:  # in the fifth batch of two
            fourth.wait()  # it may be loaded ahead
            os.kill(os.getpid(), signal.SIGTERM)
            never.wait()
        return {"target": np.float32(1), "path": f"{index}.jpg"}

    data = (
        grain.MapDataset.range(1000)
        .map(load)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        .batch(2)
    )
    batches = SimpleNamespace(after=lambda step: iter(data))  # which load next to nothing ahead
    stage = dataclasses.replace(toy, step=train, data=batches)
    try:
        with pytest.raises(Exit, match="after step 4, which is saved"):
            fit(stage, PLAN, tmp_path, watch)
    finally:
        never.set()
    assert latest(tmp_path) == 4


def test_the_clock_saves_and_changes_nothing(monkeypatch, tmp_path):
    now = 0.0

    def monotonic():
        nonlocal now
        now += 1.0
        return now

    plan = dataclasses.replace(PLAN, steps=20, eval_every=20)
    whole = fit(toy_stage([1.0], []), plan, tmp_path / "whole")
    saved = []
    monkeypatch.setattr(preemption.time, "monotonic", monotonic)
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, step, *rest: (saved.append(step), save(self, step, *rest))
    )
    clocked = dataclasses.replace(plan, checkpoint_minutes=0.1)
    end = fit(toy_stage([1.0], []), clocked, tmp_path / "clocked")
    assert len(saved) > 2 and saved[-1] == 20
    assert float(end.params["x"]) == float(whole.params["x"])
    assert rows(tmp_path / "clocked") == rows(tmp_path / "whole")


IN_A_PROCESS = """
import dataclasses, threading
from pathlib import Path
from tests.exif_jax.training.test_loop import toy_stage

def forever(*_):
    print("\\nhere", flush=True)  # not at the end of the progress bar
    threading.Event().wait()

def command():
    watch = Watch()
    watch.start()
    plan = PretextConfig(steps=4, log_every=1, eval_every=2, hang_minutes={hang})
    fit({stage}, plan, Path("{workdir}"), watch)
    return 0

sys.exit(command_line.run(command, is_process=True))
"""


@pytest.fixture(scope="module")
def nursery():
    nursery = Nursery(
        "from data_pipelines import command_line\n"
        "from exif_jax.config import PretextConfig\n"
        "from exif_jax.training.loop import fit\n"
        "from exif_jax.training.preemption import Watch\n"
    )
    yield nursery
    nursery.close()


def end_of(nursery, stage, workdir, hang=0.0, signals=0):
    """Status of a fit that is told to end, so often, when it says so; and what it said."""
    program = IN_A_PROCESS.format(stage=stage, hang=hang, workdir=workdir)
    child = nursery.start(program, workdir.with_suffix(".output"))
    child.wait_until(lambda: "here" in child.lines())
    for _ in range(signals):
        child.send_signal(signal.SIGTERM)
    return child.wait(), child.lines()


def test_sigterm_ends_an_evaluation_at_once_and_it_is_done_again(nursery, tmp_path):
    stage = "dataclasses.replace(toy_stage([], []), evaluators=[forever])"
    status, said = end_of(nursery, stage, tmp_path / "parts", signals=1)
    line = "preempted (SIGTERM) after step 2, which is saved; the same command continues"
    assert status == 143 and said[-1] == line and not [x for x in said if "Traceback" in x]
    assert rows(tmp_path / "parts")[-1]["split"] == "train"
    plan = PretextConfig(steps=4, log_every=1, eval_every=2)
    for name in ("parts", "whole"):
        fit(toy_stage([2.0, 1.0], []), plan, tmp_path / name)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    assert [x["split"] for x in rows(tmp_path / "parts")].count("validation") == 2


def test_an_interrupted_last_evaluation_is_not_forgotten(watch, tmp_path):
    plan, exported = dataclasses.replace(PLAN, steps=3, eval_every=9), []

    def fails(params):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage = dataclasses.replace(toy_stage([], exported), evaluators=[fails])
        fit(stage, plan, tmp_path, watch)
    assert latest(tmp_path) == 3 and not exported
    fit(toy_stage([0.5], exported), plan, tmp_path)
    assert [step for step, _ in exported] == [3] and rows(tmp_path)[-1]["loss"] == 0.5
    fit(toy_stage([], exported), plan, tmp_path)  # finished: evaluates nothing
    assert len(exported) == 1


def test_a_step_that_hangs_shows_all_stacks_and_ends(nursery, tmp_path):
    stage = "dataclasses.replace(toy_stage([], []), step=forever)"
    status, said = end_of(nursery, stage, tmp_path / "run", hang=0.01)
    assert status == 75
    assert any("in forever" in line for line in said) and any("in fit" in line for line in said)
    assert said[-1].startswith("error: step 1 or its batch hangs for 0.01 minutes (config.hang_")
