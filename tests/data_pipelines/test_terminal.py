"""What reaches a terminal or a spreadsheet: names of anyone, spelled out; formulas, disarmed."""

import csv
import io
import logging
import sys

import pytest

from data_pipelines.files import write_csv
from data_pipelines.terminal import LogFormatter, any_encoding, cell, printable, say

# Every kind of name that does something to a terminal, and what is shown instead.
HOSTILE = {
    "\x1b[31mred": "\\x1b[31mred",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "\x9b2J": "\\x9b2J",  # the same as an escape, in one character
    "a\nphoto  0.0000  b": "a\\nphoto  0.0000  b",
    "a\rphoto": "a\\rphoto",
    "a\x08\x08b": "a\\x08\\x08b",
    "a\x00b": "a\\x00b",
    "tab\t": "tab\\t",
    "\u202egpj.exe": "\\u202egpj.exe",
    "\u2066a\u2069": "\\u2066a\\u2069",
    "\u200fa": "\\u200fa",
    "zero\u200bwidth": "zero\\u200bwidth",
    "\ufeffa": "\\ufeffa",
    "\u2028line": "\\u2028line",
    "\x85line": "\\x85line",
    "\x0bline\x0c": "\\x0bline\\x0c",
    "\udcff.jpg": "\\udcff.jpg",  # bytes that are no UTF-8
    "\U000e0041tag": "\\U000e0041tag",
    "\ue000private": "\\ue000private",
    "café 日本 🙂.jpg": "café 日本 🙂.jpg",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_steers_a_terminal_is_spelled_out(name, capsys):
    shown = printable(name)
    assert shown == HOSTILE[name] and shown.isprintable()
    say(name, "next")
    assert capsys.readouterr().out == f"{shown}\nnext\n"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_log_entry_stays_one_line(name):
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "%s: left out", (name,), None)
    said = LogFormatter("%(levelname)s %(message)s").format(record)
    assert said == f"WARNING {HOSTILE[name]}: left out"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", HOSTILE)
def test_every_encoding_takes_every_name(name, encoding, monkeypatch):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, errors="strict")
    monkeypatch.setattr(sys, "stdout", stream)
    with any_encoding():
        say(name)
    assert stream.errors == "strict"
    text = raw.getvalue().decode(encoding)
    assert text.count("\n") == 1 and text.strip().isprintable()
    if encoding == "utf-8":
        assert text == f"{HOSTILE[name]}\n"


def test_streams_that_are_no_files_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    with any_encoding():
        print("x")


CELLS = {
    "=1+1": "'=1+1",
    "+1+1": "'+1+1",
    "-cmd|' /C calc'!A0": "'-cmd|' /C calc'!A0",
    "@SUM(1)": "'@SUM(1)",
    "\t=1+1": "\\t=1+1",  # what is spelled out begins no formula
    "\r=1+1": "\\r=1+1",
    "\n=1+1": "\\n=1+1",
    "＝1+1": "'＝1+1",  # noqa: RUF001
    "-1.5": "-1.5",  # numbers stay numbers
    "-1e-4": "-1e-4",
    "+3": "+3",
    "-FNumber": "'-FNumber",
    "a=b": "a=b",
    "": "",
    -1.5: -1.5,
    None: None,
    True: True,
}


@pytest.mark.parametrize("value", CELLS)
def test_no_cell_is_a_formula(value):
    assert cell(value) == CELLS[value]


def test_a_table_of_hostile_names(tmp_path):
    names = [*HOSTILE, *(value for value in CELLS if isinstance(value, str))]
    write_csv(tmp_path / "t.csv", ["path", "=score"], [[name, -0.5] for name in names])
    text = (tmp_path / "t.csv").read_text(encoding="utf-8")
    assert all(line.isprintable() for line in text.split("\n"))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["path", "'=score"] and len(rows) == 1 + len(names)
    assert [row[0] for row in rows[1:]] == [cell(name) for name in names]
    assert {row[1] for row in rows[1:]} == {"-0.5"}
