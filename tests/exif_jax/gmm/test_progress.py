"""Interrupted fits continue exactly; another fit's state and damaged files are refused."""

import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from exif_jax import gmm
from exif_jax.gmm.covariances import COVARIANCE_TYPES

KINDS = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


@pytest.fixture
def methods(fit, fit_stream, tmp_path):
    """Both fits, and the file of their first start."""
    checkpoint, file = {"checkpoint": tmp_path}, tmp_path / "start_0.safetensors"
    return {"memory": (fit, checkpoint, file), "stream": (fit_stream, checkpoint, file)}


METHODS = pytest.mark.parametrize("method", ["memory", "stream"])


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a.gmm, b.gmm)
    np.testing.assert_array_equal(a.history, b.history)
    assert a.log_likelihood == b.log_likelihood
    assert (a.converged, a.rows, a.warnings) == (b.converged, b.rows, b.warnings)


@METHODS
@KINDS
def test_an_interrupted_fit_continues_exactly(kind, method, methods, x, stop_after):
    run, checkpoint, _ = methods[method]
    whole = run(x, 3, kind)
    seen = []
    for iterations in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(x, 3, kind, observe=stop_after(iterations), **checkpoint)
    again = run(x, 3, kind, observe=lambda done, *_: seen.append(done), **checkpoint)
    assert_identical(again, whole)
    # What was told but not yet saved when it stopped is told again; nothing else is.
    assert seen == list(range(3, len(whole.history) + 1))


@METHODS
def test_a_finished_fit_is_not_done_again(method, methods, x):
    run, checkpoint, file = methods[method]
    whole = run(x, **checkpoint)
    written = file.read_bytes()
    assert_identical(run(x, observe=pytest.fail, **checkpoint), whole)
    assert file.read_bytes() == written


@METHODS
def test_more_iterations_extend_a_fit(method, methods, x):
    run, checkpoint, _ = methods[method]
    assert len(run(x, max_iters=2, **checkpoint).history) == 2
    assert_identical(run(x, **checkpoint), run(x))


@pytest.mark.parametrize("first", ["memory", "stream"])
def test_rows_that_no_longer_fit_into_memory_continue_a_fit(first, fit, one_device, x, tmp_path):
    """Blocks of the usual length: working coordinates and start are the same to the last bit."""
    stream = {"memory": x, "stream": gmm.Stream([x[:100], x[100:]])}
    fit(stream[first], max_iters=2, checkpoint=tmp_path)
    other = stream["stream" if first == "memory" else "memory"]
    continued, whole = fit(other, checkpoint=tmp_path), fit(x)
    np.testing.assert_allclose(continued.history, whole.history, rtol=1e-10)
    np.testing.assert_allclose(continued.gmm.means, whole.gmm.means, rtol=1e-8)


def test_the_second_of_several_starts_continues(fit, x, tmp_path):
    options = {"n_init": 2, "checkpoint": tmp_path / "states"}
    calls = []

    def stop_in_the_second_start(done, *_):
        calls.append(done)
        if calls.count(2) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(x, observe=stop_in_the_second_start, **options)
    assert len(list((tmp_path / "states").iterdir())) == 2
    seen = []
    again = fit(x, observe=lambda done, *_: seen.append(done), **options)
    assert_identical(again, fit(x, n_init=2))
    assert seen[0] == 2 and seen == sorted(seen)  # only the second start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_components": 2}, "components: 3 there, 2 now"),
        ({"kind": "diag"}, "covariance_type: 'full' there, 'diag' now"),
        ({"shrinkage": "ledoit_wolf"}, "shrinkage: 'none' there, 'ledoit_wolf' now"),
        ({"tol": 1e-4}, "tol: 0.001 there, 0.0001 now"),
        ({"reg_covar": 1e-3}, "data: '"),
        ({"key": 1}, r"key: \[0, 0\] there, \[0, 1\] now"),
        ({"x": lambda x: x[:-1]}, "rows: 161 there, 160 now"),
        ({"x": lambda x: x + 1e-3}, "data: '"),
        ({"x": lambda x: x.astype(np.float32)}, "dtype: 'float64' there, 'float32' now"),
        ({"means": lambda x: x[:3]}, "holds another fit"),
        ({"responsibilities": lambda x: np.full((len(x), 3), 1 / 3)}, "holds another fit"),
    ],
)
def test_the_state_of_another_fit_is_refused(change, message, fit, x, tmp_path):
    fit(x, max_iters=1, checkpoint=tmp_path)
    change = {name: value(x) if callable(value) else value for name, value in change.items()}
    with pytest.raises(ValueError, match=message) as error:
        fit(**({"x": x, "max_iters": 1, "checkpoint": tmp_path} | change))
    assert str(tmp_path / "start_0.safetensors") in str(error.value)


def without(path, name):
    arrays = load_file(path)
    del arrays[name]
    save_file(arrays, path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"nonsense"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: without(path, "state/counts"),
        lambda path: save_file({"a": np.zeros(1)}, path, {"identity": "{"}),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["nonsense", "empty", "cut", "incomplete", "foreign", "directory"],
)
def test_a_damaged_state_is_refused_by_name(damage, fit_stream, x, tmp_path):
    path = tmp_path / "start_0.safetensors"
    fit_stream(x, max_iters=1, checkpoint=tmp_path)
    damage(path)
    with pytest.raises(ValueError, match=re.escape(f"{path}: no saved state of EM, or damaged")):
        fit_stream(x, max_iters=1, checkpoint=tmp_path)
