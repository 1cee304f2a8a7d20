import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.errors import UserError
from data_pipelines.simulated import make_dataset
from data_pipelines.simulated.__main__ import main
from data_pipelines.simulated.generators import FAMILIES

SMALL = {"photos": 3, "labelled": 2, "test": 0, "seed": 1}


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "data"
    assert make_dataset(out, photos=10, labelled=15, test=5)
    return out


def pairs(dataset):
    for real in sorted(dataset.glob("labelled/**/0_real/*.jpg")):
        yield real, real.parent.parent / "1_fake" / real.name


def test_layout(dataset):
    assert len(list((dataset / "photos").glob("*.jpg"))) == 10
    expected = {f"{f.name}_unseen" if f.held_out else f.name for f in FAMILIES}
    assert {p.name for p in (dataset / "labelled" / "test").iterdir()} == expected
    assert [p.name for p in (dataset / "labelled" / "train").iterdir()] == ["simulated"]
    assert len(list(pairs(dataset))) == 15 + 5 * len(FAMILIES)
    assert "SIMULATED" in (dataset / "SIMULATED.txt").read_text()
    rows = [json.loads(line) for line in (dataset / "images.jsonl").read_text().splitlines()]
    assert {row["path"] for row in rows} == {
        p.relative_to(dataset).as_posix() for p in dataset.rglob("*.jpg")
    }


def test_pairs_share_size_and_jpeg_settings_and_have_no_exif(dataset):
    for real, fake in pairs(dataset):
        with Image.open(real) as photo, Image.open(fake) as generated:
            assert photo.size == generated.size and min(photo.size) >= 256
            assert photo.format == generated.format == "JPEG"
            assert photo.quantization == generated.quantization
            assert not photo.getexif() and not generated.getexif()
    for path in (dataset / "photos").iterdir():
        with Image.open(path) as photo:
            assert "simulated" in photo.getexif()[0x0131]


def cues(path):
    with Image.open(path) as image:
        pixels = np.asarray(image, np.float64)
        means = pixels.mean((0, 1))
        height, width = pixels.shape[:2]
        return [path.stat().st_size, height * width, means.mean(), *(means - means.mean())]


def residual_statistics(path):
    """Rough structure of fine detail: correlations between neighbours and between colours."""
    pixels = np.asarray(Image.open(path), np.float64)
    residual = pixels - ndimage.uniform_filter(pixels, (3, 3, 1))
    green = residual[..., 1]
    statistics = [
        np.corrcoef(green[: -dy or None, : -dx or None].ravel(), green[dy:, dx:].ravel())[0, 1]
        for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
    ]
    statistics += [np.corrcoef(green.ravel(), residual[..., c].ravel())[0, 1] for c in (0, 2)]
    phases = np.array([green[i::2, j::2].var() for i in range(2) for j in range(2)])
    return [*statistics, phases.max() / (phases.min() + 1e-6)]


def auroc_either_way(labels, scores):
    auroc = roc_auc_score(labels, scores)
    return max(auroc, 1 - auroc)


def cross_validated_auroc(features, labels, groups):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=10, max_iter=1000))
    scores = cross_val_predict(
        model, features, labels, groups=groups, cv=GroupKFold(5), method="decision_function"
    )
    return roc_auc_score(labels, scores)


def test_trivial_cues_do_not_separate_the_classes_but_residuals_do(dataset):
    paths = [path for pair in pairs(dataset) for path in pair]
    labels = np.tile([0, 1], len(paths) // 2)
    groups = np.arange(len(paths)) // 2
    trivial = np.array([cues(path) for path in paths], np.float64)
    for column in trivial.T:
        assert auroc_either_way(labels, column) < 0.65
    assert cross_validated_auroc(trivial, labels, groups) < 0.65
    residuals = np.array([residual_statistics(path) for path in paths])
    assert cross_validated_auroc(residuals, labels, groups) > 0.8


def test_result_does_not_depend_on_the_number_of_workers(tmp_path):
    assert make_dataset(tmp_path / "one", **SMALL, workers=0)
    assert make_dataset(tmp_path / "two", **SMALL, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_command_line_makes_once_and_refuses_other_arguments(tmp_path, capsys):
    out = tmp_path / "data"
    arguments = ["--out", str(out), "--photos", "1", "--labelled", "0", "--test", "0"]
    assert main([*arguments, "--workers", "0"]) == 0
    before = contents(out)
    assert main(arguments) == 0
    assert "already there" in capsys.readouterr().out
    assert main([*arguments, "--seed", "7"]) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not a simulated data set"):
        make_dataset(tmp_path, **SMALL)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("bad", [{"photos": -1}, {"photos": 0, "labelled": 0}, {"workers": -2}])
def test_bad_counts_are_one_clear_error(tmp_path, bad):
    with pytest.raises(UserError):
        make_dataset(tmp_path / "data", **{**SMALL, **bad})


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(root, order):
        raise RuntimeError("out of film")

    monkeypatch.setattr("data_pipelines.simulated.dataset.fulfil", fail)
    with pytest.raises(RuntimeError, match="out of film"):
        make_dataset(tmp_path / "data", **SMALL)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_of_a_terminal_is_one_line_of_all_processes(tmp_path):
    """A terminal sends the signal to the workers, too."""
    words = ["--out", str(tmp_path / "data"), "--photos", "400", "--workers", "2"]
    run = subprocess.Popen(
        [sys.executable, "-m", "data_pipelines.simulated", *words],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.glob(".data.*/photos/*.jpg")):
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    lines = [line for line in re.split(r"[\r\n]+", errors) if line and "it/s" not in line]
    assert (run.returncode, lines) == (130, ["interrupted"])
    assert list(tmp_path.iterdir()) == []
