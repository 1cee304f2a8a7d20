"""The benchmark of mixtures runs and reports every measurement; speeds are not judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("ours float64", "ours float32")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gmm")
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # nearly all of the time is compilation
        "XLA_FLAGS": "",  # one device
    }
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gmm.py", "--quick", "--out", folder],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    (path,) = folder.glob("gmm_*.json")
    return json.loads(path.read_text()), path.with_suffix(".md").read_text(), run.stdout


def rows_of(results):
    rows = [row for section in results["sections"].values() for row in section]
    by_name = {row["what"]: row for row in rows}
    assert len(by_name) == len(rows)  # every line says something else
    return by_name


def test_everything_is_reported(report):
    results, table, printed = report
    rows, sizes = rows_of(results), results["sizes"]
    assert results["quick"] and results["machine"]["cores"] >= 1
    assert "NUMBERS MEAN NOTHING" in table and "SIMULATED" in table
    assert all(what in table and what in printed for what in rows)
    assert any("scikit-learn float32" in remark for remark in results["remarks"])
    expected = []
    for program in ("scikit-learn float64", *OURS):
        for count in sizes["rows"]:
            expected.append(f"iteration, {count} rows, {program}")
            expected.append(f"dense formula's operations, {count} rows, {program}")
        expected.append(f"whole fit, {sizes['whole']} rows, {program}")
        expected.append(f"scoring, {sizes['scored']} rows, {program}")
    for count in (sizes["streamed"] // 10, sizes["streamed"]):
        expected.append(f"iteration, {count} rows, streamed float32")
    measurable = Path("/proc/self/status").is_file()
    if measurable:
        expected += [f"peak memory, {sizes['memory'][0]} rows, {program}" for program in OURS]
        expected.append(f"peak memory, {sizes['streamed']} rows, streamed float32")
    else:
        assert any("not measured" in remark for remark in results["remarks"])
    assert not [what for what in expected if what not in rows]


def test_numbers_are_consistent(report):
    results, _, _ = report
    rows, sizes = rows_of(results), results["sizes"]
    for what, row in rows.items():
        values = np.array(row["values"])
        assert np.isfinite(values).all(), what
        if row["unit"] != "nats" and not what.startswith("peak memory"):
            assert (values > 0).all(), what
        if row["against"]:
            reference = rows[row["against"]]
            if len(row["ratios"]) == len(values) == len(reference["values"]):
                # Rates are of speeds, ratios of times.
                power = -1 if row["unit"].endswith("/s") else 1
                ratios = (values / reference["values"]) ** power
                np.testing.assert_allclose(row["ratios"], ratios, rtol=1e-6)
    for what in ("iteration", "whole fit", "scoring"):
        turns = [row for name, row in rows.items() if name.startswith(f"{what}, ")]
        timed = [row for row in turns if "streamed" not in row["what"]]
        assert timed and all(len(row["values"]) == sizes["rounds"] for row in timed)
    # Sixteen columns are one block, so nothing but other components' tiles is left out.
    for count in sizes["rows"]:
        for program in OURS:
            done = rows[f"operations done, {count} rows, {program}"]["values"]
            dense = rows[f"dense formula's operations, {count} rows, {program}"]["values"]
            assert 0.5 < np.median(done) / np.median(dense) < 3
    for what, row in rows.items():
        if row["unit"] == "nats" and what.endswith(OURS):
            program = next(name for name in OURS if what.endswith(name))
            theirs = rows[what.removesuffix(program) + "scikit-learn float64"]["values"]
            tolerance = 1e-6 if program == "ours float64" else 1e-3
            np.testing.assert_allclose(row["values"], theirs, rtol=tolerance)
