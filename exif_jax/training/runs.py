"""A run's directory: its configuration, its metrics, its log."""

import contextlib
import json
import logging
import os
import reprlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from data_pipelines.disk import in_words, naming
from data_pipelines.errors import UserError
from data_pipelines.files import (
    append_text,
    read_json,
    read_json_lines,
    reading,
    write_json,
    write_json_lines,
)
from data_pipelines.fingerprints import Fingerprint, differences
from data_pipelines.mirrors import mirrored, place_of, renew, shown, synchronise
from data_pipelines.skipped import SkippedFiles, gather_skipped
from data_pipelines.storage import check_path, is_uri
from data_pipelines.terminal import LogFormatter
from exif_jax.config import flat, to_json
from exif_jax.training.events import Events
from exif_jax.training.shares import raise_everywhere
from exif_jax.training.timeline import record_start

_log = logging.getLogger(__name__)
# Fields that may change between the parts of one run without changing what it computes.
_FREE = {"steps", "data.threads", "data.workers", "data.descriptions", "data.cache", "memory_gib"}
_FREE |= {"accumulate", "checkpoint_minutes", "hang_minutes", "profile_steps", "trackers"}
_FREE |= {"model.remat"}
_SHOWN = 8  # differing fields in a message
_PACKAGES = ("exif_jax", "data_pipelines", "configs")
CHECKPOINTS = "checkpoints"
_IN_OBJECT_STORAGE = ("pretext", "binary")  # whose processes may be several there


def run_folder(place: str) -> contextlib.AbstractContextManager[Path]:
    """The workdir of a run while the block runs: local, or standing for one at gs:// or s3://.

    Raises:
        UserError: what is there is no run, or object storage cannot be reached, read or written.
    """
    return mirrored(place, "config.json", frozenset({"data.json"}), (CHECKPOINTS,))


def open_run(
    workdir: Path,
    config: Any,
    kind: str,
    data: Callable[[], Mapping[str, Fingerprint]] = dict,
    *,
    begins_anew: bool = False,
) -> None:
    """Makes the workdir a run of this configuration and data, or checks that it already is one.

    Args:
        workdir: created if needed.
        config: of the run; written to config.json.
        kind: name of the stage.
        data: gives what the run computes with, by the field of the configuration that says where it
            is; written to data.json. The same data may be at another place. Only the first process
            asks.
        begins_anew: whether the run itself leaves what it has computed of other data, which is then
            logged and not refused.

    Raises:
        UserError: the workdir holds another run, or files that are no run; on every process.
    """
    message, notes = "", list[str]()
    _check_processes(place_of(workdir), kind)
    if jax.process_index() == 0:
        try:
            wanted, default = {"stage": kind, **to_json(config)}, to_json(type(config)())
            notes = _open_run(workdir, wanted, default, data(), begins_anew)
            synchronise(workdir)
        except UserError as error:
            message = shown(error)
        except OSError as error:
            message = in_words(error)
    if jax.process_count() > 1:
        raise_everywhere(message)
    if message:
        raise UserError(message)
    if jax.process_index() == 0:
        record_start(workdir)
        _log_to_file(workdir / "log.txt")
        for note in notes:
            _log.info("%s", note)


def _check_processes(place: str, kind: str) -> None:
    """Refuses runs of several processes in object storage for which they need a common folder."""
    if jax.process_count() == 1 or not is_uri(place):
        return
    remedy = "give a folder that all processes share, such as one of NFS, or start one process"
    if place.startswith("s3://"):
        raise UserError(
            f"{place}: Orbax writes checkpoints of several processes to gs:// and to folders, not "
            f"to s3://; {remedy}"
        )
    if kind not in _IN_OBJECT_STORAGE:
        raise UserError(f"{place}: processes of {kind} read each other's files; {remedy}")


def _open_run(
    workdir: Path,
    wanted: dict[str, Any],
    default: dict[str, Any],
    data: Mapping[str, Fingerprint],
    begins_anew: bool,
) -> list[str]:
    """Checks, and writes config.json and data.json; returns what is to be logged."""
    check_path(workdir)
    path, data_path = workdir / "config.json", workdir / "data.json"
    kept: dict[str, Fingerprint] = {}
    notes: list[str] = []
    if path.exists():
        kept = _kept_data(data_path)
        # A field that an older version did not know had what is now its default.
        new, known = flat(wanted), flat(default)
        with reading(path, "choose another --workdir, or restore it"):
            there = flat(read_json(path))
        old = {name: known[name] for name in new.keys() & known.keys()} | there
        free = _FREE if new.get("optimizer.schedule") != "cosine" else _FREE - {"steps"}
        differing = [
            f"{name[:100]}: {reprlib.repr(old.get(name))} there, {reprlib.repr(new.get(name))} now"
            for name in sorted(old | new)
            if old.get(name) != new.get(name)
            and name not in free
            and not (name in kept and name in data)
        ]
        other_data = [
            f"{name} = {new[name]} has other data: {', '.join(found)}"
            for name in sorted(kept.keys() & data.keys())
            if (found := differences(kept[name], data[name]))
        ]
        if begins_anew and other_data:
            notes = [f"{text}; all is done anew" for text in other_data]
            kept, other_data = {}, []
        if differing or other_data:
            more = len(differing) - _SHOWN
            shown = differing[:_SHOWN] + ([f"and {more} more"] if more > 0 else []) + other_data
            raise UserError(
                f"{workdir} holds another run ({'; '.join(shown)}): choose "
                "another --workdir, or give that run's configuration and data to continue it"
            )
        if not notes and data.keys() - kept.keys():
            notes.append(
                f"{data_path}: written now; that the data are those that the run began with is not "
                "known, as it began with an earlier version"
            )
    elif workdir.is_dir() and {x.name for x in workdir.iterdir()} - {data_path.name}:
        raise UserError(f"{workdir} is not empty and holds no run: choose another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    # The configuration comes last: with it the run has begun.
    if data.keys() - kept.keys():
        write_json(data_path, {k: found.to_json() for k, found in {**data, **kept}.items()})
    write_json(path, wanted)
    return notes


def _kept_data(path: Path) -> dict[str, Fingerprint]:
    if not path.exists():
        return {}
    try:
        return {name: Fingerprint.from_json(found) for name, found in read_json(path).items()}
    except (AttributeError, UserError) as error:
        raise UserError(
            f"{path}: damaged ({error}); delete it if the data are still those that the run began "
            "with, then it is written again"
        ) from error


def open_skipped(workdir: Path) -> SkippedFiles:
    """The list of skipped files of this process; an earlier part may have had any number of them.

    All processes of a run call this.
    """
    process = jax.process_index()
    if process == 0:
        gather_skipped(workdir)
        synchronise(workdir)
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("lists of skipped files")
        if process:
            renew(workdir)
    return SkippedFiles(workdir, process)


def _log_to_file(path: Path) -> None:
    handler = _LogFile(path)
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    for name in _PACKAGES:
        package = logging.getLogger(name)
        for old in [h for h in package.handlers if isinstance(h, _LogFile)]:
            package.removeHandler(old)
        package.addHandler(handler)
        package.setLevel(logging.INFO)


class _LogFile(logging.Handler):
    """Appends whole lines; raises what the disk fails with, where others print a stack trace."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        append_text(path, "")  # it is there, also if nothing is said

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record, unless the run's folder is gone."""
        with contextlib.suppress(FileNotFoundError):
            append_text(self._path, self.format(record) + "\n")


def log_to_terminal() -> None:
    """Shows the project's messages on standard error."""
    # Orbax logs the stack traces of what it raises afterwards.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter("%(message)s"))
    for name in _PACKAGES:
        logging.getLogger(name).addHandler(handler)
        logging.getLogger(name).setLevel(logging.INFO)
        logging.getLogger(name).propagate = False  # other libraries' handlers would repeat them


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, see `MetricsLog`; none if there is no such file.

    Raises:
        UserError: it is damaged.
    """
    rows = read_json_lines(path)
    with reading(path, "restore it, or start the run anew in another --workdir"):
        for number, row in enumerate(rows, start=1):
            numbers = [row[name] for name in row.keys() - {"split"}]
            if not isinstance(row["step"], int) or not isinstance(row["split"], str):
                raise ValueError(f"no step or no split in line {number}")
            if not all(isinstance(x, int | float) for x in numbers):
                raise ValueError(f"no number in line {number}")
    return rows


class MetricsLog:
    """metrics.jsonl and TensorBoard events of a run; only the first process writes.

    A line is {"step", "split", name: number, ...}. Opening it at a step drops the lines after that
    step, which a continued run is about to write again. Lines are not kept in memory.
    """

    def __init__(self, workdir: Path, step: int) -> None:
        """Opens the log of a run that continues after `step`."""
        self._path = workdir / "metrics.jsonl"
        rows = [row for row in read_metrics(self._path) if row["step"] <= step]
        self._last: dict[str, dict[str, Any]] = {}  # line of each split
        self._lowest: dict[tuple[str, str], float] = {}  # value of each split's names
        for row in rows:
            self._remember(row)
        self._writes = jax.process_index() == 0
        if self._writes:
            write_json_lines(self._path, rows)
            self._events = Events(workdir / "tensorboard", step + 1)

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """Adds one line, and the same numbers to TensorBoard."""
        row = {"step": step, "split": split, **numbers}
        self._remember(row)
        if self._writes:
            append_text(self._path, json.dumps(row) + "\n")
            for name, value in numbers.items():
                self._events.add(f"{split}/{name}", value, step)

    def lowest(self, split: str, name: str) -> float | None:
        """Smallest value so far, or None."""
        return self._lowest.get((split, name))

    def last(self, split: str) -> dict[str, float]:
        """The numbers of the last line so far; empty if there is none."""
        row = self._last.get(split, {})
        return {k: v for k, v in row.items() if k not in ("step", "split")}

    def last_step(self, split: str) -> int:
        """Of the lines so far; 0 if there are none."""
        return int(self._last.get(split, {}).get("step", 0))

    def _remember(self, row: dict[str, Any]) -> None:
        split = row["split"]
        self._last[split] = row
        for name in row.keys() - {"split"}:
            # As `min` does, so that a NaN stays only where it came first.
            self._lowest[split, name] = min(self._lowest.get((split, name), row[name]), row[name])

    def flush(self) -> None:
        """Brings everything written so far to the disk, and to the storage that this stands for."""
        if self._writes:
            with naming(self._path), self._path.open("rb") as file:
                os.fsync(file.fileno())
            self._events.flush()
        synchronise(self._path.parent)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self.flush()
