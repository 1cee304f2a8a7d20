"""Results on disk: continued, whole after a crash, refused where they are of another command."""

import csv
import json

import pytest

from data_pipelines.errors import UserError
from data_pipelines.evidence import Evidence
from data_pipelines.terminal import cell
from exif_jax.detection.judging import Detection
from exif_jax.detection.results import Results

ROWS = [
    Detection("a,1.jpg", "photo", 0.25, 0.5, p_value=0.5, probability=0.125),
    Detection('"b"\n.jpg', None, None, 0.5, error="no image"),
    Detection("c.jpg", "unsure", 0.5, 0.5, reasons=("one", "two")),
]
EVIDENCE = Evidence("generator", "generated", 'made by "x"', {"a": 1})


def test_results_are_continued(tmp_path):
    first = Results(tmp_path, {"detector": "x", "prior": None})
    for row in ROWS[:2]:
        first.add(row)
    again = Results(tmp_path, {"detector": "x", "prior": None})
    assert again.done == {"a,1.jpg", '"b"\n.jpg'}
    again.add(ROWS[2])
    assert list(again.rows()) == [row.to_json() for row in ROWS]
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == [row.path for row in ROWS]


def test_a_torn_last_line_is_cut(tmp_path):
    results = Results(tmp_path, {})
    results.add(ROWS[0])
    with results.path.open("a") as file:
        file.write('{"path": "torn.jpg", "verd')
    again = Results(tmp_path, {})
    assert again.done == {"a,1.jpg"}
    again.add(ROWS[2])
    assert [row["path"] for row in again.rows()] == ["a,1.jpg", "c.jpg"]


def test_results_of_another_command_are_refused(tmp_path):
    Results(tmp_path, {"detector": "x", "prior": None})
    with pytest.raises(UserError, match=r"another command \(other: detector, stability\)"):
        Results(tmp_path, {"detector": "y", "prior": None, "stability": True})


def test_the_table_has_a_row_an_image(tmp_path):
    results = Results(tmp_path, {})
    for row in ROWS:
        results.add(row)
    results.add(Detection("d.jpg", "photo", 0.0, 0.5, evidence=(EVIDENCE, EVIDENCE)))
    results.write_csv(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    # Names are printable there; results.jsonl has them as they are.
    assert [row["path"] for row in rows] == [cell(row.path) for row in ROWS] + ["d.jpg"]
    assert (rows[0]["p_value"], rows[0]["probability"]) == ("0.5", "0.125")
    assert (rows[1]["verdict"], rows[1]["score"], rows[1]["error"]) == ("", "", "no image")
    assert rows[2]["reasons"] == "one | two"
    assert rows[3]["evidence"] == 'generated: made by "x" | generated: made by "x"'


@pytest.mark.parametrize("line", [b"[]", b"{}", b'{"path": 3}', b"\xff", b'{"path": "a"}'])
def test_damaged_results_are_one_line(tmp_path, line):
    Results(tmp_path, {}).add(ROWS[0])
    with (tmp_path / "results.jsonl").open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(UserError, match=r"results\.jsonl: damaged .*; delete that line"):
        Results(tmp_path, {})
