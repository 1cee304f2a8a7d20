"""The command exif-jax, run in this process: what it prints and its exit status."""

import json
import shutil
import subprocess
import sys

import numpy as np
import piexif
import pytest
from PIL import Image

from data_pipelines.errors import Interrupted
from exif_jax.cli import __main__ as cli
from exif_jax.cli import detect
from exif_jax.detection.detectors import save_detector
from exif_jax.detection.thresholds import fitting_percentile_threshold, quantile_threshold
from exif_jax.models.trained import load_extractor


@pytest.fixture(scope="module")
def detector(tiny_extractor, tmp_path_factory):
    """A binary detector that calls every image generated."""
    head = {"kernel": np.zeros((10, 2), np.float32), "bias": np.array([0, 9], np.float32)}
    directory = tmp_path_factory.mktemp("run") / "detector"
    extractor = load_extractor(tiny_extractor)
    save_detector(directory, "binary", 0.5, extractor, {"head": {"fc": head}}, {})
    return directory


@pytest.fixture
def photos(simulated, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((simulated / "photos").iterdir())[:3]:
        shutil.copy(path, folder / path.name)
    return folder


def run(capsys, *arguments):
    """(exit status, standard output, standard error)."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_help_lists_every_command_and_each_has_an_example(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0 and all(command in out for command in cli.COMMANDS)
    for command in cli.COMMANDS:
        status, out, _ = run(capsys, command, "--help")
        assert status == 0 and f"example: exif-jax {command}" in out


@pytest.mark.parametrize("arguments", [[], ["develop"], ["detect"], ["tags", "a", "--colour"]])
def test_a_wrong_command_line_shows_the_usage(capsys, arguments):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("usage: exif-jax") and "error: " in err


def test_help_loads_no_model_libraries():
    code = (
        "import sys; from exif_jax.cli.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print({'jax', 'flax', 'tensorflow_datasets'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert output.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt, 130, "interrupted"),
        (KeyboardInterrupt("decoding failed (KeyboardInterrupt: )"), 130, "interrupted"),
        (Interrupted("interrupted; go on"), 130, "interrupted; go on"),
        (BrokenPipeError, 0, ""),
    ],
)
def test_an_interruption_shows_no_stack_trace(capsys, monkeypatch, error, status, message):
    def stop(args):
        raise error

    monkeypatch.setattr(detect, "run", stop)
    found = run(capsys, "detect", "x.jpg", "--detector", "y")
    assert (found[0], found[2].strip()) == (status, message)


def test_prepare_makes_records_once(capsys, photos, tmp_path):
    (photos / "broken.jpg").write_bytes(b"")
    command = ["prepare", photos, "--out", tmp_path / "out", "--validation-fraction", "0"]
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "3 photos of 4 files" in out and "empty_file" in out and "made; rejected" in out
    status, out, _ = run(capsys, *command)
    assert status == 0 and "already made by the same command" in out
    status, _, err = run(capsys, *command, "--seed", "1")
    assert status == 2 and err.startswith("error: ") and "seed was 0, now 1" in err


def test_prepare_takes_reasons_as_switches(capsys, photos, tmp_path):
    Image.effect_noise((300, 300), 60).convert("RGB").save(photos / "no_exif.jpg")
    command = ["prepare", photos, "--validation-fraction", "0", "--out"]
    status, out, _ = run(capsys, *command, tmp_path / "rejected")
    assert status == 0 and "3 photos of 4 files" in out and "no_exif" in out
    accept = ["--accept", "no_exif", "--accept", "no_tags"]
    status, out, _ = run(capsys, *command, tmp_path / "both", *accept)
    assert status == 0 and "4 photos of 4 files" in out
    status, _, err = run(capsys, *command, tmp_path / "unknown", "--reject", "ugly")
    assert status == 2 and "invalid choice: 'ugly'" in err
    status, _, err = run(capsys, *command, tmp_path / "small", "--min-side", "100")
    assert status == 2 and "min_side: 100 is not at least 256" in err
    status, _, err = run(capsys, *command, tmp_path / "beam", "--project=x")
    assert status == 2 and "--project=x: unknown option" in err


def test_tags_writes_a_page(capsys, records, tmp_path):
    status, out, _ = run(capsys, "tags", records, "--html", tmp_path / "page.html")
    assert status == 0 and "24 photos of 24 files" in out and "page.html" in out
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "24" in page and "<svg" in page


def test_prepare_says_why_there_is_nothing_to_prepare(capsys, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    out = tmp_path / "out"
    assert "no images found" in run(capsys, "prepare", photos, "--out", out)[2]
    (photos / "text.txt").write_text("no image's name")
    assert "no images found" in run(capsys, "prepare", photos, "--out", out)[2]
    Image.new("RGB", (300, 300)).save(photos / "no_exif.jpg")
    Image.new("RGB", (60, 60)).save(photos / "small.jpg")
    status, _, err = run(capsys, "prepare", photos, "--out", out)
    assert status == 2 and "Traceback" not in err
    assert "none of 2 files is a usable photo" in err
    assert "1 no_exif" in err and "1 too_small" in err
    assert not out.exists()


def test_a_tag_that_no_photo_has_is_a_warning(capsys, photos, tmp_path):
    for path in photos.iterdir():
        exif = piexif.load(str(path))
        exif["Exif"].pop(piexif.ExifIFD.FocalLength, None)
        exif["Exif"].pop(piexif.ExifIFD.FocalLengthIn35mmFilm, None)
        piexif.insert(piexif.dump(exif), str(path))
    out = tmp_path / "out"
    status, text, _ = run(capsys, "prepare", photos, "--out", out, "--validation-fraction", "0")
    assert status == 0
    assert "FocalLength: no photo has it; nothing is learned from it" in text


def test_tags_reports_as_text_and_as_json(capsys, records):
    status, text, _ = run(capsys, "tags", records)
    assert status == 0 and "24 photos of 24 files" in text
    status, out, _ = run(capsys, "tags", records, "--json")
    report = json.loads(out)
    assert (status, report["num_photos"], len(report["tags"])) == (0, 24, 14)


def test_tags_of_something_else_names_the_remedy(capsys, tmp_path):
    status, out, err = run(capsys, "tags", tmp_path)
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and "exif-jax prepare" in err


def test_detect_prints_a_verdict_an_image(capsys, photos, detector):
    status, out, _ = run(capsys, "detect", photos, "--detector", detector)
    names = [str(path) for path in sorted(photos.iterdir())]
    lines = out.splitlines()
    assert status == 0 and lines[0].split() == ["verdict", "score", "metadata", "file"]
    assert lines[1] == "(generated if score > 0.5000)"
    # What EXIF says stands beside the verdict and is not heard by it.
    assert [line.split() for line in lines[2:-2]] == [
        ["generated", "0.9999", "photo", name] for name in names
    ]
    assert lines[-2] == "3 images: 0 photo, 3 generated"
    assert lines[-1].startswith("metadata: ")


def test_detect_goes_on_after_a_bad_file(capsys, photos, detector, tmp_path):
    (photos / "z_broken.png").write_text("no image")
    absent = tmp_path / "absent.jpg"
    status, out, err = run(capsys, "detect", photos, absent, "--detector", detector)
    assert status == 1 and "2 of 5 images could not be read" in err
    assert [line.split()[0] for line in out.splitlines()[2:]] == [
        *("generated", "generated", "generated", "error", "error", "5", "metadata:")
    ]
    assert f"{absent}: No such file" in out
    status, out, _ = run(capsys, "detect", photos, absent, "--detector", detector, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert [row["verdict"] for row in rows] == ["generated", "generated", "generated", None, None]
    assert all(row["threshold"] == 0.5 for row in rows)
    assert ["error" in row for row in rows] == [row["score"] is None for row in rows]


def one_class(directory, extractor, facts, **arrays):
    """A one-class detector of a single standard normal."""
    gmm = {"weights": np.ones(1), "means": np.zeros((1, 2)), "precisions_cholesky": np.eye(2)[None]}
    projection = {"mean": np.zeros(10), "matrix": np.eye(10, 2)}
    arrays |= {"gmm": gmm, "projection": projection}
    save_detector(directory, "one_class", 2.5, load_extractor(extractor), arrays, facts)
    return directory


def test_detect_tells_how_the_threshold_was_set_and_ranks_among_held_out_photos(
    capsys, photos, tiny_extractor, tmp_path
):
    held_out = np.linspace(-1e6, -1e5, 7)  # all far less likely than what is detected
    rule = quantile_threshold(held_out, 0.05)
    facts = {"threshold_rule": rule.summary, "threshold_details": rule.to_json()}
    calibration = {"log_density": held_out}
    detector = one_class(tmp_path / "run", tiny_extractor, facts, calibration=calibration)
    (photos / "z_broken.png").write_text("no image")
    status, out, err = run(capsys, "detect", photos, "--detector", detector)
    heading, how, *lines, count, explanation, _ = out.splitlines()
    assert status == 1 and err.startswith(f"warning: {rule.warning}\n")
    assert heading.split() == ["verdict", "score", "p-value", "metadata", "file"]
    assert how == f"(generated if score > 2.5000; {rule.summary})"
    assert [line.split()[2] for line in lines[:3]] == ["1.0", "1.0", "1.0"]
    # Columns stay aligned, in lines of errors too.
    starts = {line.index(str(photos)) for line in lines}
    assert starts == {heading.index("file")} and lines[3].startswith("error  ")
    assert count.startswith("4 images: ")
    assert explanation.startswith("p-value: of 7 held-out photos and the image itself, the share")
    status, out, err = run(capsys, "detect", photos, "--detector", detector, "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row.get("p_value") for row in rows] == [1, 1, 1, None] and "p_value" not in rows[3]
    assert err.startswith("warning: 7 held-out photos are too few")


def test_detect_warns_of_the_published_threshold(capsys, photos, tiny_extractor, tmp_path):
    rule = fitting_percentile_threshold(np.arange(9.0))
    facts = {"threshold_rule": rule.summary, "threshold_details": rule.to_json()}
    detector = one_class(tmp_path / "run", tiny_extractor, facts)
    status, out, err = run(capsys, "detect", photos, "--detector", detector)
    assert status == 0 and err == f"warning: {rule.warning}\n"
    assert "; set at percentile 2 of the 9 photos that were fitted)" in out.splitlines()[1]


def test_detect_uses_detectors_of_older_versions(capsys, photos, tiny_extractor, tmp_path):
    details = {
        **{"threshold": 2.5, "false_positive_rate": 0.05, "expected_rate": 0.14, "photos": 6},
        **{"false_positive_rate_interval": [0.004, 0.46], "too_few_photos": True},
    }
    how = "split conformal quantile of photos not used to fit"
    facts = {"threshold_rule": how, "threshold_details": details}
    detector = one_class(tmp_path / "run", tiny_extractor, facts)
    status, out, err = run(capsys, "detect", photos, "--detector", detector)
    assert (status, err) == (0, "")
    assert out.splitlines()[1] == f"(generated if score > 2.5000; {how})"
    assert "p-value" not in out
    out = run(capsys, "detect", photos, "--detector", detector, "--json")[1]
    assert all("p_value" not in json.loads(line) for line in out.splitlines())


def test_detect_without_images_or_detector_is_an_error(capsys, detector, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, err = run(capsys, "detect", tmp_path / "empty", "--detector", detector)
    assert status == 2 and "no images found" in err
    status, out, err = run(capsys, "detect", photos, "--detector", tmp_path / "empty")
    assert (status, out) == (2, "") and "detector.json is missing" in err
