"""Rows in chunks are fitted as in memory; killed fits, several processes."""

import functools
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grain.python as grain
import jax
import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import load_file

from exif_jax.gmm import start as starts
from exif_jax.gmm.covariances import COVARIANCE_TYPES
from exif_jax.gmm.sources import Stream
from exif_jax.training.mapping import data_mesh

ROOT = Path(__file__).resolve().parents[3]
ALL = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def assert_same_fit(a, b, rtol=1e-7):
    np.testing.assert_allclose(a.history, b.history, rtol=1e-9)
    compare = functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-9)
    compare(a.gmm.weights, b.gmm.weights)
    compare(a.gmm.means, b.gmm.means)
    compare(a.gmm.covariances, b.gmm.covariances)
    assert a.log_likelihood == pytest.approx(b.log_likelihood, rel=1e-9)
    assert (a.converged, a.rows, a.warnings) == (b.converged, b.rows, b.warnings)


@ALL
def test_a_memory_mapped_array_is_fitted_as_in_memory(kind, x, fit, fit_stream, tmp_path):
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same_fit(fit_stream(mapped, 3, kind), fit(x, 3, kind))


def test_uneven_chunks_are_fitted_as_in_memory(x, fit, fit_stream):
    chunks = np.split(x, [1, 70, 72, 150])
    assert_same_fit(fit_stream(chunks), fit(x))


@pytest.mark.parametrize("iterable", [False, True])
def test_a_grain_data_set(iterable, x, fit, fit_stream):
    chunks = grain.MapDataset.source(x).batch(50)
    assert_same_fit(fit_stream(chunks.to_iter_dataset() if iterable else chunks), fit(x))


def test_eight_devices(x, fit, fit_stream):
    assert_same_fit(fit_stream(x, mesh=data_mesh(), block_rows=8), fit(x))


def test_shrinkage(x, fit, fit_stream):
    options = {"shrinkage": "ledoit_wolf", "observe": lambda *_: None}
    streamed, whole = fit_stream(x, **options), fit(x, **options)
    assert_same_fit(streamed, whole)
    np.testing.assert_allclose(streamed.shrinkage, whole.shrinkage, rtol=1e-7)
    assert whole.shrinkage.min() > 0


def test_given_means_and_an_observer(x, centres, fit, fit_stream):
    seen = []
    result = fit_stream(x, means=centres, observe=lambda *call: seen.append(call))
    assert_same_fit(result, fit(x, means=centres))
    assert [call[0] for call in seen] == list(range(1, len(result.history) + 1))
    np.testing.assert_array_equal([call[1] for call in seen], result.history)
    jax.tree.map(np.testing.assert_array_equal, seen[-1][2], result.gmm)


@pytest.mark.parametrize("lengths", [[10], [3, 3, 3], [1, 20, 2], [8, 8]])
def test_blocks_are_of_one_length_but_for_the_last(lengths):
    numbers = np.arange(sum(lengths), dtype=float)[:, None]
    found = list(Stream(np.split(numbers, np.cumsum(lengths)[:-1])).blocks(4))
    assert [len(rows) for rows in found[:-1]] == [4] * (len(found) - 1)
    assert 0 < len(found[-1]) <= 4
    np.testing.assert_array_equal(np.concatenate(found), numbers)


def with_nan(x):
    return np.where(np.arange(len(x))[:, None] == 100, np.nan, x)


@pytest.mark.parametrize(
    ("chunks", "options", "message"),
    [
        (lambda x: (part for part in [x]), {}, "can be read only once: give a list"),
        (lambda x: iter([x]), {}, "can be read only once"),
        (lambda x: [], {}, "no chunks"),
        (lambda x: [x, x[:0]], {}, "chunk 1 has no rows"),
        (lambda x: [x, x[:, :3]], {}, "chunk 1 has 3 columns of float64, the first had 4"),
        (lambda x: [x, x[0]], {}, r"must be \[rows, columns\]"),
        (lambda x: [x, x.astype(int)], {}, "must be floats"),
        (lambda x: np.split(with_nan(x), [60]), {}, "first is row 100"),
        (
            lambda x: [x, x.astype(np.float32)],
            {},
            "4 columns of float32, the first had 4 of float64",
        ),
        (lambda x: [x[:1], x[1:2]], {}, "3 components need at least as many rows, not 2"),
        (lambda x: [x], {"kind": "round"}, "'round' is not known"),
        (lambda x: [x], {"kind": "diag", "shrinkage": "ledoit_wolf"}, "shrinkage is for"),
        (lambda x: [x], {"means": np.zeros((2, 4))}, r"means must be \[3, 4\]"),
        (lambda x: [x], {"responsibilities": np.ones((161, 3))}, "a stream starts from means"),
    ],
)
def test_bad_input_is_refused_with_one_message(chunks, options, message, x, fit_stream):
    with pytest.raises(ValueError, match=message):
        fit_stream(chunks(x), **options)


# Processes

KILLED = """
import signal, sys
from pathlib import Path
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from exif_jax import gmm
from exif_jax.training.mapping import data_mesh

data, stop, *pairs = sys.argv[1:]
rows = np.load(data, mmap_mode="r")

def wait_to_be_killed(done, *_):
    if done == int(stop):
        signal.pause()

for checkpoint, out in zip(pairs[::2], pairs[1::2]):
    result = gmm.fit(
        jax.random.key(0), gmm.Stream(rows, 64), 3, tol=0.0, max_iters=30,
        mesh=data_mesh(jax.devices()[:1]), checkpoint=Path(checkpoint),
        observe=wait_to_be_killed,
    )
    np.savez(out, history=result.history, **result.gmm.to_arrays())
"""


def environment(**variables):
    return os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",  # compiles sooner
        **variables,
    }


def run_script(script, *arguments, **variables):
    return subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output = process.communicate()[0]
    assert process.returncode == 0, output


def iterations_saved(path):
    try:
        return len(load_file(path / "start_0.safetensors")["history"])
    except (FileNotFoundError, SafetensorError):
        return 0


def test_a_killed_fit_continues_exactly(x, tmp_path):
    script, data = tmp_path / "script.py", tmp_path / "x.npy"
    script.write_text(KILLED)
    np.save(data, x)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = run_script(script, data, 6, killed, tmp_path / "never.npz")
    while iterations_saved(killed) < 5:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert iterations_saved(killed) == 5
    outputs = [tmp_path / "killed.npz", tmp_path / "whole.npz"]
    finish(run_script(script, data, 0, killed, outputs[0], whole, outputs[1]))
    a, b = map(np.load, outputs)
    assert len(a["history"]) == 30
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


TWO = """
import sys
from pathlib import Path
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
address, process, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
jax.distributed.initialize(address, 2, process)
from exif_jax import gmm
from exif_jax.gmm import start as starts

starts.SAMPLE = 120  # of 161 rows
rows, centres = np.load(folder / "x.npy"), np.load(folder / "means.npy")
mine, key = np.split(rows, [100])[process], jax.random.key(0)
stream = gmm.Stream(np.split(mine, [30]), 16, 100 * process)
streamed = dict(means=centres, checkpoint=folder / "state")
results = {
    "fit": gmm.fit(key, mine, 3, means=centres),
    "alone": gmm.fit(key, rows[: 0 if process else None], 3, max_iters=2, means=centres),
    "seeded": gmm.fit(key, mine, 3),
    "seeded_stream": gmm.fit(key, stream, 3, max_iters=2),
    "half": gmm.fit(key, stream, 3, max_iters=4, **streamed),
    "stream": gmm.fit(key, stream, 3, **streamed),
}
held = gmm.mean_log_density(results["fit"].gmm, mine)
np.testing.assert_allclose(held, results["fit"].log_likelihood, rtol=1e-12)
gmm.fit(key, mine, 3, max_iters=4, checkpoint=folder / "other")
for name, result in results.items():
    np.savez(
        folder / f"{name}_{process}.npz", history=result.history, rows=result.rows,
        log_likelihood=result.log_likelihood, **result.gmm.to_arrays(),
    )
"""


def test_two_processes_fit_as_one(x, centres, fit, tmp_path, monkeypatch):
    monkeypatch.setattr(starts, "SAMPLE", 120)
    (tmp_path / "script.py").write_text(TWO)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "means.npy", centres)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        run_script(
            tmp_path / "script.py",
            address,
            index,
            tmp_path,
            XLA_FLAGS="--xla_force_host_platform_device_count=2",
            # Both compile, so that neither waits for the other longer than gloo allows (30 s).
            JAX_ENABLE_COMPILATION_CACHE="0",
        )
        for index in range(2)
    ]
    for process in processes:
        finish(process)
    one, seeded = fit(x, means=centres), fit(x)
    expected = {
        "fit": one,
        "alone": fit(x, means=centres, max_iters=2),
        "seeded": seeded,
        "seeded_stream": fit(x, max_iters=2),
        "half": fit(x, means=centres, max_iters=4),
        "stream": one,
    }
    for (name, result), process in itertools.product(expected.items(), range(2)):
        found = np.load(tmp_path / f"{name}_{process}.npz")
        fields = result.gmm.to_arrays() | {"history": result.history, "rows": result.rows}
        fields["log_likelihood"] = result.log_likelihood
        assert set(found) == set(fields)
        for field, value in fields.items():
            np.testing.assert_allclose(
                found[field], value, rtol=1e-7, atol=1e-9, err_msg=f"{name} {process} {field}"
            )
    for name in expected:
        a, b = (np.load(tmp_path / f"{name}_{process}.npz") for process in range(2))
        for field in a:
            np.testing.assert_array_equal(a[field], b[field], err_msg=f"{name} {field}")
    # What two processes began, one ends.
    seen = []
    observe = {"observe": lambda done, *_: seen.append(done), "checkpoint": tmp_path / "other"}
    assert_same_fit(fit(x, **observe), seeded)
    assert seen[0] == 5 and len(seen) == len(seeded.history) - 4
