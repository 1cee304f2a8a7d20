"""Speed and memory of fitting and scoring Gaussian mixtures, against scikit-learn.

python benchmarks/gmm.py

What is compared takes turns within one run, and the ratios are of neighbouring turns. The tables go
to the terminal and, with the machine and the versions, to results/gmm_DEVICE.md and .json beside
this file. `--quick` checks the script itself within a minute, with sizes whose numbers mean
nothing. All data are simulated.
"""

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
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
from speed_report import Row, describe_machine, grid, heading, take_turns, write_results
from threadpoolctl import threadpool_info  # comes with scikit-learn

from exif_jax import gmm

_WHOLE_ITERATIONS = 100  # of a whole fit, at most
_TOLERANCE = 1e-3
_SPREAD = 0.9  # share of the responsibilities that is equal for all components at their start


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
        streamed: rows of the streamed data; a tenth is measured beside them. 0: left out.
        block: of these rows in memory at once.
        scored: rows that are scored.
        product: rows of the matrix products that tell the machine's rate.
        steps: of such products in a turn.
    """

    rounds: int
    columns: int
    rows: tuple[int, ...]
    work: int
    more: int
    whole: int
    memory: tuple[int, ...]
    streamed: int
    block: int
    scored: int
    product: int
    steps: int


_MEMORY = (10_000, 100_000)
SIZES = {
    "cpu": Sizes(
        5, 528, (1000, 10_000, 100_000), 20_000, 1, 10_000, _MEMORY, 1_000_000, 32768, 100_000,
        product=2048, steps=8,
    ),
    "accelerator": Sizes(
        5, 528, (1000, 10_000, 100_000, 1_000_000), 20_000, 10, 10_000, _MEMORY, 1_000_000, 32768,
        100_000, product=16384, steps=200,
    ),
    "quick": Sizes(
        2, 16, (200, 300), 400, 1, 300, (300,), 4000, 512, 400, product=256, steps=2
    ),
}  # fmt: skip


def timed(
    section: str, seconds: Mapping[str, np.ndarray], unit: str, value: Callable[..., np.ndarray]
) -> list[Row]:
    """Rows of tasks that took turns; their ratios are times divided by the reference's."""
    reference = seconds.get(REFERENCE)
    rows = []
    for name, times in seconds.items():
        values = tuple(map(float, value(times)))
        if reference is None or name == REFERENCE:
            rows.append(Row(f"{section}, {name}", unit, values))
            continue
        ratios = tuple(map(float, times / reference))
        rows.append(Row(f"{section}, {name}", unit, values, ratios, f"{section}, {REFERENCE}"))
    return rows


def measure_iterations(sizes: Sizes, rows: int) -> tuple[list[Row], list[Row]]:
    """EM iterations from the same responsibilities.

    Returns:
        Times and what they led to; rates.
    """
    section = f"{rows} rows"
    dtypes = precisions(rows)
    compared = rows <= MOST_ROWS
    x, start = simulate(rows, sizes.columns, "float64" if compared else "float32")
    theirs = min(max(sizes.work // rows, 1), 10)
    iterations = theirs * sizes.more
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
    programs = {f"ours {dtype}": OurIterations.of(x, start, iterations, dtype) for dtype in dtypes}
    for name, program in programs.items():

        def our_iterations(name: str = name, program: OurIterations = program) -> None:
            bounds[name] = float(program.run()[theirs - 1])

        tasks[name] = our_iterations
    products = product_tasks(sizes.columns, sizes.product, sizes.steps, dtypes)
    seconds = take_turns(tasks | products, sizes.rounds)
    rates = measured_rates(sizes.columns, sizes.product, sizes.steps, seconds)
    each = {name: seconds[name] / (theirs if name == REFERENCE else iterations) for name in tasks}
    times = timed(f"iteration, {section}", each, "ms", lambda s: 1e3 * s)
    what = f"mean log-likelihood before iteration {theirs}, {section}"
    times += [Row(f"{what}, {name}", "nats", (value,), digits=4) for name, value in bounds.items()]
    if compared and "float64" in dtypes:
        np.testing.assert_allclose(bounds["ours float64"], bounds[REFERENCE], rtol=1e-6)
    fractions = []
    for dtype, rate in rates.items():
        name = f"matrix products, {dtype}, beside {section}"
        fractions.append(Row(name, "GFLOP/s", tuple(map(float, rate / 1e9))))
    dense = 4 * rows * COMPONENTS * sizes.columns**2
    for name in tasks:
        rate = rates.get(name.split()[-1])
        if rate is None:
            continue
        counted = {"dense formula's operations": float(dense)}
        if name in programs:
            counted["operations done"] = programs[name].operations()
        for label, count in counted.items():
            share = 100 * count / each[name] / rate
            fractions.append(
                Row(f"{label}, {section}, {name}", "% of products", tuple(map(float, share)))
            )
    return times, fractions


def measure_whole(sizes: Sizes) -> tuple[list[Row], list[str]]:
    """Whole fits to convergence from the same responsibilities, and remarks on them."""
    x, start = simulate(sizes.whole, sizes.columns)
    start = _SPREAD / COMPONENTS + (1 - _SPREAD) * start
    section = f"{sizes.whole} rows"
    results: dict[str, tuple[int, Any]] = {}

    def theirs(x: np.ndarray, name: str) -> None:
        model = SklearnMixture.from_start(start, tol=_TOLERANCE, max_iter=_WHOLE_ITERATIONS)
        model.quiet_fit(x)
        results[name] = model.n_iter_, gmm.from_sklearn(model)

    def ours(x: np.ndarray, name: str) -> None:
        with precision(x.dtype.name):
            fit = gmm.fit(
                jax.random.key(0),
                x,
                responsibilities=start,
                reg_covar=REG_COVAR,
                tol=_TOLERANCE,
                max_iters=_WHOLE_ITERATIONS,
            )
        results[name] = len(fit.history), fit.gmm

    tasks = {REFERENCE: partial(theirs, x, REFERENCE)}
    for dtype in precisions(sizes.whole):
        tasks[f"ours {dtype}"] = partial(ours, x.astype(dtype), f"ours {dtype}")
    single = "scikit-learn float32"
    try:
        theirs(x.astype("float32"), single)
    except ValueError as error:
        remarks = [f"{single}, {section}, raises: {error}"]
    else:
        remarks = [f"{single}, {section}, raises nothing."]
        tasks[single] = partial(theirs, x.astype("float32"), single)
    rows = timed(f"whole fit, {section}", take_turns(tasks, sizes.rounds), "s", lambda s: s)
    rows = [dataclasses.replace(row, digits=3) for row in rows]
    for name in tasks:
        count = (float(results[name][0]),)
        rows.append(Row(f"iterations, {section}, {name}", "-", count, digits=0))
    for name in tasks:
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda a: np.asarray(a, np.float64), results[name][1])
            mean = float(gmm.log_density(wide, x).mean())
        rows.append(Row(f"final mean log-likelihood, {section}, {name}", "nats", (mean,), digits=4))
    return rows, remarks


def measure_scoring(sizes: Sizes) -> list[Row]:
    """Log-densities of rows in host memory under the same mixture."""
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
        narrow = x.astype(dtype)
        with precision(dtype):
            mixture = jax.tree.map(
                lambda a, dtype=dtype: jax.numpy.asarray(a, dtype), gmm.from_sklearn(model)
            )
            places = {f"ours {dtype}": narrow}
            if jax.default_backend() != "cpu":
                places[f"ours {dtype}, rows already on the device"] = jax.numpy.asarray(narrow)
        for name, rows in places.items():
            tasks[name] = partial(ours, mixture, rows, name, dtype)
    seconds = take_turns(tasks, sizes.rounds)
    section = f"{sizes.scored} rows"
    rows = timed(f"scoring, {section}", seconds, "log-densities/s", lambda s: sizes.scored / s)
    what = f"mean log-density, {section}"
    rows += [Row(f"{what}, {name}", "nats", (mean,), digits=4) for name, mean in found.items()]
    return rows


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
- **Scoring**: rows in host memory, unless it says otherwise.
"""


def measure_all(sizes: Sizes) -> tuple[dict[str, list[Row]], list[str]]:
    """Every section of the report, and remarks."""
    print("measuring: peak memory ...", flush=True)  # first: a used accelerator stays occupied
    memory, remarks = measure_memory(sizes.memory, sizes.columns)
    print("measuring: streamed ...", flush=True)
    streamed, more = measure_streamed(
        sizes.streamed, sizes.columns, sizes.block, again=sizes.rounds > 2
    )
    remarks += more
    times, rates = [], []
    for rows in sizes.rows:
        print(f"measuring: EM iterations, {rows} rows ...", flush=True)
        some_times, some_rates = measure_iterations(sizes, rows)
        times += some_times
        rates += some_rates
    print("measuring: whole fits ...", flush=True)
    whole, more = measure_whole(sizes)
    remarks += more
    print("measuring: scoring ...", flush=True)
    scoring = measure_scoring(sizes)
    sections = {
        "EM iteration": times,
        "Rates": rates,
        "Whole fit": whole,
        "Peak memory": memory,
        "Streamed": streamed,
        "Scoring": scoring,
    }
    return sections, remarks


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the tables and writes the results."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(number) for number in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check the script")
    parser.add_argument("--rows", type=numbers, help="of timed iterations, such as 1000,10000")
    parser.add_argument("--streamed", type=int, help="rows in a file; 0: not measured")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of results"
    )
    options = parser.parse_args(argv)
    # The memory of an accelerator is for the processes of the cases, too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    machine = describe_machine()
    machine["blas"] = (
        ", ".join(
            f"{pool['internal_api']} {pool['version']}: {pool['num_threads']} threads"
            for pool in threadpool_info()
            if pool["user_api"] == "blas"
        )
        or "not known"
    )
    kind = "cpu" if machine["platform"] == "cpu" else "accelerator"
    sizes = SIZES["quick" if options.quick else kind]
    if options.rows:
        sizes = dataclasses.replace(sizes, rows=options.rows)
    if options.streamed is not None:
        sizes = dataclasses.replace(sizes, streamed=options.streamed)
    sections, remarks = measure_all(sizes)
    compared = {"Streamed": "times that of a tenth of the rows"}
    parts = [f"{heading(machine, options.quick)}\nBLAS: {machine['blas']}.", NOTES.rstrip()]
    for title, rows in sections.items():
        if rows:
            parts.append(f"## {title}\n\n{grid(rows, compared.get(title, 'times scikit-learn'))}")
    if remarks:
        parts.append("\n".join(f"- {remark}" for remark in remarks))
    text = "\n\n".join(parts)
    print(f"\n{text}")
    results = {
        "quick": options.quick,
        "machine": machine,
        "sizes": dataclasses.asdict(sizes),
        "remarks": remarks,
        "sections": {
            title: [dataclasses.asdict(row) for row in rows] for title, rows in sections.items()
        },
    }
    path = write_results(options.out, "gmm", f"# Mixtures\n\n{text}\n", machine, results)
    print(f"\nwritten: {path}.md and .json")


if __name__ == "__main__":
    main()
