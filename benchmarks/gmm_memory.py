"""Peak memory of fits, each in a process of its own, and the growth of streamed fits.

Run as a program, with a `Case` as JSON, this file measures one fit and prints one line of JSON.
"""

import contextlib
import ctypes
import dataclasses
import gc
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
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
from speed_report import Row

from exif_jax import gmm
from exif_jax.gmm.start import SAMPLE

_STATUS = Path("/proc/self/status")


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
            does not tell; `compiling`: the same of a first fit, of ours in memory; `device_bytes`:
            peak of the accelerator's memory, or None; `seconds`: of every iteration but the first,
            if streamed.
        """
        argument = json.dumps(dataclasses.asdict(self))
        run = subprocess.run(
            [sys.executable, __file__, argument], stdout=subprocess.PIPE, text=True, check=True
        )
        result: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return result

    def run(self) -> dict[str, Any]:
        """What `measure` returns, in this process."""
        if self.program == "streamed":
            x = np.load(self.path, mmap_mode="r")[: self.rows]
            start = np.empty(0)
        else:
            x, start = simulate(self.rows, self.columns, self.dtype)
        with precision(self.dtype):
            # A first fit compiles. Streamed, few rows lead to the same programs as many.
            few = {"ours": self.rows, "streamed": max(self.block, SAMPLE) + 1}
            first_rows = few.get(self.program, 2 * COMPONENTS)
            with _Peak() as first:
                self._fit(x[:first_rows], start[:first_rows])
            with _Peak() as peak:
                times = self._fit(x, start)
        statistics = jax.devices()[0].memory_stats() or {}
        on_device = None if self.program == "scikit-learn" else statistics.get("peak_bytes_in_use")
        return {
            "bytes": peak.bytes,
            "compiling": first.bytes if self.program == "ours" else None,
            "device_bytes": on_device,
            "seconds": np.diff(times).tolist(),
        }

    def _fit(self, x: np.ndarray, start: np.ndarray) -> list[float]:
        """Fits, and returns when each iteration ended, if streamed."""
        times: list[float] = []
        options: dict[str, Any] = {"max_iters": self.iterations, "tol": 0.0}
        key = jax.random.key(0)
        match self.program:
            case "scikit-learn":
                model = SklearnMixture.from_start(start, max_iter=self.iterations, tol=0.0)
                model.quiet_fit(x)
            case "ours":
                gmm.fit(key, x, responsibilities=start, reg_covar=REG_COVAR, **options)
            case _:
                gmm.fit_stream(
                    key,
                    x,
                    reg_covar=REG_COVAR,
                    block_rows=self.block,
                    observe=lambda *_: times.append(time.perf_counter()),
                    **options,
                )
        return times


def _anonymous() -> int:
    """Bytes of this process in memory that are no pages of files."""
    found = re.search(r"RssAnon:\s*(\d+) kB", _STATUS.read_text())
    assert found
    return 1024 * int(found[1])


class _Peak:
    """Peak of anonymous memory inside a `with`, beyond that before it, sampled.

    Attributes:
        bytes: the peak, or None where the system does not tell.
    """

    bytes: int | None = None

    def __enter__(self) -> "_Peak":
        self._over = threading.Event()
        gc.collect()
        if _STATUS.is_file() and "RssAnon" in _STATUS.read_text():
            with contextlib.suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)  # or memory freed before would be used unseen
            self._before, self.bytes = _anonymous(), 0
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.005):
            self._look()

    def _look(self) -> None:
        self.bytes = max(self.bytes or 0, _anonymous() - self._before)

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self.bytes is not None:
            self._thread.join()
            self._look()


def measure_memory(counts: Sequence[int], columns: int) -> tuple[list[Row], list[str]]:
    """Peak memory of two iterations in memory, and remarks."""
    rows, remarks = [], []
    for count in counts:
        of_count: dict[str, int] = {}
        programs = [("scikit-learn", "float64"), *(("ours", dtype) for dtype in precisions(count))]
        for program, dtype in programs:
            case = Case(program, dtype, count, columns, iterations=2)
            print(f"  {case.name} ...", flush=True)
            result = case.measure()
            what = f"peak memory, {count} rows"
            name = f"{program} {dtype}"
            if result["bytes"] is None:
                remarks.append(f"{what}, {name}: not measured, this system does not tell.")
            else:
                of_count[name] = result["bytes"]
                against = of_count.get(REFERENCE) if name != REFERENCE else None
                ratios = (result["bytes"] / against,) if against else ()
                reference = f"{what}, {REFERENCE}" if against else ""
                rows.append(
                    Row(f"{what}, {name}", "MB", (result["bytes"] / 1e6,), ratios, reference)
                )
            if result["compiling"] is not None:
                value = (result["compiling"] / 1e6,)
                rows.append(Row(f"{what}, {name}, the first fit", "MB", value))
            rows += _device_memory(what, name, result)
    return rows, remarks


def _device_memory(what: str, name: str, result: Mapping[str, Any]) -> list[Row]:
    if result["device_bytes"] is None:
        return []
    return [Row(f"{what}, {name}, on the device", "MB", (result["device_bytes"] / 1e6,))]


def measure_streamed(
    most: int, columns: int, block: int, again: bool
) -> tuple[list[Row], list[str]]:
    """Time of an iteration and peak memory of rows in a file, and of a tenth of them.

    Args:
        most: rows in the file; 0: nothing is measured.
        columns: of them.
        block: rows in memory at once.
        again: whether the tenth is measured before and after, so that load by others is seen.

    Returns:
        The rows of the table, and remarks.
    """
    if not most:
        return [], ["Streamed rows: not measured, left out by --streamed 0."]
    counts = (max(most // 10, COMPONENTS), most)
    size = 4 * most * columns
    with tempfile.TemporaryDirectory() as folder:
        free = shutil.disk_usage(folder).free
        if free < 1.2 * size:
            return [], [
                f"Streamed rows: not measured, {size / 1e9:.1f} GB of rows need more than the "
                f"{free / 1e9:.1f} GB free in {Path(folder).parent} (TMPDIR sets another folder)."
            ]
        path = Path(folder, "rows.npy")
        print(f"  writing {size / 1e9:.2g} GB ...", flush=True)
        write_simulated(path, most, columns)
        results: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
        for count in (*counts, counts[0]) if again else counts:
            case = Case("streamed", "float32", count, columns, 3, path=str(path), block=block)
            print(f"  {case.name} ...", flush=True)
            results[count].append(case.measure())
    rows, remarks = [], []
    small, large = counts
    seconds = {
        count: np.concatenate([result["seconds"] for result in of_count])
        for count, of_count in results.items()
    }
    growth = (float(np.median(seconds[large]) / np.median(seconds[small])),)
    references = {
        what: f"{what}, {small} rows, streamed float32" for what in ("iteration", "peak memory")
    }
    for count in counts:
        ratios = growth if count == large else ()
        rows.append(
            Row(
                f"iteration, {count} rows, streamed float32",
                "s",
                tuple(map(float, seconds[count])),
                ratios,
                references["iteration"] if ratios else "",
                digits=3,
            )
        )
    if results[small][0]["bytes"] is None:
        return rows, ["Peak memory, streamed: not measured, this system does not tell."]
    peaks = {count: max(r["bytes"] for r in of_count) for count, of_count in results.items()}
    for count in counts:
        ratios = (peaks[large] / peaks[small],) if count == large else ()
        rows.append(
            Row(
                f"peak memory, {count} rows, streamed float32",
                "MB",
                tuple(r["bytes"] / 1e6 for r in results[count]),
                ratios,
                references["peak memory"] if ratios else "",
            )
        )
        rows += _device_memory(f"peak memory, {count} rows", "streamed", results[count][-1])
    return rows, remarks


if __name__ == "__main__":
    print(json.dumps(Case(**json.loads(sys.argv[1])).run()))
