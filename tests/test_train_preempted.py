"""train.py under SIGTERM: saved, one line, status 143, and the same command goes on exactly.

EXIF_JAX_SIGNALS=20 sends so many, at random moments of all stages in one and two processes, and
prints a table, which docs/preemption.md has.
"""

import json
import os
import random
import re
import signal
import time

import pytest

from exif_jax.training.checkpoints import Checkpoints
from tests.forked_runs import TrainNursery
from tests.test_train import PART, PRETEXT, arrays, assert_identical, metrics

SIGNALS = int(os.environ.get("EXIF_JAX_SIGNALS", "0"))
STEPS = 12
GRADIENT = [f"--config.steps={STEPS}", "--config.checkpoint_every=100", "--config.eval_every=6"]
GRADIENT += ["--config.log_every=1", "--config.batch_size=8", "--config.data.threads=2"]
GRADIENT += ["--config.data.patches=2"]
PREEMPTED = re.compile(
    r"preempted \(SIGTERM\)(?: after step (\d+), which is saved)?; the same comm"
)


@pytest.fixture(scope="module")
def nursery():
    nursery = TrainNursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def commands(records, simulated, tiny_extractor):
    """By stage, the command line without its workdir; and what the stage exports."""
    extractor = f"--config.extractor={tiny_extractor}"
    one_class = ["--config=configs/one_class.py", extractor, f"--config.data.photos={records}"]
    one_class += ["--config.num_components=1,2", "--config.pca=3", "--config.batch_size=1"]
    binary = ["--config=configs/binary.py", extractor, *GRADIENT]
    binary += [f"--config.data.images={simulated / 'labelled' / 'train'}"]
    return {
        "pretext": ([*PRETEXT, *GRADIENT, f"--config.data.photos={records}"], "extractor"),
        "binary": ([*binary, "--config.data.validation_fraction=0.34"], "detector"),
        "one_class": ([*one_class, "--config.checkpoint_every=1"], "detector"),
    }


@pytest.fixture(scope="module")
def starter(nursery, commands):
    """Starts a stage in one or two processes."""

    def start(stage, processes, run, *more):
        arguments = [*commands[stage][0], f"--workdir={run}", *more]
        output = run.with_name(f"{run.name}.output")
        two = nursery.train_two
        return [nursery.train(arguments, output)] if processes == 1 else two(arguments, output)

    return start


@pytest.fixture(scope="module")
def whole(starter, commands, tmp_path_factory):
    """By stage and number of processes: directory of an undisturbed run, and how long it took."""
    made = {}

    def get(stage, processes):
        if (stage, processes) not in made:
            run, began = tmp_path_factory.mktemp("whole") / "run", time.monotonic()
            for child in starter(stage, processes, run):
                assert child.wait() == 0, child.lines()
            made[stage, processes] = run, time.monotonic() - began
        return made[stage, processes]

    return get


def lines_of(run, split="train"):
    """Steps of the metrics so far."""
    path = run / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    rows = [json.loads(line) for line in text.splitlines() if line.endswith("}")]
    return [row["step"] for row in rows if row["split"] == split]


def saved_step(run):
    checkpoints = Checkpoints(run / "checkpoints")
    step = checkpoints.latest()
    checkpoints.close()
    return step or 0


def preempt(children, run, stage, victim=0):
    """SIGTERM for one of the processes; seconds until all have ended, and the step that is saved.

    None if they were done before.
    """
    done = max(lines_of(run), default=0)
    began = time.monotonic()
    children[victim].send_signal(signal.SIGTERM)
    statuses = [child.wait() for child in children]
    seconds = time.monotonic() - began
    if set(statuses) == {0}:
        return None
    said = [child.lines() for child in children]
    assert set(statuses) == {143}, (statuses, said)
    steps = set()
    for lines in said:
        ours = [line for line in lines if PREEMPTED.match(line)]
        others = [x for x in lines if x not in ours and not x.startswith(("continuing", "skipped"))]
        assert len(ours) == 1 and (stage == "one_class" or not others), lines
        steps.add(int(PREEMPTED.match(ours[0])[1] or 0))
    (step,) = steps
    if stage != "one_class":
        assert step == saved_step(run) >= done
    return seconds, step


def assert_as_whole(run, whole, exported):
    assert metrics(run) == metrics(whole)
    assert_identical(arrays(run / exported), arrays(whole / exported))


def finish(children):
    assert {child.wait() for child in children} == {0}, [child.lines() for child in children]


def test_sigterm_loses_no_step(starter, commands, whole, tmp_path):
    run = tmp_path / "run"
    (child,) = starter("pretext", 1, run)
    child.wait_until(lambda: (run / "config.json").exists())  # while it starts and compiles
    assert preempt([child], run, "pretext")[1] == 0
    (child,) = starter("pretext", 1, run, "--config.data.workers=1")  # in this part only
    child.wait_until(lambda: 3 in lines_of(run))  # between steps, or in the evaluation of step 6
    _, step = preempt([child], run, "pretext")
    assert 3 <= step < STEPS
    finish(starter("pretext", 1, run))
    assert_as_whole(run, whole("pretext", 1)[0], "extractor")


def test_two_processes_agree_on_the_step(starter, commands, whole, tmp_path):
    run = tmp_path / "run"
    children = starter("pretext", 2, run)
    children[0].wait_until(lambda: 2 in lines_of(run))
    _, step = preempt(children, run, "pretext", victim=1)
    assert 2 <= step < STEPS
    finish(starter("pretext", 2, run))
    assert_as_whole(run, whole("pretext", 2)[0], "extractor")


def test_all_processes_of_the_one_class_stage_end(starter, tmp_path):
    """Another number of them goes on: tests/exif_jax/stages/test_all_processes.py."""
    run = tmp_path / "run"
    children = starter("one_class", 2, run)
    children[0].wait_until(lambda: any((run / "features").glob(PART)))
    assert preempt(children, run, "one_class", victim=1) is not None


@pytest.mark.skipif(not SIGNALS, reason="EXIF_JAX_SIGNALS=20 asks for it: it takes minutes")
@pytest.mark.parametrize(
    ("stage", "processes", "share"),
    [
        ("pretext", 1, 0.25),
        ("pretext", 2, 0.25),
        ("binary", 1, 0.2),
        ("binary", 2, 0.1),
        ("one_class", 1, 0.2),
        ("one_class", 2, 0.1),
    ],
)
def test_signals_at_random_moments(stage, processes, share, starter, commands, whole, tmp_path):
    rng = random.Random(f"{stage} {processes}")
    undisturbed, duration = whole(stage, processes)
    rows, runs, wanted = [], 0, round(SIGNALS * share)
    while len(rows) < wanted:
        run = tmp_path / f"run_{runs}"
        runs += 1
        while True:
            children = starter(stage, processes, run)
            victim = rng.randrange(processes)
            if len(rows) == wanted:
                finish(children)
                break
            time.sleep(rng.uniform(0, duration))
            end = preempt(children, run, stage, victim)
            if end is None:
                break
            rows.append(end)
            print(f"| {stage} | {processes} | {victim} | {end[1]} | {end[0]:.1f} |", flush=True)
        assert_as_whole(run, undisturbed, commands[stage][1])
