"""Hostile names of files and folders through the commands, on terminals of every encoding."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from PIL import Image

from exif_jax.cli import __main__ as cli
from exif_jax.cli import evaluate as cli_evaluate
from exif_jax.cli import train as cli_train
from exif_jax.config import BinaryConfig, EvaluationConfig, LabelledConfig, TestImagesConfig
from exif_jax.training.runs import log_to_terminal
from tests.data_pipelines.test_terminal import CELLS, HOSTILE
from tests.exif_jax.noise_detector import CALM, NOISY, picture, write_noise_detector

ROOT = Path(__file__).resolve().parents[3]
FORMULAS = [text for text in CELLS if isinstance(text, str) and text and "/" not in text]
NAMES = [name for name in (*HOSTILE, *FORMULAS) if "\x00" not in name]
NOT_UTF8 = "a\udcff.png"


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")


def save(path, deviation=NOISY):
    """A picture under any name that the disk takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = io.BytesIO()
    Image.fromarray(picture(deviation, 64, 64)).save(image, "PNG")
    try:
        path.write_bytes(image.getvalue())
    except OSError:
        pytest.skip("this disk does not take names that are no UTF-8")


@pytest.fixture(params=["ascii", "latin-1", "utf-8"])
def terminal(request, monkeypatch):
    """Runs a command in this process, on strict streams; gives status, output lines, errors."""
    encoding = request.param

    def run(*words):
        raw = io.BytesIO(), io.BytesIO()
        for name, stream in zip(("stdout", "stderr"), raw, strict=True):
            wrapped = io.TextIOWrapper(stream, encoding, errors="strict", write_through=True)
            monkeypatch.setattr(sys, name, wrapped)
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        out, err = (stream.getvalue().decode(encoding) for stream in raw)
        assert all(line.isprintable() for line in out.split("\n") + err.split("\n"))
        return status, out.splitlines(), err.splitlines()

    return run


def test_detect_shows_every_name_on_one_line_and_writes_what_spreadsheets_do_not_compute(
    detector, terminal, tmp_path
):
    for name in NAMES:
        save(tmp_path / "photos" / f"{name}.png")
    save(tmp_path / "photos" / NOT_UTF8)
    (tmp_path / "photos" / "bad\nphoto  0.0000  forged\x1b[2J.png").write_text("no image")
    outputs = ("--csv", tmp_path / "t.csv", "--html", tmp_path / "p.html", "--out", tmp_path / "o")
    words = ("detect", tmp_path / "photos", "--detector", detector, "--no-stability")
    status, out, err = terminal(*words, *outputs)
    assert status == 1 and err == [f"error: 1 of {len(NAMES) + 2} images could not be read"]
    verdicts = [line.split()[0] for line in out[2:-2] if not line.startswith(" ")]
    assert len(verdicts) == len(NAMES) + 2 and verdicts.count("error") == 1
    table = list(csv.reader(io.StringIO((tmp_path / "t.csv").read_text(encoding="utf-8"))))
    assert len(table) == len(NAMES) + 3
    assert not [x for row in table for x in row if x.startswith(("=", "+", "@", "\t", "\r"))]
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in page.split("\n"))
    rows = [json.loads(line) for line in (tmp_path / "o/results.jsonl").read_text().splitlines()]
    assert len({row["path"] for row in rows}) == len(NAMES) + 2
    # It is continued, although names are no valid text.
    _, out, err = terminal(*words, *outputs)
    assert f"{len(NAMES) + 2} of {len(NAMES) + 2} images were judged before" in err


def test_detect_prints_valid_json_of_every_name(detector, terminal, tmp_path):
    for name in (*NAMES[:3], NOT_UTF8):
        save(tmp_path / "photos" / f"{name}.png")
    words = ("detect", tmp_path / "photos", "--detector", detector, "--no-stability", "--json")
    status, out, _ = terminal(*words, "--heatmap", tmp_path / "heatmaps")
    paths = [json.loads(line)["path"] for line in out]
    assert status == 0 and len(paths) == 4
    assert all(path.encode("utf-8") for path in paths)  # no half of a character
    assert len({json.loads(line)["heatmap"] for line in out}) == 4


COMMANDS = {
    "a missing file": ("detect", "X.jpg", "--detector", "DETECTOR"),
    "a missing folder": ("detect", "X/*.jpg", "--detector", "DETECTOR"),
    "a missing list": ("detect", "X.txt", "--detector", "DETECTOR"),
    "a missing detector": ("detect", "x.jpg", "--detector", "X"),
    "an unknown flag": ("detect", "x.jpg", "--X"),
    "a number": ("detect", "x.jpg", "--prior", "X"),
    "an unknown command": ("X",),
    "no photos": ("prepare", "X", "--out", "out"),
    "a missing sidecar": ("prepare", "PHOTOS", "--out", "out", "--sidecar", "X"),
    "an option of Beam": ("prepare", "PHOTOS", "--out", "out", "--X"),
    "no records": ("tags", "X"),
    "no checkpoint": ("convert", "X.pth", "out"),
    "an output that is there": ("convert", "x.pth", "HERE"),
    "no configuration": ("train", "--config=X", "--workdir=out"),
    "no records to train": ("train", "--config=pretext", "--config.data.photos=X", "--workdir=out"),
    "no extractor": (
        *("train", "--config=binary", "--config.extractor=X"),
        *("--config.data.images=PHOTOS", "--workdir=out"),
    ),
    "help": ("train", "--config=pretext", "--config.data.photos=X", "--help"),
    "a wrong value": ("train", "--config=pretext", "--config.batch_size=X", "--workdir=out"),
    "a wrong field": ("train", "--config=pretext", "--config.X=1", "--workdir=out"),
    "words too many": ("train", "--config=pretext", "X"),
    "no detectors": (
        *("eval", "--config=evaluation", "--config.detectors=X"),
        *("--config.data.images=PHOTOS", "--workdir=out"),
    ),
    "no test sets": (
        *("eval", "--config=evaluation", "--config.detectors=DETECTOR"),
        *("--config.data.images=X", "--workdir=out"),
    ),
    "a grid": ("sweep", "--config=pretext", "--grid", "X", "--workdir=out"),
    "seeds": ("sweep", "--config=pretext", "--grid=steps=1", "--seeds=X", "--workdir=out"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_message_shows_what_was_given_printable(words, detector, terminal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exif_jax.cli.entry._watching", lambda given: nullcontext())
    save(tmp_path / "photos" / "a.png")
    hostile = "x\x1b[2J\u202e\udcff\nphoto  0.0000  forged"
    (tmp_path / f"{hostile}.here").mkdir()
    places = {"X": hostile, "DETECTOR": str(detector), "PHOTOS": str(tmp_path / "photos")}
    places["HERE"] = f"{hostile}.here"
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    status, out, err = terminal(*words)
    assert "forged" in "".join(out + err)
    assert not [line for line in out + err if line.startswith("photo ")]
    if "--help" in words:
        return
    assert status in (1, 2)
    assert err[-1].startswith("error: ") or ": error: " in err[-1]
    assert len(err) == 1 or err[0].startswith("usage: ")


def test_outputs_of_names_that_no_library_opens_are_refused(
    detector, terminal, records, pretext_weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exif_jax.cli.entry._watching", lambda given: nullcontext())
    out = "run\udcff"
    save(tmp_path / "photos" / "a.png")
    images = f"--config.data.images={tmp_path}"
    save(tmp_path / "0_real" / "a.png")
    save(tmp_path / "1_fake" / "a.png")
    evaluation = ("eval", "--config=evaluation", f"--config.detectors={detector}", images)
    pretext = ("--config=pretext", f"--config.data.photos={records}", "--config.batch_size=8")
    shutil.copytree(detector, tmp_path / "detector\udcff")
    for words in (
        ("prepare", "photos", "--out", out),
        (*evaluation, f"--workdir={out}"),
        ("train", *pretext, f"--workdir={out}"),
        ("sweep", *pretext, "--grid=steps=1", f"--workdir={out}"),
        ("detect", "photos", "--detector", "detector\udcff"),
    ):
        status, _, err = terminal(*words)
        assert status == 2 and len(err) == 1
        assert "\\udcff: the name of this place is no valid UTF-8; give it another" in err[0]
    assert not (tmp_path / out).exists()


@pytest.fixture
def labelled(tmp_path):
    """Three test sets of hostile names, with hostile files, and a folder that is left out."""
    folder = tmp_path / "labelled"
    for top in ("set\udcff", "a\nphoto\x1b[2J", "=1+1 $x_{$"):
        for index, kind in enumerate(("0_real", "1_fake")):
            for name in ("a\udcff\n.png", "\u202eb.png", "c.png"):
                save(folder / top / kind / name, (NOISY, CALM)[index])
            (folder / top / kind / "bad\udcfe\nphoto.png").write_text("no image")
    (folder / "empty\n\udcff").mkdir()
    return folder


def test_eval_of_hostile_test_sets(detector, labelled, tmp_path, capsys):
    log_to_terminal()
    config = EvaluationConfig(str(detector), data=TestImagesConfig(str(labelled)))
    cli_evaluate.evaluate(config, tmp_path / "run")
    said = capsys.readouterr()
    lines = [*said.out.split("\n"), *said.err.replace("\r", "\n").split("\n")]
    assert all(line.isprintable() for line in lines)
    assert "a\\nphoto\\x1b[2J" in said.out and "set\\udcff" in said.out
    assert "empty\\n\\udcff: left out" in said.err
    for name in ("scores.csv", "results.csv"):
        text = (tmp_path / "run" / name).read_text(encoding="utf-8")
        assert all(line.isprintable() for line in text.split("\n"))
        assert "'=1+1 $x_{$" in text and ",=1" not in text
    skipped = [json.loads(x) for x in (tmp_path / "run/skipped.jsonl").read_text().splitlines()]
    assert len(skipped) == 6 and all("\\udcfe\n" in row["path"] for row in skipped)
    log = (tmp_path / "run/log.txt").read_text(encoding="utf-8").splitlines()
    assert all(line.isprintable() for line in log)
    assert all(" WARNING " in line or " INFO " in line for line in log)


def test_training_on_hostile_names(labelled, tiny_extractor, tmp_path):
    data = LabelledConfig(str(labelled), patches=2, threads=1, validation_fraction=0.5)
    config = BinaryConfig(str(tiny_extractor), steps=1, batch_size=8, data=data)
    cli_train.train(config, tmp_path / "run")
    rows = [json.loads(x) for x in (tmp_path / "run/skipped.jsonl").read_text().splitlines()]
    assert rows and all(row["path"].encode("utf-8") for row in rows)
    log = (tmp_path / "run/log.txt").read_text(encoding="utf-8").splitlines()
    assert all(line.isprintable() for line in log) and any("not_an_image" in line for line in log)


def test_a_real_terminal_of_ascii(detector, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    save(images / NOT_UTF8)
    save(images / "日本\x1b[2J.png")
    words = ("detect", str(images), "--detector", str(detector), "--no-stability")
    for variables in (
        {"PYTHONIOENCODING": "ascii:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        done = subprocess.run(
            [sys.executable, "-m", "exif_jax.cli", *words, "--csv", str(tmp_path / "t.csv")],
            env=os.environ
            | {
                "PYTHONPATH": str(ROOT),
                "XLA_FLAGS": "",
                "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
            }
            | variables,
            capture_output=True,
        )
        assert done.returncode == 0 and done.stderr == b"", done.stderr
        assert all(32 <= byte < 127 or byte == 10 for byte in done.stdout)
        assert b"\\x1b[2J.png" in done.stdout and b"a\\udcff.png" in done.stdout
        if "LC_ALL" not in variables:  # in which the names themselves are ASCII
            assert b"\\u65e5\\u672c" in done.stdout
            assert "日本\\x1b[2J" in (tmp_path / "t.csv").read_text(encoding="utf-8")
