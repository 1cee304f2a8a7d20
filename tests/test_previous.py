"""What the previous release wrote still opens, continues, and gives the same numbers.

`tests/previous/make.py` made the artefacts and the expected numbers with that release.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from itertools import islice
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from data_pipelines.images import decode_image, find_images
from data_pipelines.pipeline import record_batches
from data_pipelines.records import open_records
from exif_jax.cli.__main__ import main
from exif_jax.detection.detectors import load_detector
from exif_jax.models.trained import load_extractor

ROOT = Path(__file__).resolve().parents[1]
PREVIOUS = Path(__file__).resolve().parent / "previous"
EXPECTED = json.loads((PREVIOUS / "expected.json").read_text())
DETECTORS = sorted(EXPECTED["scores"].keys() - {"one_class_killed"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The artefacts, not to be changed."""
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(PREVIOUS / "made.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def inside(made, monkeypatch):
    """As the working directory, since the paths of configurations are relative."""
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A copy to change, likewise."""
    shutil.copytree(made, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def command(name):
    """The old command line, with the configuration file of today."""
    return [word.replace("configs/", f"{ROOT}/configs/") for word in EXPECTED["commands"][name]]


def run(program, name, workdir, *overrides):
    """`python PROGRAM.py` with the old command, in this process."""
    assert main([program, *command(name), *overrides, f"--workdir={workdir}"]) == 0


def images():
    return [decode_image(path) for path in find_images([Path("labelled")])]


def rows(workdir):
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def assert_same_rows(workdir, name):
    """Steps, splits and numbers of metrics.jsonl; today's may have more numbers."""
    now, then = rows(workdir), EXPECTED["continued"][name]
    assert [(r["step"], r["split"]) for r in now] == [(r["step"], r["split"]) for r in then]
    for new, old in zip(now, then, strict=True):
        for key in old.keys() - {"split"}:
            # The norm of a gradient is the first to feel another order of summing.
            rtol = 1e-3 if key == "gradient_norm" else 2e-5
            np.testing.assert_allclose(new[key], old[key], rtol=rtol, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["records", "records_pixels"])
def test_records_give_the_same_targets_and_batches(inside, name):
    records = open_records(Path(name))
    batches = list(islice(record_batches(records, "train", 8, 0, 1), 2))
    for batch, expected in zip(batches, EXPECTED["batches"][name], strict=True):
        assert batch["path"].tolist() == expected["path"]
        assert batch["group"].tolist() == expected["group"]
        assert batch["image"][:, ::64, ::64].tolist() == expected["pixels"]
        np.testing.assert_array_equal(batch["targets"], np.array(expected["targets"], np.float32))
    names = [target["name"] for target in EXPECTED["targets"][name]]
    assert [target.name for target in records.targets] == names
    assert set(records.splits) == {"train", "validation"}


def test_records_of_the_first_schema_open(copy):
    """They have PNG windows only, and the same fields."""
    path = Path("records_pixels/prepare.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1}))
    test_records_give_the_same_targets_and_batches(copy, "records_pixels")


def test_tags_of_records_are_shown(inside, capsys):
    assert main(["tags", "records", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    stored = json.loads(Path("records/tag_report.json").read_text())
    for name in ("num_photos", "num_windows", "rejects"):
        assert report[name] == stored[name]
    assert report["tags"].keys() == stored["tags"].keys()
    assert main(["tags", "records"]) == 0
    assert "FNumber" in capsys.readouterr().out


def test_an_unfinished_prepare_goes_on(copy, capsys):
    def prepare(out):
        words = ["prepare", *EXPECTED["prepare"]["unfinished"], "--windows-per-photo=1"]
        return main([*words, "--workers=1", f"--out={out}"])

    def contents(out):
        records = open_records(Path(out))
        sources = [records.source(split) for split in ("train", "validation")]
        return records.targets, [[source[i] for i in range(len(source))] for source in sources]

    assert prepare("anew") == 0
    # Of where the photos were, the command keeps a digest, and its lists the paths.
    anew = json.loads(Path("anew/prepare.json").read_text())
    command = Path("unfinished/unfinished/command.json")
    digest = {"sources_sha256": anew["sources_sha256"]}
    command.write_text(json.dumps({**json.loads(command.read_text()), **digest}))
    for todo in Path("unfinished").rglob("*.todo"):
        todo.write_text(todo.read_text().replace("WORKDIR", str(copy.resolve())))
    read = {path: path.stat().st_mtime_ns for path in Path("unfinished").rglob("*.windows")}
    with mock.patch("data_pipelines.prepare.workspace.Workspace.leave"):
        assert prepare("unfinished") == 0
    assert len(read) == 3
    assert all(path.stat().st_mtime_ns == written for path, written in read.items())
    for out in ("unfinished", "anew"):
        targets, splits = contents(out)
        old_targets, old_splits = contents("records")
        assert targets[: len(old_targets)] == old_targets  # then tags added since
        for split, old in zip(splits, old_splits, strict=True):
            np.testing.assert_equal(split, old)


def test_the_extractor_gives_the_same_features(inside):
    corners = [
        np.stack([image[y : y + 64, x : x + 64] for y in (0, 32) for x in (0, 32)])
        for image in images()[:2]
    ]
    features, intermediates = load_extractor("pretext")(np.stack(corners))
    np.testing.assert_allclose(features, EXPECTED["features"], rtol=1e-6, atol=1e-6)
    means = {name: float(np.mean(value)) for name, value in intermediates.items()}
    for name, mean in EXPECTED["intermediate_means"].items():
        assert means[name] == pytest.approx(mean, rel=1e-5, abs=1e-6)
    assert {target.name for target in load_extractor("pretext").targets} >= {"FNumber", "Make"}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_gives_the_same_scores(inside, name):
    detector = load_detector(f"./{name}")  # the plain name is that of a shipped one
    assert detector.threshold == EXPECTED["thresholds"][name]
    expected = EXPECTED["scores"][name]
    np.testing.assert_allclose(detector.score(images()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["one_class", "binary"])
def test_detect_says_the_same(inside, name, capsys):
    assert main(["detect", "labelled", f"--detector=./{name}", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for line, score in zip(lines, EXPECTED["scores"][name], strict=True):
        assert line["score"] == pytest.approx(score, rel=1e-5, abs=1e-6)
        threshold = EXPECTED["thresholds"][name]
        assert line["verdict"] == ("generated" if score > threshold else "photo")
        assert ("p_value" in line) == (name == "one_class")


@pytest.mark.parametrize("name", ["pretext", "binary"])
def test_a_stopped_run_continues(copy, name):
    assert rows(name)[-1]["step"] == 4
    run("train", name, name)
    assert_same_rows(name, name)


def test_a_stopped_one_class_run_continues(copy):
    parts = {path: path.stat().st_mtime_ns for path in Path("one_class_killed").rglob("*.npz")}
    run("train", "one_class_killed", "one_class_killed")
    assert_same_rows("one_class_killed", "one_class_killed")
    assert len(parts) == 1
    assert all(path.stat().st_mtime_ns == written for path, written in parts.items())
    scores = load_detector("one_class_killed").score(images())
    np.testing.assert_allclose(scores, EXPECTED["scores"]["one_class_killed"], rtol=1e-5, atol=1e-6)


def test_a_gradient_run_of_as_many_steps_is_finished(copy):
    before = rows("pretext")
    run("train", "pretext", "pretext", "--config.steps=4")
    assert "finished" in Path("pretext/log.txt").read_text()
    assert rows("pretext") == before


def test_a_finished_run_says_so_and_exits_with_0(copy):
    result = subprocess.run(
        [sys.executable, ROOT / "train.py", *command("one_class"), "--workdir=one_class"],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "finished" in result.stderr + result.stdout


@pytest.mark.parametrize("workdir", ["evaluation", "evaluated_anew"])
def test_an_evaluation_has_the_same_results(copy, workdir):
    old = json.loads(Path("evaluation/results.json").read_text())
    run("eval", "evaluation", workdir)
    new = json.loads((Path(workdir) / "results.json").read_text())
    assert len(new) == len(old)
    for row, expected in zip(new, old, strict=True):
        for key, value in expected.items():
            near = pytest.approx(value, rel=1e-5, abs=1e-6) if isinstance(value, float) else value
            assert row[key] == near, key
