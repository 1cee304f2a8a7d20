"""What the pages of docs/ say is so."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.labelled import find_test_sets

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_of_the_mixture_prints_what_the_page_says(tmp_path):
    page = (ROOT / "docs" / "mixture.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert "range(1, 6)" in code
    code = code.replace("range(1, 6)", "range(2, 4)")  # each number of components compiles anew
    said = re.search(r"It prints\n\n```\n(.*?)```", page, re.DOTALL)[1]
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # nearly all of the time is compilation
        "XLA_FLAGS": "",  # one device
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0].split(":")[0] == said.splitlines()[0].split(":")[0]
    assert len(done.stdout.splitlines()) == len(said.splitlines())
    assert (tmp_path / "selection.png").stat().st_size


def test_community_forensics_is_written_out_as_the_page_says(tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    rows = [
        {"image_data": b"\xff\xd8photo", "label": 0, "model_name": "COCO"},
        {"image_data": b"\x89PNGone", "label": 1, "model_name": "a/flux"},
        {"image_data": b"\x89PNGtwo", "label": 1, "model_name": "sd15"},
    ]
    (tmp_path / "CommunityForensics" / "data").mkdir(parents=True)
    shard = tmp_path / "CommunityForensics" / "data" / "CompEval-00000.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), shard)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "labelled.md").read_text()
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
    found = find_test_sets(tmp_path / "community_forensics", "community_forensics")
    assert [(s.name, len(s.real), len(s.generated)) for s in found] == [
        *(("a_flux", 1, 1), ("sd15", 1, 1)),
    ]


def test_the_tests_named_for_reports_elsewhere_are_there():
    page = (ROOT / "docs" / "reported_elsewhere.md").read_text()
    rows = [
        line.split(" | ") for line in page.splitlines() if re.search(r"\| \S+/\S+#\d+ \|", line)
    ]
    assert len(rows) >= 30 and {row[4] for row in rows} == {"right", "mended", "n/a"}
    for row in rows:
        for file, name in re.findall(r"`(\S+)::(\w+)`", row[5]):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), (file, name)
        assert "::" in row[5] or row[4] == "n/a"
