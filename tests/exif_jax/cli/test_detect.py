"""`exif-jax detect` from end to end: sources, outputs, continuing, and what is refused."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from exif_jax.cli import __main__ as cli
from exif_jax.cli import detect
from exif_jax.detection import judging, shipped
from tests.exif_jax.noise_detector import CALM, NOISY, VERDICTS, picture, write_noise_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")


@pytest.fixture
def images(tmp_path, monkeypatch):
    """photos/{calm,noisy}.png, an archive and a list; the working directory is their folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    Image.fromarray(picture(CALM)).save("photos/calm.png")
    Image.fromarray(picture(NOISY)).save("photos/deep/noisy.png")
    file = io.BytesIO()
    Image.fromarray(picture(NOISY, seed=3)).save(file, "PNG")
    with zipfile.ZipFile("old.zip", "w") as archive:
        archive.writestr("2021/zipped.png", file.getvalue())
    (tmp_path / "list.txt").write_text("photos/calm.png\n")
    return tmp_path


def run(capsys, *arguments):
    """(exit status, standard output, standard error)."""
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def rows(out):
    return [json.loads(line) for line in out.splitlines()]


def test_every_kind_of_source_is_judged_and_named_as_it_was_written(capsys, images, detector):
    command = ["detect", "--detector", detector, "--json", "--no-stability"]
    status, out, _ = run(capsys, *command, "photos/", "old.zip", "absent.jpg")
    assert status == 1
    found = {row["path"]: row["verdict"] for row in rows(out)}
    assert found == {
        "photos/calm.png": "generated",
        "photos/deep/noisy.png": "photo",
        "old.zip/2021/zipped.png": "photo",
        "absent.jpg": None,
    }
    assert "No such file" in rows(out)[-1]["error"]
    for source in ("photos/*.png", "list.txt", images / "photos" / "calm.png"):
        (row,) = rows(run(capsys, *command, source)[1])
        assert row["path"] == str(images / "photos" / "calm.png")
        assert row.keys() == {
            *("path", "verdict", "score", "threshold", "reasons", "evidence", "probability")
        }
    assert run(capsys, *command, ".")[1].count("photos/") == 2
    status, _, err = run(capsys, *command, "*.bmp")
    assert status == 2 and "no file matches this pattern" in err


def test_the_table_tells_verdicts_reasons_and_rates(capsys, images, detector):
    Image.fromarray(picture(NOISY, 100, 100)).save("photos/small\x1b[31m.png")
    status, out, _ = run(capsys, "detect", "photos", "--detector", detector)
    heading, how, calm, noisy, small, reason, count, note = out.splitlines()
    assert status == 0
    assert heading.split() == ["verdict", "score", "probability", "metadata", "file"]
    assert "photo if score < 0.3000" in how and "else unsure; photos called generated 1 %" in how
    assert calm.split()[0] == "generated" and noisy.split()[0] == "photo"
    assert small.split()[0] == "unsure" and "small\\x1b[31m.png" in small
    assert "too small: 100 x 100" in reason
    assert count == "3 images: 1 photo, 1 generated, 1 unsure" and note.startswith("metadata: ")


def test_the_table_tells_thresholds_of_large_pictures(capsys, images, tmp_path):
    nearer = {"cells": 9, "photo_below": 0.4, "generated_above": 0.6}
    verdicts = VERDICTS | {"by_cells": [{"cells": 4, "photo_below": 0.35}, nearer]}
    write_noise_detector(tmp_path / "nearer", verdicts=verdicts)
    _, out, _ = run(capsys, "detect", "photos", "--detector", tmp_path / "nearer")
    assert "generated if score > 0.7000 (0.4000, 0.6000 from 9 cells of 256x256 on), else" in out


def test_all_outputs_at_once(capsys, images, detector):
    outputs = ["--csv", "new/t.csv", "--html", "new/p.html", "--heatmap", "maps", "--out", "out"]
    status, out, _ = run(capsys, "detect", "photos", "--detector", detector, "--json", *outputs)
    assert status == 0
    kept = rows((images / "out" / "results.jsonl").read_text())
    assert kept == rows(out) and len(kept) == 2
    for row in kept:
        with Image.open(row["heatmap"]) as image:
            assert image.format == "PNG"
        assert row["regions"]["scores"] == [[pytest.approx(row["score"], rel=1e-3, abs=1e-6)]]
    with (images / "new" / "t.csv").open(newline="") as file:
        assert [line["path"] for line in csv.DictReader(file)] == [row["path"] for row in kept]
    page = (images / "new" / "p.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4 and "photos/calm.png" in page


def test_what_was_judged_is_not_judged_again(capsys, images, detector, monkeypatch):
    command = ["detect", "photos", "--detector", detector, "--out", "out", "--csv", "t.csv"]
    (images / "photos" / "bad.jpg").write_bytes(b"bad")
    assert run(capsys, *command)[0] == 1
    Image.fromarray(picture(NOISY, seed=9)).save("photos/new.png")
    read = []
    original = judging.read_picture
    monkeypatch.setattr(judging, "read_picture", lambda x: read.append(x.name) or original(x))
    status, out, err = run(capsys, *command)
    assert read == ["photos/new.png"] and "3 of 4 images were judged before" in err
    assert status == 1 and "4 images: 2 photo, 1 generated, 0 unsure" in out
    assert "1 of 4 images could not be read" in err
    assert len((images / "t.csv").read_text().splitlines()) == 5
    status, _, err = run(capsys, *command, "--no-stability")
    assert status == 2 and "another command (other: stability)" in err


def test_an_interruption_keeps_what_was_judged(capsys, images, detector, monkeypatch):
    group = judging._groups
    monkeypatch.setattr(judging, "_IMAGES", 1)

    def interrupted(items):
        yield next(group(items))
        raise KeyboardInterrupt

    monkeypatch.setattr(judging, "_groups", interrupted)
    command = ["detect", "photos", "--detector", detector]
    status, _, err = run(capsys, *command, "--out", "out")
    assert status == 130
    assert "1 images were judged and are kept in out; the same command continues" in err
    status, _, err = run(capsys, *command, "--csv", "t.csv")
    assert status == 130 and "t.csv holds the 1 images" in err
    assert len((images / "t.csv").read_text().splitlines()) == 2
    assert "with --out DIR" in run(capsys, *command)[2]
    monkeypatch.setattr(judging, "_groups", group)
    assert run(capsys, *command, "--out", "out")[0] == 0
    assert len((images / "out" / "results.jsonl").read_text().splitlines()) == 2


def test_ctrl_c_in_a_process_of_its_own(capsys, images, detector):
    """A real signal, at any moment after the first result; the same command continues."""
    for i in range(60):
        Image.fromarray(picture(NOISY, seed=i)).save(f"photos/{i}.png")
    words = ["detect", "photos", "--detector", str(detector), "--json", "--out", "out"]
    code = f"import sys; from exif_jax.cli.__main__ import main; sys.exit(main({words!r}))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    kept = images / "out" / "results.jsonl"
    until = time.monotonic() + 120
    while not kept.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    found = rows(kept.read_text())
    assert len(found) - 1 <= len(rows(out)) <= len(found)  # kept first, then printed
    if process.returncode != 0:  # else it was quicker than the signal
        assert process.returncode == 130 and "Traceback" not in err
        assert f"{len(found)} images were judged and are kept in out" in err
    assert found and all(row["verdict"] for row in found)
    status, _, err = run(capsys, *words)
    assert status == 0 and f"{len(found)} of 62 images were judged before" in err
    paths = [row["path"] for row in rows(kept.read_text())]
    assert len(paths) == len(set(paths)) == 62


@pytest.mark.parametrize("flag", ["--out", "--heatmap", "--csv", "--html"])
def test_an_output_that_cannot_be_written_is_told_first(capsys, images, detector, flag):
    (images / "file").write_text("")
    target = "file/x/y"
    status, out, err = run(capsys, "detect", "photos", "--detector", detector, flag, target)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {flag}: file/x/y cannot be written (Not a directory)")


def test_a_prior_needs_a_calibration(capsys, images, detector, tmp_path):
    command = ["detect", "photos/calm.png", "--json", "--no-stability", "--detector"]
    (likely,) = rows(run(capsys, *command, detector, "--prior", "0.9")[1])
    (rare,) = rows(run(capsys, *command, detector, "--prior", "0.001")[1])
    assert rare["probability"] < likely["probability"] and rare["score"] == likely["score"]
    old = write_noise_detector(tmp_path / "old", verdicts={"photo_below": 0, "generated_above": 1})
    status, _, err = run(capsys, *command, old, "--prior", "0.9")
    assert status == 2 and "leave --prior out" in err
    with pytest.raises(SystemExit):
        run(capsys, *command, detector, "--prior", "2")


def test_unknown_detectors_and_none_shipped(capsys, images, monkeypatch, detector):
    monkeypatch.setattr(shipped, "FOLDER", images / "shipped")
    status, _, err = run(capsys, "detect", "photos")
    assert status == 2 and "no detector is shipped with this version" in err
    (images / "shipped").mkdir()
    (images / "shipped" / "binary").symlink_to(detector)
    assert run(capsys, "detect", "photos")[0] == 0
    status, _, err = run(capsys, "detect", "photos", "--detector", "moon")
    assert status == 2 and "shipped are binary" in err


def test_names_of_items_follow_the_sources(images):
    names = [item.name for item in detect.find_named(["./photos", "old.zip"]).items]
    assert names == ["old.zip/2021/zipped.png", "photos/calm.png", "photos/deep/noisy.png"]
    assert [item.name for item in detect.find_named(["x.jpg", "y.jpg"]).items] == ["x.jpg", "y.jpg"]
    with pytest.raises(UserError, match="no images found"):
        (images / "empty").mkdir()
        detect.find_named(["empty"])
    with pytest.raises(UserError, match=r"gone\.zip: no such file"):
        detect.find_named(["gone.zip"])
