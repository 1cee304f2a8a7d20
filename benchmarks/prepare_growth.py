"""More photos: time and memory, an interruption, and the plan of very many."""

import dataclasses
import gc
import time
import tracemalloc
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from prepare_photos import Kind
from prepare_report import Table, spread
from prepare_runs import Peaks, Prepare, digest_of_records
from speed_report import take_turns

from data_pipelines.prepare.catalogue import Catalogue
from data_pipelines.prepare.engines import LocalEngine
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.parts import num_parts
from data_pipelines.prepare.plan import load_catalogue, make_plan
from data_pipelines.prepare.run import describe_command, find_photos, read_and_plan
from data_pipelines.prepare.workspace import Workspace

_MEBI = 2**20


def measure_growth(kinds: Sequence[Kind], prepare: Prepare, workers: int, rounds: int) -> Table:
    """Time and peak memory as photos grow in number.

    Args:
        kinds: the sets, growing.
        prepare: runs the command.
        workers: of it.
        rounds: turns.
    """
    peaks: dict[str, list[Peaks]] = {kind.name: [] for kind in kinds}

    def run(kind: Kind) -> None:
        prepare.run(kind, workers, watch=True)
        peaks[kind.name].append(prepare.peaks[-1])

    seconds = take_turns({kind.name: partial(run, kind) for kind in kinds}, rounds)
    table = Table(
        "More photos",
        (
            *("SIMULATED photos of a megapixel", "s", "ms a photo", "relative"),
            *("ms each further photo", "relative", "peak MiB, parent", "peak MiB, largest child"),
        ),
        notes=[
            f"{workers} workers. 'Further' is the time beyond that of the line above, so without "
            "the start of the command. Memory is resident, libraries included, the highest of all "
            "turns.",
        ],
    )
    counts = {kind.name: len(kind.paths) for kind in kinds}
    first = kinds[0].name
    known: np.ndarray | None = None
    for before, kind in zip([None, *kinds], kinds, strict=False):
        name = kind.name
        each = 1e3 * seconds[name] / counts[name]
        further, relative = "-", "-"
        if before is not None:
            more = seconds[name] - seconds[before.name]
            slope = 1e3 * more / (counts[name] - counts[before.name])
            further = spread(slope, 1)
            relative = "1" if known is None else spread(slope / known)
            known = slope if known is None else known
        parent = max(peak.parent for peak in peaks[name])
        child = max(peak.child for peak in peaks[name])
        table.lines.append(
            (
                str(counts[name]),
                spread(seconds[name], 1),
                f"{np.median(each):.1f}",
                "1" if name == first else spread(each / (1e3 * seconds[first] / counts[first])),
                further,
                relative,
                f"{parent / _MEBI:.0f}" if parent else "unknown",
                f"{child / _MEBI:.0f}" if child else "unknown",
            )
        )
        table.measured[name] = {
            "photos": counts[name],
            "seconds": seconds[name].tolist(),
            "peaks": [dataclasses.asdict(peak) for peak in peaks[name]],
        }
    prepare.clear()
    return table


def measure_interruption(kind: Kind, prepare: Prepare, workers: int, rounds: int) -> Table:
    """A run that is killed at half and continued, and a finished one that is started again.

    Args:
        kind: what is prepared.
        prepare: runs the command.
        workers: of it.
        rounds: turns.
    """
    parts = num_parts(len(kind.paths))
    finished: list[Path] = []
    continued: list[Path] = []
    laps: dict[str, list[float]] = {"until killed": [], "continued": []}

    def whole() -> None:
        prepare.run(kind, workers)
        finished.append(prepare.last)

    def killed() -> None:
        start = time.perf_counter()
        out = prepare.run_killed(kind, workers, parts)
        laps["until killed"].append(time.perf_counter() - start)
        start = time.perf_counter()
        prepare.run(kind, workers, out)
        laps["continued"].append(time.perf_counter() - start)
        continued.append(out)

    def again() -> None:
        prepare.run(kind, workers, finished[-1])

    tasks = {"not interrupted": whole, "killed at half and continued": killed}
    tasks["finished, started again"] = again
    seconds = take_turns(tasks, rounds)
    if digest_of_records(continued[-1]) != digest_of_records(finished[-1]):
        raise RuntimeError("a run that was killed and continued gave other records")
    table = Table(
        "An interruption",
        (f"{len(kind.paths)} SIMULATED photos", "s", "relative"),
        notes=[
            f"Killed (SIGKILL) when half of {parts} parts were there. The records of the last "
            "turn were compared: they are the same.",
        ],
        measured={"photos": len(kind.paths), "parts": parts},
    )
    for name, times in seconds.items():
        relative = "1" if name == "not interrupted" else spread(times / seconds["not interrupted"])
        table.lines.append((name, spread(times), relative))
    for name, values in laps.items():
        table.lines.append((f"of that: {name}", spread(values[1:]), "-"))
    every = {name: times.tolist() for name, times in seconds.items()}
    table.measured["seconds"] = every | {name: values[1:] for name, values in laps.items()}
    prepare.clear()
    return table


def _bytes_of(catalogue: Catalogue) -> int:
    columns = [getattr(catalogue, field.name) for field in dataclasses.fields(catalogue)]
    arrays = [column for column in columns if isinstance(column, np.ndarray)]
    return sum(array.nbytes for array in [*arrays, *catalogue.values.values()])


def _many(catalogue: Catalogue, count: int) -> Catalogue:
    """A catalogue of other photos with the same values, all different and not in bursts."""
    rng = np.random.default_rng(0)
    many = catalogue.select(np.arange(count) % len(catalogue))
    ids = rng.permutation(count).astype(np.int64) + 2**40
    seconds = rng.permutation(count) * 120.0
    part = np.arange(count, dtype=np.int32) // 128
    return dataclasses.replace(many, photo=ids, seconds=seconds, part=part)


def measure_plan(kind: Kind, folder: Path, counts: Sequence[int]) -> Table:
    """What the parent holds of every photo, and what deciding what goes where takes.

    Args:
        kind: photos that are really read.
        folder: to make.
        counts: of the photos that are planned; their values are repeated.
    """
    options = Options(reject=("duplicate",), validation_fraction=0.1, burst_seconds=0.0)
    items, sidecars = find_photos([kind.folder], ())
    asked = describe_command([kind.folder], (), items, options)
    workspace = Workspace(epath.Path(folder))
    read_and_plan(workspace, asked, items, sidecars, options, LocalEngine(1))
    load: Callable[[], Any] = partial(load_catalogue, workspace.parts, num_parts(len(items)))
    catalogue = load()
    start = time.perf_counter()
    load()
    gathering = (time.perf_counter() - start) / len(items)
    table = Table(
        "The parent's part",
        (
            *("photos (values repeated)", "catalogue, bytes a photo", "plan, s", "us a photo"),
            "plan's peak, bytes a photo beside the catalogue",
        ),
        notes=[
            f"Gathering the catalogue from the parts takes {1e3 * gathering:.2f} ms a photo. The "
            "peak is of Python's and NumPy's own counting (tracemalloc), in a second run.",
        ],
        measured={"gathering_seconds_per_photo": gathering},
    )
    for count in counts:
        many = _many(catalogue, count)
        start = time.perf_counter()
        make_plan(many, options, coded=False)
        seconds = time.perf_counter() - start
        gc.collect()
        tracemalloc.start()
        make_plan(many, options, coded=False)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        size = _bytes_of(many) / count
        cells = (f"{size:.0f}", f"{seconds:.2f}", f"{1e6 * seconds / count:.1f}")
        table.lines.append((f"{count:,}", *cells, f"{peak / count:.0f}"))
        table.measured[str(count)] = {
            "catalogue_bytes_per_photo": size,
            "plan_seconds": seconds,
            "plan_peak_bytes_per_photo": peak / count,
        }
    return table
