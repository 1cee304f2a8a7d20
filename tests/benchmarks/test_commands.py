"""Every benchmark runs with its smallest sizes and reports; what it measured is not judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TITLES = {
    "speed.py": {"Network"},
    "gmm.py": {"Peak memory", "Streamed", "EM iteration", "Whole fit", "Scoring"},
    "detect.py": {"Start", "Pictures", "A window of 256x256", "Memory"},
    # The other sections run the whole command many times, longer than a test should.
    "prepare.py --only windows": {"A window in different encodings"},
    "reading.py": {"Prepared windows of SIMULATED", "Labelled files: windows, SIMULATED"},
}


@pytest.mark.parametrize("command", TITLES)
def test_a_quick_run_reports_everything(command: str, tmp_path: Path) -> None:
    script, *options = command.split()
    if script == "prepare.py":  # without the real photos that may be here
        options += ["--data", str(tmp_path / "none")]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, "--quick", "--out=~", *options],
        env=os.environ
        | {
            "HOME": str(tmp_path),
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # nearly all of the time is compilation
            "OPENBLAS_NUM_THREADS": "1",  # threads that wait for each other
            "XLA_FLAGS": "",  # one device
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.glob("*.json")
    results = json.loads(report.read_text())
    assert results["quick"] and results["machine"]["cores"] >= 1
    assert results["tables"].keys() == TITLES[command]
    text = report.with_suffix(".md").read_text()
    assert "NUMBERS MEAN NOTHING" in text
    for title, measured in results["tables"].items():
        assert measured and title in text and title in done.stdout
