"""The command line around `prepare`."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
