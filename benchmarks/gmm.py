"""Speed and memory of fitting and scoring Gaussian mixtures, against scikit-learn.

python benchmarks/gmm.py

Results go to results/gmm_DEVICE.md and .json beside this file. `--quick` checks the script itself
within a minute, with sizes whose numbers mean nothing. All data are SIMULATED.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from gmm_data import (
    COMPONENTS,
    MOST_ROWS,
    REFERENCE,
    REG_COVAR,
    SklearnMixture,
    precision,
    precisions,
    simulate,
)
from gmm_memory import measure_memory, measure_streamed
from gmm_rates import OurIterations, measured_rates, product_tasks
from measuring import Report, Table, add_row, command_line, comparison, progress, take_turns
from threadpoolctl import threadpool_info  # comes with scikit-learn

from exif_jax import gmm

_WHOLE_ITERATIONS = 100  # of a whole fit, at most
_TOLERANCE = 1e-3
_SPREAD = 0.9  # share of the responsibilities that is equal for all components at their start
_COMPARED = "times scikit-learn"
_SINGLE = "scikit-learn float32"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: turns that each side of a comparison takes.
        columns: of the data.
        rows: of the data whose iterations are timed.
        work: rows times iterations of scikit-learn in a turn; one to ten iterations.
        more: times as many iterations in a turn of ours.
        whole: rows of the whole fits.
        memory: rows of the data whose fits' memory is measured.
        streamed: rows of the streamed data; a tenth is measured beside them.
        block: of these rows in memory at once.
        scored: rows that are scored.
        product: rows of the matrix products that tell the machine's rate.
        steps: of such products in a turn.
    """

    rounds: int = 5
    columns: int = 528
    rows: tuple[int, ...] = (1000, 10_000, 100_000)
    work: int = 20_000
    more: int = 1
    whole: int = 10_000
    memory: tuple[int, ...] = (10_000, 100_000)
    streamed: int = 1_000_000
    block: int = 32768
    scored: int = 100_000
    product: int = 2048
    steps: int = 8


SIZES = {
    "cpu": Sizes(),
    "accelerator": Sizes(
        rows=(1000, 10_000, 100_000, 1_000_000), more=10, product=16384, steps=200
    ),
    "quick": Sizes(2, 16, (300,), 400, 1, 300, (300,), 4000, 512, 400, 256, 2),
}


def add_times(
    table: Table,
    what: str,
    seconds: Mapping[str, np.ndarray],
    unit: str,
    value: Callable[[np.ndarray], np.ndarray],
    digits: int = 1,
) -> None:
    """Adds tasks that took turns; their ratios are times divided by scikit-learn's."""
    reference = seconds.get(REFERENCE)
    for name, times in seconds.items():
        compared = reference is not None and name != REFERENCE
        ratios = times / reference if compared else ()
        add_row(table, f"{what}, {name}", unit, value(times), ratios, digits)


def measure_iterations(times: Table, rates: Table, sizes: Sizes, rows: int) -> None:
    """Adds EM iterations from the same responsibilities: times and what they led to; rates."""
    progress(f"measuring: EM iterations, {rows} rows ...")
    section, dtypes = f"{rows} rows", precisions(rows)
    compared = rows <= MOST_ROWS
    x, start = simulate(rows, sizes.columns, "float64" if compared else "float32")
    theirs = min(max(sizes.work // rows, 1), 10)
    bounds: dict[str, float] = {}
    tasks: dict[str, Callable[[], Any]] = {}
    if compared:
        model = SklearnMixture.from_start(start)
        model._initialize(x, start)
        initial = model._get_parameters()

        def sklearn_iterations() -> None:
            model.weights_, model.means_, model.covariances_, model.precisions_cholesky_ = initial
            for _ in range(theirs):
                bounds[REFERENCE], log_responsibilities = model._e_step(x)
                model._m_step(x, log_responsibilities)

        tasks[REFERENCE] = sklearn_iterations

    def our_iterations(name: str, program: OurIterations) -> None:
        bounds[name] = float(program.run()[theirs - 1])

    ours = theirs * sizes.more
    programs = {f"ours {dtype}": OurIterations.of(x, start, ours, dtype) for dtype in dtypes}
    tasks |= {name: partial(our_iterations, name, program) for name, program in programs.items()}
    products = (sizes.columns, sizes.product, sizes.steps)
    seconds = take_turns(tasks | product_tasks(*products, dtypes), sizes.rounds)
    each = {name: seconds[name] / (theirs if name == REFERENCE else ours) for name in tasks}
    add_times(times, f"iteration, {section}", each, "ms", lambda s: 1e3 * s)
    what = f"mean log-likelihood before iteration {theirs}, {section}"
    for name, value in bounds.items():
        add_row(times, f"{what}, {name}", "nats", [value], digits=4)
    if compared and "float64" in dtypes:
        np.testing.assert_allclose(bounds["ours float64"], bounds[REFERENCE], rtol=1e-6)
    of_products = measured_rates(*products, seconds)
    for dtype, rate in of_products.items():
        add_row(rates, f"matrix products, {dtype}, beside {section}", "GFLOP/s", rate / 1e9)
    dense = 4.0 * rows * COMPONENTS * sizes.columns**2
    for name in tasks:
        counted = {"dense formula's operations": dense}
        if name in programs:
            counted["operations done"] = programs[name].operations()
        for label, count in counted.items():
            dtype = name.split()[-1]
            if dtype in of_products:
                share = 100 * count / each[name] / of_products[dtype]
                add_row(rates, f"{label}, {section}, {name}", "% of products", share)


def measure_whole(sizes: Sizes) -> Table:
    """Whole fits to convergence from the same responsibilities."""
    progress("measuring: whole fits ...")
    x, start = simulate(sizes.whole, sizes.columns)
    start = _SPREAD / COMPONENTS + (1 - _SPREAD) * start
    section = f"{sizes.whole} rows"
    results: dict[str, tuple[int, Any]] = {}
    options: Any = {"tol": _TOLERANCE}

    def theirs(x: np.ndarray, name: str) -> None:
        model = SklearnMixture.from_start(start, max_iter=_WHOLE_ITERATIONS, **options)
        model.quiet_fit(x)
        results[name] = model.n_iter_, gmm.from_sklearn(model)

    def ours(x: np.ndarray, name: str) -> None:
        options_of_ours = {**options, "max_iters": _WHOLE_ITERATIONS, "reg_covar": REG_COVAR}
        with precision(x.dtype.name):
            fit = gmm.fit(jax.random.key(0), x, responsibilities=start, **options_of_ours)
        results[name] = len(fit.history), fit.gmm

    table = comparison("Whole fit", _COMPARED)
    tasks = {REFERENCE: partial(theirs, x, REFERENCE)}
    for dtype in precisions(sizes.whole):
        tasks[f"ours {dtype}"] = partial(ours, x.astype(dtype), f"ours {dtype}")
    try:
        theirs(x.astype("float32"), _SINGLE)
    except ValueError as error:
        table.notes = [f"{_SINGLE}, {section}, raises: {error}"]
    else:
        table.notes = [f"{_SINGLE}, {section}, raises nothing."]
        tasks[_SINGLE] = partial(theirs, x.astype("float32"), _SINGLE)
    add_times(table, f"whole fit, {section}", take_turns(tasks, sizes.rounds), "s", lambda s: s, 3)
    for name in tasks:
        add_row(table, f"iterations, {section}, {name}", "-", [results[name][0]], digits=0)
    for name in tasks:
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), results[name][1])
            mean = float(gmm.log_density(wide, x).mean())
        what = f"final mean log-likelihood, {section}, {name}"
        add_row(table, what, "nats", [mean], digits=4)
    return table


def measure_scoring(sizes: Sizes) -> Table:
    """Log-densities of rows in host memory under the same mixture."""
    progress("measuring: scoring ...")
    x, start = simulate(sizes.scored, sizes.columns)
    model = SklearnMixture.from_start(start)
    model._initialize(x, start)
    found: dict[str, float] = {}

    def theirs() -> None:
        found[REFERENCE] = float(model.score_samples(x).mean())

    def ours(mixture: Any, x: Any, name: str, dtype: str) -> None:
        with precision(dtype):
            found[name] = float(np.asarray(gmm.log_density(mixture, x)).mean(dtype=np.float64))

    tasks: dict[str, Callable[[], Any]] = {REFERENCE: theirs}
    for dtype in precisions(sizes.scored):
        places: dict[str, Any] = {f"ours {dtype}": x.astype(dtype)}
        with precision(dtype):
            wide = gmm.from_sklearn(model)
            mixture = jax.tree.map(partial(jax.numpy.asarray, dtype=dtype), wide)
            if jax.default_backend() != "cpu":
                placed = jax.numpy.asarray(x, dtype)
                places[f"ours {dtype}, rows already on the device"] = placed
        for name, rows in places.items():
            tasks[name] = partial(ours, mixture, rows, name, dtype)
    table, section = comparison("Scoring", _COMPARED), f"{sizes.scored} rows"
    seconds = take_turns(tasks, sizes.rounds)
    unit = "log-densities/s"
    add_times(table, f"scoring, {section}", seconds, unit, lambda s: sizes.scored / s)
    for name, mean in found.items():
        add_row(table, f"mean log-density, {section}, {name}", "nats", [mean], digits=4)
    return table


NOTES = f"""Data: SIMULATED, {COMPONENTS} far components (responsibilities nearly one-hot), columns
correlated and ill-conditioned, mean variance one. Full covariances, reg_covar {REG_COVAR:g} for
all programs, the same responsibilities to start from: one-hot, a tenth of the rows in a wrong
component. The last column is the time or memory divided by that of scikit-learn in float64, times
in the neighbouring turn.

- **EM iteration**: E-step and M-step on rows that are in place. On CPU jaxlib factorises the
  covariances with OpenBLAS, like scikit-learn, whose threads wait for each other on a busy machine:
  see "EM" in benchmarks/README.md.
- **Rates** are fractions of the matrix products measured in the same turn (XLA or NumPy, whichever
  is faster; on several accelerators, times their number). The dense formula is 4 x rows x
  components x columns^2: the products that scikit-learn does. Ours does fewer (half of a triangular
  or symmetric product is left out in part, and so are tiles of rows that do not belong to a
  component): the fraction of the dense formula's operations can exceed 100 %. The operations done
  are those of ours, with padding, and with factors and inverses at 1/3 columns^3 each.
- **Whole fit**: the public functions, to tol {_TOLERANCE:g}, with checks of the data and
  preparation, without compilation; the start is softer, {100 * _SPREAD:.0f} % of every row's
  responsibility spread evenly. Every final mixture is scored in float64 on the same float64 rows.
- **Peak memory**: in a process of its own, anonymous memory beyond that before the fit, so without
  the rows that are fitted. Two iterations, in a second fit; the first one also compiles.
- **Streamed**: a float32 file, read through a memory map, three iterations from the default start;
  the first is not timed.
- **Scoring**: rows in host memory, unless it says otherwise."""


def _blas() -> str:
    """The libraries of linear algebra in this process, and their threads."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    words = [f"{p['internal_api']} {p['version']}: {p['num_threads']} threads" for p in pools]
    return ", ".join(words) or "not known"


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""
    # The memory of an accelerator is for the processes of the cases, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    report = Report("gmm", "Mixtures", command_line(__doc__).parse_args(argv), SIZES)
    report.remarks = [f"BLAS: {_blas()}.", NOTES]
    sizes = report.sizes
    # First: a used accelerator stays occupied.
    report.add(measure_memory(sizes.memory, sizes.columns))
    report.add(measure_streamed(sizes.streamed, sizes.columns, sizes.block))
    times, rates = comparison("EM iteration", _COMPARED), comparison("Rates", "-")
    for rows in sizes.rows:
        measure_iterations(times, rates, sizes, rows)
    report.add(times, rates)
    report.add(measure_whole(sizes))
    report.add(measure_scoring(sizes))


if __name__ == "__main__":
    main()
