"""Peak memory of fits, each in a process of its own, and the growth of streamed fits.

Run as a program, with a `Case` as JSON, this file measures one fit and prints one line of JSON.
"""

import contextlib
import ctypes
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from gmm_data import (
    COMPONENTS,
    REFERENCE,
    REG_COVAR,
    SklearnMixture,
    precision,
    precisions,
    simulate,
    write_simulated,
)
from measuring import PeakMemory, Table, add_row, comparison, progress

from exif_jax import gmm

_UNKNOWN = "Peak memory: this system does not tell."


@dataclasses.dataclass(frozen=True)
class Case:
    """One fit in a process of its own.

    Attributes:
        program: `scikit-learn`, `ours` or `streamed`.
        dtype: of the rows.
        rows: how many.
        columns: of them.
        iterations: of EM.
        path: file of the rows, if streamed.
        block: rows in memory at once, if streamed.
    """

    program: str
    dtype: str
    rows: int
    columns: int
    iterations: int
    path: str = ""
    block: int = 0

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.rows} rows, {self.program} {self.dtype}"

    def measure(self) -> dict[str, Any]:
        """Runs the case in a process of its own.

        Returns:
            `bytes`: peak of anonymous memory beyond that before the fit, or None where the system
            does not tell; `compiling`: the same of the first fit; `device_bytes`: peak of the
            accelerator's memory, or None; `seconds`: of every iteration but the first, if streamed.
        """
        progress(f"measuring: memory, {self.name} ...")
        words = [sys.executable, __file__, json.dumps(dataclasses.asdict(self))]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return result

    def run(self) -> dict[str, Any]:
        """What `measure` returns, in this process."""
        if self.path:
            x = np.load(self.path, mmap_mode="r")[: self.rows]
            start = np.empty(0)
        else:
            x, start = simulate(self.rows, self.columns, self.dtype)
        # A first fit compiles. Streamed, two blocks lead to the same programs as many.
        few = {"ours": self.rows, "streamed": 2 * self.block}
        first = few.get(self.program, 2 * COMPONENTS)
        times: list[float] = []
        with precision(self.dtype):
            compiling = _peak(lambda: self._fit(x[:first], start[:first], []))
            peak = _peak(lambda: self._fit(x, start, times))
        statistics = jax.devices()[0].memory_stats() or {}
        on_device = None if self.program == "scikit-learn" else statistics.get("peak_bytes_in_use")
        seconds = np.diff(times).tolist()
        return {
            **{"bytes": peak, "compiling": compiling},
            **{"device_bytes": on_device, "seconds": seconds},
        }

    def _fit(self, x: np.ndarray, start: np.ndarray, times: list[float]) -> None:
        """Fits; `times` gets when each iteration ended, if streamed."""
        ours: dict[str, Any] = {"max_iters": self.iterations, "tol": 0.0, "reg_covar": REG_COVAR}
        key = jax.random.key(0)
        match self.program:
            case "scikit-learn":
                model = SklearnMixture.from_start(start, max_iter=self.iterations, tol=0.0)
                model.quiet_fit(x)
            case "ours":
                gmm.fit(key, x, responsibilities=start, **ours)
            case _:

                def observe(*_: Any) -> None:
                    times.append(time.perf_counter())

                gmm.fit(key, gmm.Stream(x, self.block), observe=observe, **ours)


def _peak(run: Callable[[], object]) -> int | None:
    """Peak of this process's anonymous memory beyond that before; None where nobody tells."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # or memory freed before would be used unseen
    with PeakMemory(os.getpid(), "RssAnon", 0.005) as memory:
        before = memory.peaks.get(os.getpid())
        run()
    return None if before is None else memory.peaks[os.getpid()] - before


def _add_memory(table: Table, what: str, result: dict[str, Any], against: int | None) -> None:
    """Adds what a case took, in MB."""
    if result["bytes"] is None:
        table.notes = [_UNKNOWN]
    else:
        ratios = [result["bytes"] / against] if against else []
        add_row(table, what, "MB", [result["bytes"] / 1e6], ratios)
    if result["device_bytes"] is not None:
        add_row(table, f"{what}, on the device", "MB", [result["device_bytes"] / 1e6])


def measure_memory(counts: tuple[int, ...], columns: int) -> Table:
    """Peak memory of two iterations in memory."""
    table = comparison("Peak memory", "times scikit-learn")
    for count in counts:
        reference = None
        for name in (REFERENCE, *(f"ours {dtype}" for dtype in precisions(count))):
            program, dtype = name.split()
            result = Case(program, dtype, count, columns, iterations=2).measure()
            what = f"peak memory, {count} rows, {name}"
            _add_memory(table, what, result, reference)
            if name == REFERENCE:
                reference = result["bytes"]
            elif result["compiling"] is not None:
                add_row(table, f"{what}, the first fit", "MB", [result["compiling"] / 1e6])
    return table


def measure_streamed(most: int, columns: int, block: int) -> Table:
    """Time of an iteration and peak memory of rows in a file, and of a tenth of them.

    Args:
        most: rows in the file.
        columns: of them.
        block: rows in memory at once.
    """
    table = comparison("Streamed", "times that of a tenth of the rows")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        progress(f"writing {4e-9 * most * columns:.2g} GB into {folder} (TMPDIR sets another) ...")
        write_simulated(path, most, columns)
        seconds, bytes_before = 0.0, None
        for count in (max(most // 10, COMPONENTS), most):
            case = Case("streamed", "float32", count, columns, 3, str(path), block)
            result = case.measure()
            what = f"iteration, {count} rows, streamed float32"
            median = float(np.median(result["seconds"]))
            ratios = [median / seconds] if seconds else []
            add_row(table, what, "s", result["seconds"], ratios, digits=3)
            what = f"peak memory, {count} rows, streamed float32"
            _add_memory(table, what, result, bytes_before)
            seconds, bytes_before = median, result["bytes"]
    return table


if __name__ == "__main__":
    print(json.dumps(Case(**json.loads(sys.argv[1])).run()))
