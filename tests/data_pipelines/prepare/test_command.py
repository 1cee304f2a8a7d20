"""The command line around `prepare`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipelines.prepare.report.tag_report import REPORT_FILE
from data_pipelines.records import open_records
from exif_jax.cli.__main__ import main

MakePhoto = Callable[..., Path]


def test_the_home_directory_is_expanded_wherever_a_path_stands(
    tmp_path: Path, make_photo: MakePhoto, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        make_photo(f"home/photos/{i}.jpg", seed=i, time=f"2022:05:01 1{i}:00:00")
    (tmp_path / "home/exif.json").write_text('[{"SourceFile": "0.jpg", "ISO": 100}]')
    (tmp_path / "home/list.txt").write_text("~/photos/1.jpg")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    sources = ["~/photos/0.jpg", "~/list.txt"]
    arguments = ["--out=~/records", "--sidecar=~/exif.json", "--validation-fraction=0"]
    assert main(["prepare", *sources, *arguments]) == 0
    assert len(open_records(tmp_path / "home/records").source("train")) == 2
    # The same places in other words are the same command.
    assert main(["prepare", str(tmp_path / "home/photos/0.jpg"), "~/list.txt", *arguments]) == 0
    assert main(["tags", "~/records"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--frobnicate=3"], "--frobnicate=3: unknown option"),
        (["--workers=0"], "--workers: 0 is not at least 1"),
        (["--min-side=3"], "min_side: 3 is not at least 256"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_passed_over_are_shown(
    tmp_path: Path, make_photo: MakePhoto, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(2):
        make_photo(f"photos/{i}.jpg", seed=i, time=f"2022:05:01 1{i}:00:00")
    for name in ("1.dng", "2.DNG", "3.mov", "<b>.x<b>"):
        (tmp_path / "photos" / name).write_bytes(b"II*\0")
    out, page = str(tmp_path / "records"), tmp_path / "page.html"
    words = ["prepare", str(tmp_path / "photos"), "--out", out, "--validation-fraction=0"]
    line = "passed over, by their names: 2 .dng, 1 .mov, 1 other"
    for _ in range(2):  # made, and read again
        assert main(words) == 0
        assert line in capsys.readouterr().out.splitlines()
    assert main(["tags", out, "--html", str(page)]) == 0
    assert line in capsys.readouterr().out
    assert "2 .dng, 1 .mov, 1 other" in page.read_text()
    assert main(["tags", out, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed_over"] == {".dng": 2, ".mov": 1, "other": 1}
    assert report["num_files"] == 2


def test_reports_of_the_previous_release_are_shown(
    tmp_path: Path, make_photo: MakePhoto, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(2):
        make_photo(f"photos/{i}.jpg", seed=i, time=f"2022:05:01 1{i}:00:00")
    out = tmp_path / "records"
    words = ["prepare", str(tmp_path / "photos"), "--out", str(out), "--validation-fraction=0"]
    assert main(words) == 0
    stored = out / REPORT_FILE
    report = json.loads(stored.read_text())
    del report["passed_over"]
    stored.write_text(json.dumps(report))
    capsys.readouterr()
    assert main(["tags", str(out), "--html", str(tmp_path / "page.html")]) == 0
    assert "passed over" not in capsys.readouterr().out + (tmp_path / "page.html").read_text()


def test_where_all_is_rejected_what_was_passed_over_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("1.jpg", "2.nef"):
        (tmp_path / "photos" / name).write_bytes(b"text")
    assert main(["prepare", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 2
    assert "1 not_an_image; passed over: 1 .nef; give photos" in capsys.readouterr().err


@pytest.mark.parametrize("long", ["a/" * 3000 + "x.jpg", "x" * 300 + ".jpg"])
def test_names_that_no_disk_can_hold_are_rejects_or_one_line(
    tmp_path: Path, make_photo: MakePhoto, capsys: pytest.CaptureFixture[str], long: str
) -> None:
    make_photo("0.jpg")
    (tmp_path / "list.txt").write_text(f"0.jpg\n{long}\n")
    sidecar = tmp_path / "exif.json"
    sidecar.write_text(json.dumps([{"SourceFile": name, "ISO": 100} for name in (long, "0.jpg")]))
    words = ["prepare", str(tmp_path / "list.txt"), "--validation-fraction=0"]
    out = tmp_path / "records"
    assert main([*words, "--out", str(out), "--sidecar", str(sidecar)]) == 0
    said = capsys.readouterr().out
    assert "1 photos of 2 files" in said and "entries fit no photo" in said
    assert max(map(len, said.splitlines())) < 500
    (row,) = map(json.loads, (out / "rejects.jsonl").read_text().splitlines())
    assert (row["path"], row["reason"]) == (long, "unreadable")
    for more in (["--out", long], ["--out", str(out), "--sidecar", long]):
        assert main([*words, *more]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["prepare", long, "--out", str(tmp_path / "other")]) == 2
