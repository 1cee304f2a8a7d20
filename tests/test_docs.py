"""The example of docs/mixture.md runs and prints what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

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
