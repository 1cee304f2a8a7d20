"""Every command that writes, on a full disk: one line that names the file and the remedy."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.simulated import __main__ as simulated
from exif_jax.cli import __main__ as cli
from tests.exif_jax.noise_detector import NOISY, picture, write_noise_detector
from tests.full_disks import grow, small_disk

ROOT = Path(__file__).resolve().parents[3]
REMEDY = ": No space left on device; free some space and run the same command again"


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(40):
        for kind in ("0_real", "1_fake"):
            (folder / "a set" / kind).mkdir(parents=True, exist_ok=True)
            name = f"{'long' * 20}{index}.png"
            Image.fromarray(picture(NOISY, 64, 64, index)).save(folder / "a set" / kind / name)
    return folder


@pytest.fixture
def full(tmp_path):
    """A disk with 8 KB left."""
    with small_disk(tmp_path / "disk", 12) as disk:
        (disk / "other").write_bytes(bytes(4096))
        yield disk


def refused(capsys, *words, main=cli.main):
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    (error,) = [line for line in lines if "error" in line]
    assert error.startswith("error: ") and error.endswith(REMEDY)
    assert not [line for line in lines if "Traceback" in line]
    return error.removeprefix("error: ").removesuffix(REMEDY)


@pytest.mark.parametrize(
    ("flag", "target", "named"),
    [
        ("--out", "out", "out/results.jsonl"),
        ("--csv", "table.csv", "table.csv"),
        ("--html", "page.html", "page.html"),
        ("--heatmap", "maps", "maps/long"),
    ],
)
def test_detect(full, detector, images, capsys, flag, target, named):
    words = ("detect", images, "--detector", detector, "--no-stability", flag, full / target)
    assert refused(capsys, *words).startswith(str(full / named))
    assert not [path for path in full.rglob("*") if path.name.endswith(".tmp")]
    if flag == "--out":
        grow(full)
        assert cli.main([str(word) for word in words]) == 0
        assert "images were judged before" in capsys.readouterr().err
        assert len((full / "out/results.jsonl").read_text().splitlines()) == 80


def test_eval(full, detector, images, capsys, monkeypatch):
    monkeypatch.setattr("exif_jax.cli.entry._watching", lambda given: nullcontext())
    words = ("eval", "--config=evaluation", f"--config.detectors={detector}")
    words += (f"--config.data.images={images}", f"--workdir={full / 'run'}")
    assert refused(capsys, *words).startswith(str(full / "run"))
    grow(full)
    assert cli.main([str(word) for word in words]) == 0


def test_convert(full, binary_weights, tmp_path, capsys):
    np.savez(tmp_path / "weights.npz", **binary_weights)
    words = ("convert", tmp_path / "weights.npz", full / "detector")
    assert refused(capsys, *words) == str(full / "detector")
    assert [path.name for path in full.iterdir()] == ["other"]


def test_tags(full, records, capsys):
    words = ("tags", records, "--html", full / "page.html")
    assert refused(capsys, *words) == str(full / "page.html")


@pytest.mark.parametrize("workers", [0, 1])
def test_simulation(full, capsys, workers):
    words = ("--out", full / "data", "--photos", "8", "--labelled", "0", "--test", "0")
    words = (*words, "--workers", workers)
    assert refused(capsys, *words, main=simulated.main) == str(full / "data")
    assert [path.name for path in full.iterdir()] == ["other"]


def test_descriptions_name_their_field(full, records, tmp_path):
    words = ["train", "--config=residual_pretext", f"--config.data.photos={records}"]
    words += [f"--config.data.descriptions={full}", f"--workdir={tmp_path / 'run'}"]
    words += ["--config.steps=1", "--config.batch_size=8", "--config.data.versions=0"]
    done = subprocess.run(
        [sys.executable, "-m", "exif_jax.cli", *words],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": "",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {full}") and "No space left on device" in last
    assert last.endswith("give another folder as --config.data.descriptions")
    assert "Traceback" not in done.stderr
