"""`exif-jax prepare`: from whatever photos people have to training records.

Files are read in parts, each kept on disk as soon as it is whole; then everything that needs all
photos at once is decided (duplicates, bursts, split, classes), and the shards are written. After an
interruption the same command goes on with what is missing. See `data_pipelines.prepare`.
"""

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from etils import epath

from data_pipelines.errors import UserError
from data_pipelines.images import EXTENSIONS
from data_pipelines.prepare import parts, shards
from data_pipelines.prepare.catalogue import Catalogue
from data_pipelines.prepare.engines import Engine, LocalEngine
from data_pipelines.prepare.items import Item
from data_pipelines.prepare.jpeg_windows import check_library
from data_pipelines.prepare.options import PLANNING, Options
from data_pipelines.prepare.plan import Plan, load_catalogue, make_plan
from data_pipelines.prepare.report.tag_report import REPORT_FILE, Report, build_report, load_report
from data_pipelines.prepare.sidecars import Entry, Sidecars, load_sidecars
from data_pipelines.prepare.sidecars.sdaie import TENSOR_SUFFIX
from data_pipelines.prepare.sources import find_items
from data_pipelines.prepare.workspace import Workspace, put_json, putting
from data_pipelines.records import PREPARE_FILE, SCHEMA_VERSION, TARGETS_FILE
from data_pipelines.targets import RELEASED, targets_to_json

DEFAULT_WORKERS: Final = os.cpu_count() or 1
REJECTS_FILE: Final = "rejects.jsonl"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
PathLike = str | os.PathLike[str]


def prepare(
    sources: Sequence[PathLike],
    out: PathLike,
    options: Options | None = None,
    *,
    sidecars: Sequence[PathLike] = (),
    workers: int | None = None,
    runner: str = "",
    beam_arguments: Sequence[str] = (),
) -> Report:
    """Makes training records from photos.

    Files of photos are never changed.

    Args:
      sources: Directories, searched recursively; single files; glob patterns; text files of paths;
        `.tar` and `.zip` archives. Local, or gs:// URIs.
      out: Directory to make, local or a gs:// URI. What the same call left unfinished there is
        continued; what it finished is left as it is.
      options: See `Options`.
      sidecars: Files or directories with EXIF for photos that carry none.
      workers: Processes that read photos; by default one for each CPU core. No effect on the
        result.
      runner: Name of an Apache Beam runner to use instead of processes. No effect on the result.
      beam_arguments: Options of Beam's own.

    Returns:
      The tag report, see `tag_report.build_report`.

    Raises:
      UserError: No photo is found or usable, `out` holds something else, an option is wrong, or
        there is no space left.
    """
    options = options or Options()
    workspace = Workspace(epath.Path(out))
    items, found = find_photos(sources, sidecars)
    command = describe_command(sources, sidecars, items, options)
    engine = _engine(runner, beam_arguments, workers)
    with _naming_a_full_disk(workspace.out):
        if workspace.is_finished(command):
            return load_report(workspace.out)
        if options.encoding == "dct":
            check_library()
        with workspace.lock():
            return _prepare(workspace, command, items, found, options, engine)


def _prepare(
    workspace: Workspace,
    command: dict[str, Any],
    items: Sequence[Item],
    sidecars: Sidecars,
    options: Options,
    engine: Engine,
) -> Report:
    plan = read_and_plan(workspace, command, items, sidecars, options, engine)
    shards.write_todo(workspace, plan.shards)
    unwritten = [i for i in range(len(plan.shards)) if not shards.is_done(workspace, i)]
    if unwritten:
        engine.make_shards(workspace, unwritten)
    describe(workspace, command, plan, sidecars, workspace.out)
    shards.finish(workspace, plan.shards)
    put_json(workspace.out / PREPARE_FILE, command)
    workspace.leave()
    return load_report(workspace.out)


def read_and_plan(
    workspace: Workspace,
    command: dict[str, Any],
    items: Sequence[Item],
    sidecars: Sidecars,
    options: Options,
    engine: Engine,
) -> Plan:
    """Reads all files into parts, as far as they were not read before, and decides what goes where.

    Args:
      workspace: Where.
      command: From `describe_command`.
      items: The files.
      sidecars: What is known of them otherwise.
      options: How.
      engine: Who does it.

    Raises:
      UserError: No file is a usable photo, or nothing can be held out.
    """
    workspace.enter(command)
    num_parts = parts.num_parts(len(items))
    if not workspace.is_listed():
        parts.write_todo(workspace.parts, items, _entries(sidecars, items))
        workspace.mark_listed(num_parts)
    missing = [i for i in range(num_parts) if not parts.is_done(workspace.parts, i)]
    if missing:
        engine.make_parts(workspace, missing, options)
    catalogue = load_catalogue(workspace.parts, num_parts)
    if not len(catalogue):
        _refuse_all_rejected(workspace, num_parts, catalogue)
    try:
        return make_plan(catalogue, options, coded=sidecars.coded)
    except UserError:
        workspace.allow_other(PLANNING)
        raise


def find_photos(
    sources: Sequence[PathLike], sidecars: Sequence[PathLike]
) -> tuple[list[Item], Sidecars]:
    """Lists the photos and reads what sidecars say of them, see `prepare`."""
    if not sidecars:
        return find_items(sources), Sidecars({}, (), 0, ())
    items = find_items(sources, extensions=EXTENSIONS | {TENSOR_SUFFIX})
    found = load_sidecars(sidecars, [item.name for item in items])
    if not found.coded:
        items = [item for item in items if not item.name.endswith(TENSOR_SUFFIX)]
    return items, found


def _entries(sidecars: Sidecars, items: Sequence[Item]) -> dict[str, Entry]:
    """Returns what is known of each photo. Where labels are coded, no photo has others."""
    if not sidecars.coded:
        return sidecars.entries
    nothing = Entry({}, (None,) * len(RELEASED))
    return {item.name: sidecars.entries.get(item.name, nothing) for item in items}


def describe_command(
    sources: Sequence[PathLike],
    sidecars: Sequence[PathLike],
    items: Sequence[Item],
    options: Options,
) -> dict[str, Any]:
    """What a later call compares; of paths digests only, as they can name people."""
    return {
        "schema_version": SCHEMA_VERSION,
        "options": options.to_json(),
        "sources_sha256": _digest(sorted(map(_absolute, sources))),
        "sidecars_sha256": _digest(sorted(map(_absolute, sidecars))),
        "files_sha256": _digest(item.name for item in items),
        "num_files": len(items),
    }


def _absolute(path: PathLike) -> str:
    text = os.fspath(path)
    return text if "://" in text else os.path.realpath(text)


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


@contextlib.contextmanager
def _naming_a_full_disk(out: epath.Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ArrayRecord and Beam have exceptions of their own for it
        full = isinstance(error, OSError) and error.errno in _FULL
        if not full and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise UserError(
            f"{out}: no space left on the device; what was read so far is kept. Free some space "
            "and run the same command again"
        ) from error


def _engine(runner: str, beam_arguments: Sequence[str], workers: int | None) -> Engine:
    if not runner:
        return LocalEngine(workers or DEFAULT_WORKERS)
    try:
        from data_pipelines.prepare.beam_engine import beam_engine
    except ImportError as error:
        raise UserError(
            f"--runner {runner} needs Apache Beam: pip install 'exif-jax[beam]'"
        ) from error
    return beam_engine(runner, beam_arguments)


def _rejects(
    workspace: Workspace, num_parts: int, duplicates: frozenset[int]
) -> Iterator[dict[str, str]]:
    """Yields path, reason and detail of every rejected file, in the order of the sources."""
    first: dict[int, str] = {}
    for part in range(num_parts):
        for row in parts.read_rows(workspace.parts, part):
            name = row["name"]
            if "reject" in row:
                reject = row["reject"]
                yield {"path": name, "reason": reject["reason"], "detail": reject["detail"]}
            elif (photo := row["photo"]["photo"]) in duplicates:
                if photo in first:
                    detail = f"the same image as {first[photo]}"
                    yield {"path": name, "reason": "duplicate", "detail": detail}
                first.setdefault(photo, name)


def _list_rejects(
    path: epath.Path, workspace: Workspace, num_parts: int, duplicates: frozenset[int]
) -> list[tuple[str, str]]:
    """Writes the list of rejected files; returns path and detail of the duplicates."""
    copies = []
    with putting(path) as temporary, temporary.open("w") as file:
        for row in _rejects(workspace, num_parts, duplicates):
            file.write(json.dumps(row) + "\n")
            if row["reason"] == "duplicate":
                copies.append((row["path"], row["detail"]))
    return copies


def _refuse_all_rejected(workspace: Workspace, num_parts: int, catalogue: Catalogue) -> None:
    """Leaves the list of rejected files beside the output that could not be made, and raises."""
    listing = workspace.out.parent / f"{workspace.out.name}.{REJECTS_FILE}"
    _list_rejects(listing, workspace, num_parts, frozenset())
    counts = catalogue.rejects.most_common()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    workspace.discard()
    raise UserError(
        f"none of {catalogue.rejects.total()} files is a usable photo: {reasons}; give photos as "
        "the camera wrote them, with EXIF, 256 pixels or more a side (every file is listed in "
        f"{listing})"
    )


def describe(
    workspace: Workspace,
    command: dict[str, Any],
    plan: Plan,
    sidecars: Sidecars,
    directory: epath.Path,
) -> None:
    """Writes what goes with the shards: targets, rejected files, tag report.

    Args:
      workspace: That holds the parts.
      command: From `describe_command`.
      plan: From `read_and_plan`.
      sidecars: What the plan was made with.
      directory: Where the shards are or will be.
    """
    num_parts = parts.num_parts(command["num_files"])
    copies = _list_rejects(directory / REJECTS_FILE, workspace, num_parts, plan.duplicates)
    report = build_report(
        plan.catalogue.with_rejects("duplicate", copies),
        plan.targets,
        group=plan.group,
        heldout=plan.heldout,
        sidecars=_summary(sidecars),
    )
    put_json(directory / TARGETS_FILE, targets_to_json(plan.targets))
    put_json(directory / REPORT_FILE, report)


def _summary(sidecars: Sidecars) -> dict[str, Any] | None:
    """What the report says of sidecars; of their paths the last name only."""
    if not sidecars.files:
        return None
    return {
        "files": [
            {
                "path": Path(file.path).name,
                "kind": file.kind,
                "num_entries": file.num_entries,
                "num_matched": file.num_matched,
            }
            for file in sidecars.files
        ],
        "num_unmatched": sidecars.num_unmatched,
        "unmatched": list(sidecars.unmatched),
    }
