"""The list of files that are left out: each once, whatever happened to the run before."""

import json
import logging
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.skipped import (
    SkippedFiles,
    format_counts,
    gather_skipped,
    skipped_row,
    write_skipped,
)


def listed(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "skipped.jsonl"


def test_each_file_is_listed_once_also_by_a_continued_run(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b, c = (skipped_row(f"{name}.jpg", "undecodable", "cut short") for name in "abc")
    SkippedFiles(path.parent).add([])
    assert not path.exists()
    files = SkippedFiles(path.parent)
    files.add([a, a])
    files.add([b, a])
    SkippedFiles(path.parent).add([b, {**c, "reason": "empty_file"}])
    assert listed(path) == [a, b, {**c, "reason": "empty_file"}]
    assert "skipped 3 unreadable images (2 undecodable, 1 empty_file), see" in caplog.text


def test_a_torn_line_is_written_again(path: Path) -> None:
    rows = [skipped_row(f"{name}.jpg", "undecodable", "cut short") for name in "ab"]
    SkippedFiles(path.parent).add(rows)
    path.write_text(path.read_text()[:-9])
    SkippedFiles(path.parent).add(rows)
    assert listed(path) == rows


def test_rows_of_the_previous_release_are_known_and_brought_into_form(path: Path) -> None:
    path.write_text('{"path": "a.jpg", "reason": "cut short"}\n')
    a, b = (skipped_row(f"{name}.jpg", "unreadable", "cut short") for name in "ab")
    SkippedFiles(path.parent).add([a, b])
    assert listed(path) == [a, b]


def test_a_part_of_the_run_with_fewer_processes_has_one_list(path: Path) -> None:
    a, b, c, d = (skipped_row(f"{name}.jpg", "undecodable", "cut short") for name in "abcd")
    lists = [SkippedFiles(path.parent, process) for process in range(3)]
    for files, rows in zip(lists, ([a], [b, a], [c]), strict=True):
        files.add(rows)
    gather_skipped(path.parent)
    assert listed(path) == [a, b, c]
    files = SkippedFiles(path.parent, 1)
    files.add([a, c, d])
    assert listed(path.with_name("skipped.1.jsonl")) == [d]
    gather_skipped(path.parent)
    SkippedFiles(path.parent).add([d])
    assert listed(path) == [a, b, c, d] and [*path.parent.iterdir()] == [path]


def test_a_list_is_written_as_a_whole(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    write_skipped(path, [skipped_row("a.png", "empty_file", "no bytes", label=1, test_set="s")])
    why = {"reason": "empty_file", "message": "no bytes"}
    assert listed(path) == [{"path": "a.png", "label": 1, "test_set": "s", **why}]
    assert "skipped 1 unreadable images (1 empty_file)" in caplog.text
    caplog.clear()
    write_skipped(path, [])
    assert (path.read_text(), caplog.text) == ("", "")


def test_counts_in_words() -> None:
    assert format_counts({"flat": 2, "black": 1}) == "2 flat, 1 black"


@pytest.mark.parametrize("row", [{}, {"message": "x"}, {"path": "a", "message": "x"}])
def test_a_damaged_list_is_one_line(path: Path, row: dict[str, str]) -> None:
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"skipped\.jsonl: damaged .* delete it"):
        SkippedFiles(path.parent)
