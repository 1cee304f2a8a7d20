"""The benchmark of `prepare` runs and reports what it says; speeds are not judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    import prepare_report
    import prepare_windows
finally:
    sys.path.pop(0)


def run(folder, *arguments):
    """Runs the script without real photos; returns results, table and what was printed."""
    nothing = ("--photos", folder / "none", "--small", folder / "none")
    script = (sys.executable, ROOT / "benchmarks" / "prepare.py", "--quick")
    done = subprocess.run(
        [*script, *nothing, "--out", folder, *arguments],
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("prepare_*.json")
    return json.loads(path.read_text()), path.with_suffix(".md").read_text(), done.stdout


def test_windows_and_reading_are_reported(tmp_path):
    results, text, printed = run(tmp_path, "--only", "windows", "reading")
    assert results["quick"] and results["machine"]["cores"] >= 1
    assert "NUMBERS MEAN NOTHING" in text and "SIMULATED" in text
    assert "No whole real photos were there" in text
    windows, reading = results["tables"].values()
    assert list(results["tables"]) == ["A window in different encodings", "Reading the records"]
    sizes = {
        name: row["bytes"]
        for name, row in windows.items()
        if isinstance(row, dict) and "bytes" in row
    }
    assert len(sizes) == 7 and max(sizes, key=sizes.get) == "raw"
    assert min(sizes, key=sizes.get) == "DCT blocks of the original"
    assert windows["difference"]["border"] <= 2
    for threads in results["sizes"]["threads"]:
        for side in ("bare", "records", "grain"):
            assert all(seconds > 0 for seconds in reading["seconds"][f"{side} {threads}"])
    assert all(title in printed for title in results["tables"])


def test_spread():
    assert prepare_report.spread([3.0, 1.0, 2.0]) == "2.00 (1.00 - 3.00)"
    assert prepare_report.spread(0.126, 1) == "0.1"


def test_differences_tell_how_far_from_the_edge():
    side = prepare_windows.WINDOW
    full = prepare_windows.np.zeros((side, side, 3), "uint8")
    near = full.copy()
    near[1, 5, 2] = 7
    far = prepare_windows.differences([near, full], [full, full])
    assert far == {"fraction": pytest.approx(1 / (2 * side * side)), "levels": 7.0, "border": 2.0}
    none = prepare_windows.differences([full], [full])
    assert none == {"fraction": 0.0, "levels": 0.0, "border": 0.0}
