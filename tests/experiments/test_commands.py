"""The experiments start; what they need real photographs and an hour for is not run."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "script", ["real_photos.py", "few_photos.py", "descriptions.py", "unseen.py", "ship.py"]
)
def test_an_experiment_starts(script: str) -> None:
    command = [sys.executable, ROOT / "experiments" / script]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--data" in done.stdout
