"""The speed benchmark runs and reports every measurement; speeds themselves are not judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_quick_run_reports_everything(tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "",  # one device
    }
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "speed.py", "--quick", "--out", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (report,) = tmp_path.glob("speed_*.json")
    results = json.loads(report.read_text())
    assert results["quick"] and results["machine"]["cores"] >= 1
    rows = {row["what"]: row for row in results["rows"]}
    for start in ("decode", "pretext", "features", "stem"):
        assert any(what.startswith(start) for what in rows)
    for row in rows.values():
        assert len(row["values"]) == results["sizes"]["rounds"]
        assert not row["against"] or row["against"] in rows
    table = report.with_suffix(".md").read_text()
    assert "NUMBERS MEAN NOTHING" in table
    assert all(what in table and what in run.stdout for what in rows)
