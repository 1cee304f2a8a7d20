"""Runs at gs:// and s3://, on the loopback: killed, continued, and used from there."""

import json
import time

import numpy as np
import pytest
from safetensors.numpy import load

from data_pipelines import object_storage
from data_pipelines.object_storage import stored_files
from exif_jax.cli.__main__ import main
from tests.forked_runs import TrainNursery
from tests.storage_emulators import put

STEPS = 6
# An encoder that compiles fast: what is tested is where things are.
TRAIN = ["--config=configs/residual_pretext.py", "--config.model.features=4"]
TRAIN += ["--config.model.components=0", "--config.model.hidden=(4,)", "--config.data.versions=0"]
TRAIN += ["--config.optimizer.schedule=constant", "--config.objectives.tags=FNumber,Make"]
TRAIN += ["--config.batch_size=8", "--config.log_every=1", "--config.data.threads=2"]
TRAIN += ["--config.checkpoint_every=2", "--config.eval_every=4"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Where the local copies of records are by default."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "exif_jax" / "records"


@pytest.fixture(scope="module")
def uri(google_storage, records):
    put(records, "gs://bucket/records")
    return "gs://bucket/runs"


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """An uninterrupted local run of one process."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert train(run, records) == 0
    return run


def train(workdir, records, steps=STEPS):
    words = [f"--config.data.photos={records}", f"--config.steps={steps}", f"--workdir={workdir}"]
    return main(["train", *TRAIN, *words])


def rows(data):
    return [json.loads(line) for line in data.decode().splitlines()]


def assert_same(uri, whole, tolerance):
    """Metrics neither lost nor doubled, and what was exported."""
    there, here = (
        rows(object_storage.read_object(f"{uri}/metrics.jsonl")),
        rows((whole / "metrics.jsonl").read_bytes()),
    )
    assert [(row["step"], row["split"]) for row in there] == [
        (row["step"], row["split"]) for row in here
    ]
    np.testing.assert_allclose(*([row["loss"] for row in x] for x in (there, here)), tolerance)
    exported = object_storage.read_object(f"{uri}/extractor/model.safetensors")
    arrays, ours = load(exported), load((whole / "extractor" / "model.safetensors").read_bytes())
    assert arrays.keys() == ours.keys()
    for name in arrays:
        np.testing.assert_allclose(arrays[name], ours[name], tolerance, tolerance)


def saved_steps(uri):
    names = [name.split("/") for name in stored_files(f"{uri}/checkpoints")]
    return sorted(int(name[0]) for name in names if name[1:] == ["commit_success.txt"])


def test_two_processes_train_to_gs_one_is_killed_both_go_on(uri, whole, cache, tmp_path):
    run, words = f"{uri}/two", [*TRAIN, "--config.data.photos=gs://bucket/records"]
    words += [f"--config.steps={STEPS}", f"--workdir={uri}/two"]
    nursery = TrainNursery()
    try:
        both = nursery.train_two(words, tmp_path / "first")
        while not saved_steps(run):
            assert all(one.is_running() for one in both), both[0].lines()
            time.sleep(0.3)  # asking all the time would keep the emulator from its work
        both[1].kill()
        status = both[0].wait()
        assert status == 75, both[0].lines()
        assert max(saved_steps(run)) < STEPS
        both = nursery.train_two(words, tmp_path / "second")
        assert [one.wait() for one in both] == [0, 0], [one.lines() for one in both]
        assert any("continuing after step" in line for line in both[0].lines())
    finally:
        nursery.close()
    assert_same(run, whole, 1e-3)
    found = {name.partition("/")[0] for name in stored_files(run)}
    assert found >= {
        "config.json",
        "data.json",
        "log.txt",
        "curves.png",
        "tensorboard",
        "extractor",
    }
    # The processes shared one copy of the records, with the descriptions of their images.
    copies = list(cache.iterdir())
    assert len(copies) == 1 and (copies[0] / "descriptions").is_dir()


def test_a_run_at_s3_goes_on_exactly(amazon_storage, records, whole):
    put(records, "s3://bucket/records")
    assert train("s3://bucket/run", "s3://bucket/records", steps=4) == 0
    assert saved_steps("s3://bucket/run") == [2, 4]
    # As a process killed while it copied the next checkpoint leaves it.
    object_storage.write_object("s3://bucket/run/checkpoints/5/state/d/half", b"half")
    assert train("s3://bucket/run", "s3://bucket/records") == 0
    assert saved_steps("s3://bucket/run") == [4, 6]
    assert not any(name.startswith("5/") for name in stored_files("s3://bucket/run/checkpoints"))
    assert_same("s3://bucket/run", whole, 0)


def test_a_local_run_and_its_data_move_to_gs(uri, whole, capsys):
    put(whole, f"{uri}/moved")
    assert train(f"{uri}/moved", "gs://bucket/records") == 0
    assert f"this run is finished: {STEPS} steps are done" in capsys.readouterr().err
    words = [*TRAIN, "--config.data.photos=gs://bucket/records", "--config.seed=1"]
    assert main(["train", *words, f"--workdir={uri}/moved"]) == 2
    assert f"error: {uri}/moved holds another run (seed: 0 there, 1 now" in capsys.readouterr().err


def test_detectors_are_fitted_evaluated_and_used_at_gs(uri, tiny_extractor, simulated, capsys):
    put(tiny_extractor, f"{uri}/tiny/extractor")
    put(simulated / "labelled", "gs://bucket/labelled_of_runs")
    words = [f"--config.extractor={uri}/tiny", "--config.data.photos=gs://bucket/records"]
    words += ["--config.num_components=1", "--config.pca=3", "--config.batch_size=4"]
    words += ["--config.false_positive_rate=0.2", "--config.steps=3"]
    assert main(["train", "--config=one_class", *words, f"--workdir={uri}/one_class"]) == 0
    found = stored_files(f"{uri}/one_class")
    assert {"detector/detector.json", "detector/model.safetensors", "metrics.jsonl"} <= found.keys()
    assert any(name.startswith("features/") for name in found)
    assert not any(name.startswith("em/") for name in found)
    assert main(["train", "--config=one_class", *words, f"--workdir={uri}/one_class"]) == 0
    told = capsys.readouterr().err
    assert f"this run is finished: {uri}/one_class/detector is written" in told, told

    words = [f"--config.detectors={uri}/one_class/detector", f"--workdir={uri}/evaluation"]
    words += ["--config.data.images=gs://bucket/labelled_of_runs"]
    assert main(["eval", "--config=evaluation", *words]) == 0
    assert main(["eval", "--config=evaluation", *words]) == 0
    told = capsys.readouterr().out
    assert "this evaluation is finished: results.json, results.csv, scores.csv and " in told
    assert f"plots/ are in {uri}/evaluation" in told
    (row, *_) = json.loads(object_storage.read_object(f"{uri}/evaluation/results.json"))
    assert row["detector"] == "one_class" and row["n_real"] > 0

    image = next(iter(sorted((simulated / "photos").rglob("*.jpg"))))
    assert main(["detect", str(image), f"--detector={uri}/one_class", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(image)


@pytest.mark.parametrize(
    ("place", "status", "told"),
    [
        ("gs://nobucket/run", None, "there is no bucket gs://nobucket"),
        ("gs://bucket/run", 403, "gs://bucket cannot be reached: this account may not"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_one_line(google_storage, place, status, told, capsys):
    google_storage.fail(status)
    try:
        assert train(place, "nowhere") == 2
    finally:
        google_storage.fail(None)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {place}: {told}")
