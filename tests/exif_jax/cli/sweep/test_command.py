"""`exif-jax sweep` as a user runs it: failing runs, kill -9, started again."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exif_jax.cli.__main__ import main

ROOT = Path(__file__).resolve().parents[4]
TINY = ["--config.model.width=4", "--config.model.stage_depths=(1, 1)"]
TINY += ["--config.model.mixer_blocks=1", "--config.model.mixer_hidden=8"]
TINY += ["--config.batch_size=8", "--config.data.patches=2"]
TINY += ["--config.objectives.tags=FNumber,ISO,Make"]  # those of all tags compile twice as long
TINY += ["--config.steps=20", "--config.checkpoint_every=5", "--config.eval_every=20"]
GOOD = ["ranking=all_pairs_seed=0", "ranking=all_pairs_seed=1"]
BAD = ["ranking=wrong_seed=0", "ranking=wrong_seed=1"]


def run(capsys, *words):
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def kill_as_soon_as(ready, process):
    """kill -9 of the sweep and of the run that it has started."""
    while not ready():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def wait_until_all_are_gone(sweep):
    with (sweep / ".lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)


def test_a_sweep_survives_failures_and_kills(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = tmp_path / "sweep"
    command = ["sweep", "--config=pretext", *TINY, f"--config.data.photos={records}"]
    command += ["--seeds", "0,1", "--workdir", str(out)]
    both = [*command, "--grid", "ranking=all_pairs,wrong"]
    process = subprocess.Popen(
        [sys.executable, "-m", "exif_jax.cli", *both],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    checkpoints = out / GOOD[0] / "checkpoints"
    kill_as_soon_as(lambda: any(p.name.isdigit() for p in checkpoints.glob("*")), process)
    wait_until_all_are_gone(out)
    assert not (out / GOOD[0] / "curves.png").exists()

    status, text, errors = run(capsys, *both)
    assert status == 1, errors
    assert text.count("failed (status 2): config.ranking = 'wrong' is not known") == 2
    for name in BAD:
        assert f"error: {name}: config.ranking = 'wrong'" in errors
        assert f"(log: {out / 'logs' / name}.txt)" in errors
        assert "config.ranking" in (out / "logs" / f"{name}.txt").read_text()
    assert "continuing after step" in (out / "logs" / f"{GOOD[0]}.txt").read_text()
    assert "continuing after step" not in (out / "logs" / f"{GOOD[1]}.txt").read_text()
    table = [line.split() for line in text.splitlines()]
    assert ["ranking", "runs", "loss"] in [line[:3] for line in table]
    assert ["wrong", "0/2", "-"] in [line[:3] for line in table]
    stored = json.loads((out / "sweep.json").read_text())
    assert [one["status"] for one in stored["runs"]] == [0, 0, 2, 2]
    for one in stored["runs"][:2]:
        lines = (out / one["run"] / "metrics.jsonl").read_text().splitlines()
        last = json.loads(lines[-1])
        assert (last["step"], last["split"]) == (20, "validation")
        assert {"step": 20, "split": "validation", **one["metrics"]} == last
    assert (out / "sweep.csv").is_file() and (out / "sweep.png").is_file()

    def no_child(*words, **options):
        raise AssertionError("a finished run is repeated")

    monkeypatch.setattr(subprocess, "run", no_child)
    status, text, errors = run(capsys, *command, "--grid", "ranking=all_pairs")
    assert (status, errors) == (0, "") and text.count("finished before") == 2


def test_a_run_that_a_killed_sweep_left_keeps_the_next_one_out(records, tmp_path, capsys):
    out = tmp_path / "sweep"
    (tmp_path / "waits.py").write_text(
        "import pathlib, time\n"
        "from exif_jax.config import PretextConfig\n\n"
        "def get_config():\n"
        f"    flag = pathlib.Path({str(tmp_path / 'begun')!r})\n"
        f"    while pathlib.Path({str(out / 'logs')!r}).is_dir():  # not in the sweep's own check\n"
        "        flag.touch()\n"
        "        time.sleep(0.01)\n"
        "    return PretextConfig()\n"
    )
    command = ["sweep", f"--config={tmp_path / 'waits.py'}", "--grid=pair_loss=bce"]
    command += ["--workdir", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "exif_jax.cli", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
        again = ["sweep", "--config=pretext", *command[2:]]
        status, _, errors = run(capsys, *again)
        assert status == 2 and "a run that a killed one left, is at work here" in errors
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    wait_until_all_are_gone(out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid=optimizer.rate=1"], "no field 'rate'; known are name, learning_rate"),
        (["--grid=steps=1,two"], "--config.steps=two"),
        (["--grid=steps=1", "--config.seed=1"], "--config.seed: it has its values from --seeds"),
        (["--grid=steps=1", "--config.steps", "3"], "--config.steps: it has its values from --gr"),
        (["--grid=steps=1", "more"], "unexpected arguments: more"),
        (["--grid=steps=1", "--confg.a=1"], "Unknown command line flag 'confg.a'"),
        (["--grid=batch_size=1", "--config=evaluation"], "an evaluation: a sweep repeats stages"),
        (["--grid=steps=1", "--config=pretxt"], "did you mean pretext?"),
    ],
)
def test_a_mistake_is_named_before_anything_is_written(words, message, tmp_path, capsys):
    config = [] if any(word.startswith("--config=") for word in words) else ["--config=pretext"]
    status, out, err = run(
        capsys, "sweep", *config, *words, "--seeds=0", "--workdir", tmp_path / "s"
    )
    assert (status, out) == (2, "") and message in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    words = ["sweep", "--config=pretext", "--grid=steps=1", "--workdir", tmp_path]
    status, _, err = run(capsys, *words)
    assert status == 2 and "is not empty and holds no sweep" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
