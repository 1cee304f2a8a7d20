"""Speed and memory of fitting and scoring Gaussian mixtures, against scikit-learn.

python benchmarks/gmm.py

Results go to results/gmm_DEVICE.md and .json beside this file. `--quick` checks the script itself
within a minute, with sizes whose numbers mean nothing. All data are SIMULATED.
"""

import contextlib
import ctypes
import gc
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gmm_data import (
    COMPONENTS,
    REFERENCE,
    REG_COVAR,
    SklearnMixture,
    precisions,
    simulate,
    write_simulated,
)
from gmm_rates import OurIterations, product_rate, product_tasks
from measuring import Report, Rows, command_line, peak_memory, progress, take_turns
from threadpoolctl import threadpool_info  # comes with scikit-learn

from exif_jax import gmm

_WHOLE_ITERATIONS = 100  # of a whole fit, at most
_TOLERANCE = 1e-3
_SPREAD = 0.9  # share of the responsibilities that is equal for all components at their start
_COMPARED = "times scikit-learn"
_SINGLE = "scikit-learn float32"


# On a CPU, on an accelerator, with --quick.
SIZES = {
    "rounds": (5, 5, 1),  # turns that each side of a comparison takes
    "columns": (528, 528, 8),  # of the data
    # Rows of the data whose iterations are timed; scikit-learn's in a turn are so many as take
    # `work` rows, one to ten; ours `more` times as many.
    "rows": ((1000, 10_000, 100_000), (1000, 10_000, 100_000), (300,)),
    "work": (20_000, 20_000, 400),
    "more": (1, 10, 1),
    "whole": (10_000, 10_000, 300),  # rows of the whole fits
    "memory": ((10_000, 100_000), (10_000, 100_000), (300,)),  # rows of fits whose memory counts
    "streamed": (1_000_000, 1_000_000, 4000),  # rows; a tenth is measured beside them
    "block": (32768, 32768, 512),  # of these rows in memory at once
    "scored": (100_000, 100_000, 300),  # rows that are scored
    "product": (2048, 16384, 256),  # rows of the matrix products that tell the machine's rate
    "steps": (8, 200, 2),  # of such products in a turn
}


def against_sklearn(
    tasks: dict[str, Callable[[], Any]], rounds: int, rows: int
) -> dict[str, dict[str, Any]]:
    """A line of a table for each task: `s`, and ratios to scikit-learn's neighbouring turn."""
    seconds = take_turns(tasks, rounds)
    lines: dict[str, dict[str, Any]] = {}
    for name, times in seconds.items():
        lines[name] = {"rows": rows, "program": name, "s": times}
        if name != REFERENCE:
            lines[name][_COMPARED] = times / seconds[REFERENCE]
    return lines


def measure_iterations(sizes: Any, rows: int) -> Rows:
    """EM iterations from the same responsibilities: times, what they led to, operations."""
    progress(f"measuring: EM iterations, {rows} rows ...")
    dtypes = precisions()
    x, start = simulate(rows, sizes.columns)
    model = SklearnMixture.from_start(start)
    model._initialize(x, start)
    initial = model._get_parameters()
    theirs = min(max(sizes.work // rows, 1), 10)
    ours = theirs * sizes.more
    bounds: dict[str, float] = {}

    def our_iterations(name: str) -> None:
        bounds[name] = float(programs[name].run()[theirs - 1])

    def sklearn_iterations() -> None:
        model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = initial
        for _ in range(theirs):
            bounds[REFERENCE], log_responsibilities = model._e_step(x)
            model._m_step(x, log_responsibilities)

    programs = {f"ours {dtype}": OurIterations(x, start, ours, dtype) for dtype in dtypes}
    tasks: dict[str, Callable[[], Any]] = {REFERENCE: sklearn_iterations}
    tasks |= {name: partial(our_iterations, name) for name in programs}
    seconds = take_turns(tasks | product_tasks(sizes, dtypes), sizes.rounds)
    each = {name: seconds[name] / (theirs if name == REFERENCE else ours) for name in tasks}
    table = []
    for name, times in each.items():
        line = {"rows": rows, "program": name, "ms": 1e3 * times}
        if name != REFERENCE:
            line[_COMPARED] = times / each[REFERENCE]
        line |= {"mean log-likelihood": round(bounds[name], 4), "before iteration": theirs}
        if (dtype := name.split()[-1]) in dtypes:
            rate = product_rate(sizes, dtype, seconds)
            dense = 4 * rows * COMPONENTS * sizes.columns**2
            line |= {"products, GFLOP/s": rate / 1e9, "%, dense": 100 * dense / times / rate}
            if name in programs:
                line["%, done"] = 100 * programs[name].operations() / times / rate
        table.append(line)
    if "float64" in dtypes:
        np.testing.assert_allclose(bounds["ours float64"], bounds[REFERENCE], rtol=1e-6)
    return table


def measure_whole(sizes: Any) -> tuple[Rows, str]:
    """Whole fits to convergence from the same responsibilities, and a note on scikit-learn."""
    progress("measuring: whole fits ...")
    x, start = simulate(sizes.whole, sizes.columns)
    start = _SPREAD / COMPONENTS + (1 - _SPREAD) * start
    results: dict[str, tuple[int, Any]] = {}

    def theirs(name: str, x: np.ndarray) -> None:
        model = SklearnMixture.from_start(start, max_iter=_WHOLE_ITERATIONS, tol=_TOLERANCE)
        model.fit(x)
        results[name] = model.n_iter_, gmm.from_sklearn(model)

    def ours(name: str, x: np.ndarray) -> None:
        options: Any = {"max_iters": _WHOLE_ITERATIONS, "tol": _TOLERANCE, "reg_covar": REG_COVAR}
        with jax.enable_x64(x.dtype == np.float64):
            fit = gmm.fit(jax.random.key(0), x, responsibilities=start, **options)
        results[name] = len(fit.history), fit.gmm

    tasks: dict[str, Callable[[], Any]] = {REFERENCE: partial(theirs, REFERENCE, x)}
    for dtype in precisions():
        tasks[f"ours {dtype}"] = partial(ours, f"ours {dtype}", x.astype(dtype))
    single = partial(theirs, _SINGLE, x.astype("float32"))
    note = f"{_SINGLE} raises nothing."
    try:
        single()
    except ValueError as error:
        note = f"{_SINGLE} raises: {error}"
    else:
        tasks[_SINGLE] = single
    table = against_sklearn(tasks, sizes.rounds, sizes.whole)
    for name, line in table.items():
        iterations, mixture = results[name]
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), mixture)
            mean = round(float(gmm.log_density(wide, x).mean()), 4)
        line |= {"iterations": iterations, "final mean log-likelihood": mean}
    return list(table.values()), note


def measure_scoring(sizes: Any) -> Rows:
    """Log-densities of rows in host memory under the same mixture."""
    progress("measuring: scoring ...")
    x, start = simulate(sizes.scored, sizes.columns)
    model = SklearnMixture.from_start(start)
    model._initialize(x, start)
    means: dict[str, float] = {}

    def theirs() -> None:
        means[REFERENCE] = float(model.score_samples(x).mean())

    def ours(name: str, mixture: Any, x: np.ndarray) -> None:
        with jax.enable_x64(x.dtype == np.float64):
            means[name] = float(np.asarray(gmm.log_density(mixture, x)).mean(dtype=np.float64))

    tasks: dict[str, Callable[[], Any]] = {REFERENCE: theirs}
    for dtype in precisions():
        with jax.enable_x64(dtype == "float64"):
            mixture = jax.tree.map(partial(jax.numpy.asarray, dtype=dtype), gmm.from_sklearn(model))
        tasks[f"ours {dtype}"] = partial(ours, f"ours {dtype}", mixture, x.astype(dtype))
    table = against_sklearn(tasks, sizes.rounds, sizes.scored)
    return [row | {"mean log-density": round(means[name], 4)} for name, row in table.items()]


def measure_memory(counts: tuple[int, ...], columns: int) -> Rows:
    """Peak memory of two iterations on rows in memory, by their number and the program."""
    table = []
    for count in counts:
        reference = None
        for name in (REFERENCE, *(f"ours {dtype}" for dtype in precisions())):
            found = _in_own_process(_fit_in_memory, name, count, columns)
            table.append({"rows": count, "program": name, **found})
            if name == REFERENCE:
                reference = found.get("peak, MB")
            elif reference:
                table[-1]["times scikit-learn"] = np.array([found["peak, MB"] / reference])
    return table


def measure_streamed(most: int, columns: int, block: int) -> Rows:
    """Time of an iteration and peak memory of rows in a file, and of a tenth of them.

    Args:
        most: rows in the file.
        columns: of them.
        block: rows in memory at once.
    """
    table: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        progress(f"writing {4e-9 * most * columns:.2g} GB into {folder} (TMPDIR sets another) ...")
        write_simulated(path, most, columns)
        for count in (max(most // 10, COMPONENTS), most):
            row = {"rows": count} | _in_own_process(_fit_streamed, path, count, block)
            if table:
                for name in ("s an iteration", "peak, MB"):
                    if name in row:
                        ratio = np.median(row[name]) / np.median(table[0][name])
                        row[f"{name}, times a tenth's"] = np.array([ratio])
            table.append(row)
    return table


def _in_own_process(measure: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    progress(f"measuring: memory, {arguments} ...")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *arguments).result()


def _fit_in_memory(name: str, rows: int, columns: int) -> dict[str, Any]:
    program, dtype = name.split()
    x, start = simulate(rows, columns, dtype)

    def theirs(rows: int) -> None:
        SklearnMixture.from_start(start[:rows], max_iter=2, tol=0.0).fit(x[:rows])

    def ours(_: int) -> None:
        options: Any = {"max_iters": 2, "tol": 0.0, "reg_covar": REG_COVAR}
        gmm.fit(jax.random.key(0), x, responsibilities=start, **options)

    if program == "scikit-learn":
        _peak(lambda: theirs(2 * COMPONENTS))
        return _peak(lambda: theirs(rows))
    with jax.enable_x64(dtype == "float64"):
        first = _peak(lambda: ours(rows))  # compiles
        found = _peak(lambda: ours(rows))
    return found | {f"first fit's {key}": value for key, value in first.items()} | _on_device()


def _fit_streamed(path: Path, rows: int, block: int) -> dict[str, Any]:
    x = np.load(path, mmap_mode="r")[:rows]

    def fit(rows: int) -> list[float]:
        """When each iteration ended."""
        times: list[float] = []
        gmm.fit(
            jax.random.key(0),
            gmm.Stream(x[:rows], block),
            COMPONENTS,
            max_iters=3,
            tol=0.0,
            reg_covar=REG_COVAR,
            observe=lambda *_: times.append(time.perf_counter()),
        )
        return times

    times: list[float] = []
    with jax.enable_x64(False):
        fit(2 * block)  # compiles: two blocks lead to the same programs as many
        found = _peak(lambda: times.extend(fit(rows)))
    return {"s an iteration": np.diff(times)} | found | _on_device()


def _on_device() -> dict[str, np.ndarray]:
    statistics = jax.devices()[0].memory_stats() or {}
    peak = statistics.get("peak_bytes_in_use")
    return {} if peak is None else {"peak on the device, MB": np.array([peak / 1e6])}


def _peak(run: Callable[[], object]) -> dict[str, np.ndarray]:
    """Peak of this process's anonymous memory beyond that before; none where nobody tells."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # or memory freed before would be used unseen
    with peak_memory(os.getpid(), "RssAnon", 0.005) as peaks:
        before = peaks.get(os.getpid())
        run()
    if before is None:
        return {}
    return {"peak, MB": np.array([(peaks[os.getpid()] - before) / 1e6])}


NOTES = f"""Data: SIMULATED, {COMPONENTS} far components (responsibilities nearly one-hot), columns
correlated and ill-conditioned, mean variance one. Full covariances, reg_covar {REG_COVAR:g} for
all programs, the same responsibilities to start from: one-hot, a tenth of the rows in a wrong
component; for the whole fits, to tol {_TOLERANCE:g}, {100 * _SPREAD:.0f} % of every row's spread
evenly. "{_COMPARED}" is the time or memory divided by that of scikit-learn in float64, times in the
neighbouring turn. What else the tables mean is in benchmarks/README.md under "EM"."""


def _blas() -> str:
    """The libraries of linear algebra in this process, and their threads."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(f"{p['internal_api']} {p['version']}: {p['num_threads']}" for p in pools)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    # The memory of an accelerator is for the processes of the cases, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    options = command_line(__doc__).parse_args(argv)
    report = Report("gmm", options, SIZES, f"BLAS: threads of {_blas()}.", NOTES)
    sizes = report.sizes
    # First: a used accelerator stays occupied.
    report.add("Peak memory", measure_memory(sizes.memory, sizes.columns))
    report.add("Streamed", measure_streamed(sizes.streamed, sizes.columns, sizes.block))
    iterations = [row for rows in sizes.rows for row in measure_iterations(sizes, rows)]
    report.add("EM iteration", iterations)
    rows, note = measure_whole(sizes)
    report.add("Whole fit", rows, note)
    report.add("Scoring", measure_scoring(sizes))


if __name__ == "__main__":
    main()
