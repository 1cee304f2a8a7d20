"""Files and directories are, at any moment, whole: the old one or the new one."""

import json
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.files import (
    read_json,
    read_json_lines,
    reading,
    replacing_directory,
    write_json,
    write_json_lines,
    write_text,
)


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    for name in (".model.abc.tmp", ".model.def.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    with replacing_directory(tmp_path / "model") as directory:
        (directory / "whole").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_is_replaced_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    assert read_json(path) == {"old": 1}

    def fail(self, target):
        assert json.loads(self.read_text()) == {"new": 2}  # whole before it takes the place
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="power cut"):
            write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    write_text(path, "3")
    assert read_json(path) == 3


def test_json_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.json: missing"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match=r"a\.json: not readable as JSON"):
        read_json(tmp_path / "a.json")


def fill(path, text):
    with replacing_directory(path) as directory:
        (directory / "x").write_text(text)


def test_a_directory_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "deep" / "model"
    fill(path, "one")
    (path / "stale").touch()
    fill(path, "two")
    assert [p.name for p in path.parent.iterdir()] == ["model"]
    assert [p.name for p in path.iterdir()] == ["x"]
    assert (path / "x").read_text() == "two"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_in_the_middle_leaves_the_old_directory(tmp_path, error):
    path = tmp_path / "model"
    fill(path, "one")
    with pytest.raises(type(error)), replacing_directory(path) as directory:
        (directory / "x").write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (path / "x").read_text() == "one"


def test_json_lines_are_read_but_for_a_torn_last_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert read_json_lines(path) == []
    write_json_lines(path, [{"a": 1}, {"b": "ü"}])
    assert read_json_lines(path) == [{"a": 1}, {"b": "ü"}]
    path.write_text(path.read_text() + '{"c":')
    assert read_json_lines(path) == [{"a": 1}, {"b": "ü"}]
    path.write_text('{"c":\n{"a": 1}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl: line 1 is not JSON"):
        read_json_lines(path)


@pytest.mark.parametrize("line", [b"\xff\xfe", b"[1]", b"3", b"[" * 100_000, b'"\xed\xa0\x80"'])
def test_a_line_that_is_no_object_is_named(tmp_path, line):
    (tmp_path / "rows.jsonl").write_bytes(b"{}\n" + line + b'\n{"a": 1}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl: line 2 is not JSON"):
        read_json_lines(tmp_path / "rows.jsonl")


def test_what_a_damaged_file_leads_to_names_it():
    for error in (KeyError("a"), TypeError("b"), OverflowError("c\nd")):
        with pytest.raises(UserError, match=r"^x/y: damaged \(.*\); delete it$"):  # noqa: SIM117
            with reading("x/y", "delete it"):
                raise error
    with pytest.raises(FileNotFoundError), reading("x/y", "delete it"):
        raise FileNotFoundError("z")
