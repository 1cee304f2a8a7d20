"""train.py as a user runs it: interruption by kill -9, several processes, finished runs."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from exif_jax.cli.__main__ import main
from exif_jax.stages import pretext
from exif_jax.training.mapping import data_mesh
from exif_jax.training.telemetry import MEASURED

ROOT = Path(__file__).resolve().parents[1]
TINY_MODEL = [
    "--config.model.width=4",
    "--config.model.stage_depths=(1, 1)",
    "--config.model.mixer_blocks=1",
    "--config.model.mixer_hidden=8",
]
PART = "*[0-9a-f].npz"  # a finished part of the features; NAME.tmp.npz is a half-written one
PRETEXT = ["--config=configs/pretext.py", *TINY_MODEL, "--config.log_every=1"]
PRETEXT += ["--config.batch_size=8", "--config.data.patches=2", "--config.data.threads=2"]
PRETEXT += ["--config.objectives.tags=FNumber,ISO,Make"]  # those of all tags compile twice as long


def environment(devices=1, **extra):
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **extra,
    }


def start(arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "train.py", *map(str, arguments)],
        cwd=ROOT,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return output


def metrics(run):
    """Lines of metrics.jsonl, without what is measured anew each time that steps are done."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    return "".join(map(without_measured, lines))


def without_measured(line):
    row = json.loads(line) if line.endswith("}\n") else {}
    return json.dumps({k: x for k, x in row.items() if k not in MEASURED}) + "\n" if row else line


def arrays(directory):
    return load_file(directory / "model.safetensors")


def assert_identical(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def has_checkpoint(run):
    return any(folder.name.isdigit() for folder in (run / "checkpoints").glob("*"))


def kill_as_soon_as(ready, process, run):
    """kill -9 once something is complete in the run's directory; what follows is lost."""
    while not ready(run):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def interrupted_and_whole(arguments, folder):
    """The same run killed in the middle and continued, and uninterrupted: their directories."""
    killed, whole = folder / "killed", folder / "whole"
    kill_as_soon_as(has_checkpoint, start([*arguments, f"--workdir={killed}"]), killed)
    lines = len(metrics(killed).splitlines())
    finish(start([*arguments, f"--workdir={killed}"]))
    finish(start([*arguments, f"--workdir={whole}"]))
    assert 0 < lines < len(metrics(whole).splitlines())
    return killed, whole


@pytest.fixture(scope="module")
def pretext_runs(records, tmp_path_factory):
    arguments = [*PRETEXT, f"--config.data.photos={records}", "--config.steps=20"]
    arguments += ["--config.checkpoint_every=5", "--config.eval_every=10"]
    return arguments, *interrupted_and_whole(arguments, tmp_path_factory.mktemp("pretext"))


def test_a_killed_pretext_run_continues_exactly(pretext_runs):
    _, killed, whole = pretext_runs
    assert metrics(killed) == metrics(whole)
    assert_identical(arrays(killed / "extractor"), arrays(whole / "extractor"))
    splits = [json.loads(line)["split"] for line in metrics(whole).splitlines()]
    assert (splits.count("train"), splits.count("validation")) == (20, 2)


def test_a_finished_run_says_so(pretext_runs):
    arguments, _, whole = pretext_runs
    before = metrics(whole)
    assert "finished" in finish(start([*arguments, f"--workdir={whole}"]))
    assert metrics(whole) == before


def test_more_steps_extend_a_run(pretext_runs, records):
    arguments, killed, _ = pretext_runs
    finish(start([*arguments, "--config.steps=23", f"--workdir={killed}"]))
    last = json.loads(metrics(killed).splitlines()[-1])
    assert (last["step"], last["split"]) == (23, "validation")


def test_a_killed_binary_run_continues_exactly(pretext_runs, simulated, tmp_path):
    _, _, whole_pretext = pretext_runs
    arguments = ["--config=configs/binary.py", f"--config.extractor={whole_pretext}"]
    arguments += [f"--config.data.images={simulated / 'labelled' / 'train'}"]
    arguments += ["--config.batch_size=8", "--config.data.patches=2", "--config.data.threads=2"]
    arguments += ["--config.data.validation_fraction=0.34", "--config.steps=20"]
    arguments += ["--config.checkpoint_every=5", "--config.eval_every=10", "--config.log_every=1"]
    killed, whole = interrupted_and_whole(arguments, tmp_path)
    assert metrics(killed) == metrics(whole)
    assert_identical(arrays(killed / "detector"), arrays(whole / "detector"))


def test_a_killed_one_class_run_continues_exactly(pretext_runs, records, tmp_path):
    _, _, whole_pretext = pretext_runs
    arguments = ["--config=configs/one_class.py", f"--config.extractor={whole_pretext}"]
    arguments += [f"--config.data.photos={records}", "--config.num_components=1,2"]
    arguments += ["--config.pca=3", "--config.batch_size=1", "--config.checkpoint_every=1"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start([*arguments, f"--workdir={killed}"])
    kill_as_soon_as(lambda run: any((run / "features").glob(PART)), process, killed)
    assert not (killed / "detector").exists()
    first = {path: path.stat().st_mtime_ns for path in (killed / "features").glob(PART)}
    finish(start([*arguments, f"--workdir={killed}"]))
    finish(start([*arguments, f"--workdir={whole}"]))
    assert all(path.stat().st_mtime_ns == written for path, written in first.items())
    assert metrics(killed) == metrics(whole)
    assert_identical(arrays(killed / "detector"), arrays(whole / "detector"))


def start_two(arguments):
    """Two processes of one run, with two devices each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", "--processes=2"]
    return [
        start(
            [*arguments, *together, f"--process={index}"],
            devices=2,
            # Only process 0 would find its programs in the cache, and then not wait long enough
            # (30 s, gloo's own limit) for the other to compile them.
            JAX_ENABLE_COMPILATION_CACHE="0",
        )
        for index in range(2)
    ]


def test_both_processes_hear_why_one_refuses(records, tmp_path):
    text = json.dumps({"stage": "pretext", "seed": 3})
    (tmp_path / "config.json").write_text(text)
    other = {"data.photos": {"classes": {"Make": ["Nikon"]}}}
    (tmp_path / "data.json").write_text(json.dumps(other))
    arguments = [PRETEXT[0], f"--config.data.photos={records}", f"--workdir={tmp_path}"]
    processes = start_two(arguments)
    # Without a word from process 0 the other would wait at a barrier for minutes.
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], outputs
    errors = [[x for x in output.splitlines() if x.startswith("error: ")] for output in outputs]
    assert errors[0] == errors[1] and len(errors[0]) == 1
    assert "holds another run" in errors[0][0] and "seed: 3 there, 0 now" in errors[0][0]
    assert "has other data: " in errors[0][0] and "class 0 of Make was Nikon" in errors[0][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "data.json"]
    assert (tmp_path / "config.json").read_text() == text


def test_a_run_goes_on_with_any_number_of_processes_and_devices(records, tmp_path, monkeypatch):
    """Two processes of two devices, then one device, then eight: as eight from the beginning."""
    # Plain SGD: Adam moves a parameter by the learning rate whatever the size of its gradient, so
    # rounding alone moves those without any (the biases of ranked heads).
    arguments = [*PRETEXT, "--config.optimizer.name=sgd", "--config.optimizer.learning_rate=1e-3"]
    arguments += ["--config.objectives.tags=ISO,Make", "--config.eval_every=2"]
    arguments += [f"--config.data.photos={records}"]
    one, parts = tmp_path / "one", tmp_path / "parts"

    def go_on(steps, run, devices):
        words = [*arguments, f"--config.steps={steps}", f"--workdir={run}"]
        with monkeypatch.context() as patch:
            patch.chdir(ROOT)
            patch.setattr(pretext, "data_mesh", lambda: data_mesh(jax.devices()[:devices]))
            assert main(["train", *words]) == 0

    for process in start_two([*arguments, "--config.steps=2", f"--workdir={parts}"]):
        finish(process)
    (parts / "skipped.1.jsonl").write_text(json.dumps({"path": "x.jpg", "reason": "empty_file"}))
    go_on(4, parts, 1)
    go_on(6, parts, 8)
    go_on(6, one, 8)
    for a, b in zip(metrics(one).splitlines(), metrics(parts).splitlines(), strict=True):
        a, b = json.loads(a), json.loads(b)
        assert a.keys() == b.keys()
        for name in a.keys() - {"split"}:
            # The norm of a gradient is the first to feel another order of summing.
            tolerance = {"loss": 1e-6, "gradient_norm": 1e-3}.get(name, 1e-5)
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance, err_msg=name)
    first, second = arrays(one / "extractor"), arrays(parts / "extractor")
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=2e-5, err_msg=name)
    # What both processes left out is now in one list.
    assert json.loads((parts / "skipped.jsonl").read_text())["path"] == "x.jpg"
    assert not (parts / "skipped.1.jsonl").exists()
