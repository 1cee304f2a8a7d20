"""`exif-jax eval` under kill -9, and started again."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import UserError
from exif_jax.cli.evaluate import evaluate
from exif_jax.config import EvaluationConfig, TestImagesConfig
from exif_jax.detection.detectors import Detector, save_detector
from exif_jax.evaluation import evaluate as evaluation
from exif_jax.models.trained import load_extractor

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ("results.json", "results.csv", "scores.csv", "skipped.jsonl")

# Says so when it is about to score its fifth batch, and waits.
STOPS = """
import sys
from exif_jax.cli.__main__ import main
from exif_jax.detection.detectors import Detector

calls, score = [], Detector.score

def stops(self, images):
    calls.append(0)
    if len(calls) == 5:
        print("waiting", flush=True)
        sys.stdin.read()
    return score(self, images)

Detector.score = stops
main(["eval", *sys.argv[1:]])
"""


@pytest.fixture
def images(simulated, tmp_path):
    """12 images, one of which cannot be read."""
    shutil.copytree(simulated / "labelled" / "train", tmp_path / "images")
    sorted((tmp_path / "images").rglob("0_real/*"))[1].write_bytes(b"")
    return tmp_path / "images"


@pytest.fixture
def detector(tiny_extractor, tmp_path):
    return write_detector(tmp_path / "first" / "detector", tiny_extractor, seed=0)


def write_detector(directory, tiny_extractor, seed):
    kernel = np.random.default_rng(seed).normal(size=(10, 2)).astype(np.float32)
    head = {"fc": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}
    save_detector(directory, "binary", 0.5, load_extractor(tiny_extractor), {"head": head}, {})
    return directory


@pytest.fixture
def scored(monkeypatch):
    """Number of images of every call of a detector."""
    calls, score = [], Detector.score

    def counted(self, images):
        calls.append(len(images))
        return score(self, images)

    monkeypatch.setattr(Detector, "score", counted)
    return calls


def config(detector, images):
    return EvaluationConfig(str(detector), "none,jpeg:80", 2, TestImagesConfig(str(images)))


def results(workdir):
    return {name: (workdir / name).read_bytes() for name in RESULTS}


def test_a_killed_evaluation_continues_exactly(detector, images, tmp_path, scored):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    words = ["--config=evaluation", f"--config.detectors={detector}"]
    words += ["--config.perturbations=none,jpeg:80", "--config.batch_size=2"]
    words += [f"--config.data.images={images}", f"--workdir={killed}"]
    with subprocess.Popen(
        [sys.executable, "-c", STOPS, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGKILL)
    assert not (killed / "results.json").exists()
    # Two batches are finished: the second one has no more than one image to score.
    assert len((killed / "scored.jsonl").read_text().splitlines()) == 1 + 2
    with (killed / "scored.jsonl").open("a") as file:
        file.write('{"test_set": "torn')
    counted = shutil.copytree(killed, tmp_path / "counted")
    # Processes of one kind, as programs compiled elsewhere may differ in the last bit.
    for workdir in (killed, whole):
        subprocess.run(
            [sys.executable, "-m", "exif_jax.cli", "eval", *words[:-1], f"--workdir={workdir}"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
        )
    assert results(killed) == results(whole)
    assert len(list((killed / "plots").glob("*.png"))) == 4
    evaluate(config(detector, images), counted)
    assert sum(scored) == 2 * (11 - 3)


def test_a_finished_evaluation_says_so_and_reads_no_image(
    detector, images, tmp_path, capsys, monkeypatch
):
    evaluate(config(detector, images), tmp_path / "run")
    before = results(tmp_path / "run")
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "decode_image", None)
        evaluate(config(detector, images), tmp_path / "run")
    out = capsys.readouterr().out
    assert "this evaluation is finished" in out and str(tmp_path / "run") in out
    assert results(tmp_path / "run") == before
    (tmp_path / "run" / "results.json").unlink()
    evaluate(config(detector, images), tmp_path / "run")
    assert results(tmp_path / "run") == before
    other = config(detector, images)
    other.perturbations = "none"
    with pytest.raises(UserError, match=r"holds another run .*perturbations"):
        evaluate(other, tmp_path / "run")


def test_changed_detectors_and_images_are_evaluated_anew(
    detector, images, tiny_extractor, tmp_path, scored
):
    evaluate(config(detector, images), tmp_path / "run")
    before = results(tmp_path / "run")
    write_detector(detector, tiny_extractor, seed=1)
    evaluate(config(detector, images), tmp_path / "run")
    assert results(tmp_path / "run")["scores.csv"] != before["scores.csv"]
    images = images.rename(tmp_path / "moved")  # nothing is scored again for that
    for path in images.rglob("0_real/*"):
        path.touch()
    evaluate(config(detector, images), tmp_path / "run")
    sorted(images.rglob("0_real/*"))[2].write_bytes(b"")
    evaluate(config(detector, images), tmp_path / "run")
    assert len((tmp_path / "run" / "skipped.jsonl").read_text().splitlines()) == 2
    assert "1 is of another size" in (tmp_path / "run" / "log.txt").read_text()
    assert sum(scored) == 2 * (11 + 11 + 10)


def test_the_layout_of_the_configuration_is_taken(detector, images, tmp_path):
    wrong = config(detector, images)
    wrong.data.layout = "wildrf"
    with pytest.raises(UserError, match="in the layout wildrf"):
        evaluate(wrong, tmp_path / "run")
