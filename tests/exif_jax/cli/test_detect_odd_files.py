"""`exif-jax detect` on files of kinds that were once judged wrongly."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, features

from exif_jax.cli import __main__ as cli
from tests.data_pipelines.jpegs import CUT, WHOLE
from tests.data_pipelines.tiffs import RAW
from tests.exif_jax.cli.judged import edit, encoded, judged
from tests.exif_jax.noise_detector import NOISY, picture, write_noise_detector


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")


def blank_pictures():
    """Pictures that show nothing: name -> file, and a word of the reason."""
    noisy = picture(NOISY)
    clear = np.dstack([noisy, np.zeros(noisy.shape[:2], np.uint8)])
    palette = Image.fromarray(noisy).quantize(16)
    grey = np.dstack([noisy[..., 0], np.zeros_like(noisy[..., 0])])
    faint = np.dstack([noisy, np.full(noisy.shape[:2], 1, np.uint8)])
    files = {
        "one pixel.png": (encoded(noisy[:1, :1]), "too small: 1 x 1"),
        "two pixels.png": (encoded(noisy[:2, :1]), "too small: 1 x 2"),
        "one pixel.jpg": (encoded(noisy[:1, :1], "JPEG"), "too small: 1 x 1"),
        "one pixel.gif": (encoded(noisy[:1, :1], "GIF"), "too small: 1 x 1"),
        "one line.png": (encoded(noisy[:1]), "too small: 256 x 1"),
        "a stamp.png": (encoded(noisy[:63]), "too small: 256 x 63"),
        "clear.png": (encoded(clear), "saturated"),
        "clear grey.png": (encoded(Image.fromarray(grey, "LA")), "saturated"),
        "clear palette.png": (encoded(palette, transparency=bytes(16)), "saturated"),
        "clear palette.gif": (encoded(Image.new("P", (256, 256)), "GIF", transparency=0), "sat"),
        "faint.png": (encoded(faint), "saturated"),
        "white.jpg": (encoded(np.full_like(noisy, 255), "JPEG"), "saturated"),
        "black.png": (encoded(np.zeros_like(noisy)), "black"),
        "grey.png": (encoded(np.full_like(noisy, 99)), "almost constant"),
    }
    if features.check("webp"):
        image = Image.fromarray(clear)
        files["clear.webp"] = (encoded(image, "WEBP", lossless=True), "saturated")
    return files


@pytest.mark.parametrize("rules", ["with verdicts", "thresholds alone", "no verdicts"])
def test_no_detector_has_a_verdict_on_a_picture_that_shows_nothing(
    capsys, detector, tmp_path, rules
):
    copy = shutil.copytree(detector, tmp_path / "copy")
    if rules == "no verdicts":
        edit(copy, lambda facts: facts.pop("verdicts"))
    elif rules == "thresholds alone":
        edit(copy, lambda facts: facts["verdicts"].pop("trained_range"))
    files = blank_pictures()
    good = {"good.png": encoded(picture(NOISY))}
    data = {name: file for name, (file, _) in files.items()} | good
    status, rows, err = judged(capsys, copy, data, tmp_path)
    assert (status, err) == (0, "")
    assert rows.pop("good.png")["verdict"] == "photo"
    for name, row in rows.items():
        assert row["verdict"] == "unsure", row
        (word, reasons) = files[name][1], " ".join(row["reasons"])
        assert word in reasons or (rules == "no verdicts" and "almost constant" in reasons), row


def test_the_summary_of_a_detector_without_verdicts_counts_the_unsure(capsys, detector, tmp_path):
    copy = shutil.copytree(detector, tmp_path / "copy")
    edit(copy, lambda facts: facts.pop("verdicts"))
    (tmp_path / "a.png").write_bytes(encoded(picture(NOISY)))
    words = ["detect", "--detector", str(copy), str(tmp_path / "a.png")]
    assert cli.main(words) == 0
    assert "1 images: 1 photo, 0 generated\n" in capsys.readouterr().out
    (tmp_path / "b.png").write_bytes(encoded(picture(NOISY)[:1, :1]))
    assert cli.main([*words, str(tmp_path / "b.png")]) == 0
    assert "2 images: 1 photo, 0 generated, 1 unsure\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", RAW)
def test_raw_files_are_no_pictures_under_any_name(capsys, detector, tmp_path, name):
    status, rows, _ = judged(capsys, detector, {"a.jpg": RAW[name], "b.tif": RAW[name]}, tmp_path)
    assert status == 1
    for row in rows.values():
        assert row["verdict"] is None
        assert row["error"].startswith("a camera's raw file, or one like it (")


def test_jpeg_files_without_their_end_are_judged_if_all_of_the_image_is_there(
    capsys, detector, tmp_path
):
    data = encoded(picture(NOISY), "JPEG", quality=95)
    whole = {f"whole {name}.jpg": change(data) for name, change in WHOLE.items()}
    cut = {f"cut {name}.jpg": change(data) for name, change in CUT.items()}
    status, rows, _ = judged(capsys, detector, {"plain.jpg": data, **whole, **cut}, tmp_path)
    assert status == 1
    for name in whole:
        assert rows[name]["score"] == rows["plain.jpg"]["score"], name
        assert rows[name]["verdict"] == "photo"
    for name in cut:
        assert rows[name]["verdict"] is None and rows[name]["error"], name


def test_several_pictures_are_judged_as_the_jpeg_that_they_are(capsys, detector, tmp_path):
    first, second = (Image.fromarray(picture(NOISY, seed=seed)) for seed in range(2))
    several = {"save_all": True, "append_images": [second]}
    files = {}
    for quality in (95, 30):
        files[f"{quality} one.jpg"] = encoded(first, "JPEG", quality=quality)
        files[f"{quality} two.jpg"] = encoded(first, "MPO", quality=quality, **several)
    rows = judged(capsys, detector, files, tmp_path)[1]
    for quality in (95, 30):
        one, two = rows[f"{quality} one.jpg"], rows[f"{quality} two.jpg"]
        assert {**one, "path": ""} == {**two, "path": ""}
    assert "quality of about 30" in " ".join(rows["30 two.jpg"]["reasons"])


def test_what_a_folder_holds_besides_is_told_and_changes_no_output(capsys, detector, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(picture(NOISY, 64, 64)))
    for name in ("b.dng", "c.DNG", "d.mov", "notes"):
        (folder / name).write_bytes(b"II*\0")
    words = ["detect", str(folder), "--detector", str(detector), "--json", "--no-stability"]
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == "passed over, by their names: 2 .dng, 1 .mov, 1 no extension\n"
    (row,) = map(json.loads, captured.out.splitlines())
    assert row["path"] == str(folder / "a.png")
