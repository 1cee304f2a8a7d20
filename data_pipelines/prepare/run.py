"""`exif-jax prepare`: from whatever photos people have to training records.

Files are read in parts, each kept on disk as soon as it is whole; then everything that needs all
photos at once is decided (duplicates, bursts, split, classes), and the shards are written. After an
interruption the same command goes on with what is missing. See `data_pipelines.prepare`.
"""

import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from etils import epath

from data_pipelines.disk import FULL, disk_error
from data_pipelines.errors import UserError
from data_pipelines.files import write_json, write_json_lines
from data_pipelines.images import EXTENSIONS
from data_pipelines.items import Item
from data_pipelines.libjpeg import load_library
from data_pipelines.prepare import parts, shards
from data_pipelines.prepare.catalogue import Catalogue
from data_pipelines.prepare.engines import Engine, LocalEngine
from data_pipelines.prepare.near_copies import find_near_copies
from data_pipelines.prepare.options import PLANNING, Options
from data_pipelines.prepare.plan import Plan, load_catalogue, make_plan
from data_pipelines.prepare.report.tag_report import REPORT_FILE, Report, build_report, load_report
from data_pipelines.prepare.sidecars import Entry, Sidecars, load_sidecars
from data_pipelines.prepare.sidecars.sdaie import TENSOR_SUFFIX
from data_pipelines.prepare.workspace import Workspace
from data_pipelines.records import PREPARE_FILE, SCHEMA_VERSION, TARGETS_FILE
from data_pipelines.skipped import format_counts
from data_pipelines.sources import Found, find_files, format_kinds
from data_pipelines.storage import check_path, is_uri
from data_pipelines.targets import RELEASED, targets_to_json

REJECTS_FILE: Final = "rejects.jsonl"
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
        sources: directories, searched recursively; single files; glob patterns; text files of
            paths; `.tar` and `.zip` archives. Local, or gs:// URIs.
        out: directory to make, local or a gs:// URI. What the same call left unfinished there is
            continued; what it finished is left as it is.
        options: see `Options`.
        sidecars: files or directories with EXIF for photos that carry none.
        workers: processes that read photos; by default one for each CPU core. No effect on the
            result.
        runner: name of an Apache Beam runner to use instead of processes. No effect on the result.
        beam_arguments: options of Beam's own.

    Returns:
        The tag report, see `tag_report.build_report`.

    Raises:
        UserError: no photo is found or usable, `out` holds something else, an option is wrong, or
            there is no space left.
    """
    check_path(out)
    job = Job.of(sources, out, options or Options(), sidecars)
    workspace = job.workspace
    engine = _engine(runner, beam_arguments, workers)
    with _naming_a_full_disk(workspace.out):
        if workspace.is_finished(job.command):
            return load_report(workspace.out)
        if job.options.encoding == "dct":
            load_library()
        with workspace.lock():
            plan = job.plan(engine)
            shards.write_todo(workspace, plan, job.items)
            missing = [i for i in range(len(plan.shards)) if not shards.is_done(workspace, i)]
            if missing:
                engine.make_shards(workspace, missing)
            job.describe(plan, workspace.out)
            shards.finish(workspace, plan.shards)
            write_json(workspace.out / PREPARE_FILE, job.command)
            workspace.leave()
            return load_report(workspace.out)


@dataclasses.dataclass(frozen=True)
class Job:
    """What a call of `prepare` is about.

    Attributes:
        workspace: where it is done.
        items: the files.
        passed_over: how many other files the sources hold, by kind.
        sidecars: what is known of them otherwise.
        options: how.
        command: what a later call compares; of paths digests only, as they can name people.
    """

    workspace: Workspace
    items: Sequence[Item]
    passed_over: Mapping[str, int]
    sidecars: Sidecars
    options: Options
    command: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        sources: Sequence[PathLike],
        out: PathLike,
        options: Options,
        sidecars: Sequence[PathLike] = (),
    ) -> "Job":
        """Lists the photos and reads what sidecars say of them, see `prepare`."""
        found, known = _find_photos(sources, sidecars)
        command = {
            "schema_version": SCHEMA_VERSION,
            "options": options.to_json(),
            "sources_sha256": _digest(sorted(map(_absolute, sources))),
            "sidecars_sha256": _digest(sorted(map(_absolute, sidecars))),
            "files_sha256": _digest(item.name for item in found.items),
            "num_files": len(found.items),
        }
        workspace = Workspace(epath.Path(out))
        return cls(workspace, found.items, found.passed_over, known, options, command)

    def plan(self, engine: Engine) -> Plan:
        """Reads all files that were not read before, and decides what goes where.

        Raises:
            UserError: no file is a usable photo, or nothing can be held out.
        """
        self.workspace.enter(self.command)
        folder, num_parts = self.workspace.parts, parts.num_parts(len(self.items))
        if not parts.is_listed(folder, num_parts):
            parts.write_todo(folder, self.items, self._entries())
        missing = [i for i in range(num_parts) if not parts.is_done(folder, i)]
        if missing:
            engine.make_parts(self.workspace, missing, self.options)
        catalogue = load_catalogue(folder, self.items)
        if not len(catalogue):
            self._refuse_all_rejected(catalogue)
        near = find_near_copies(catalogue, parts.reader_of_looks(folder, len(self.items)))
        try:
            return make_plan(catalogue, self.options, coded=self.sidecars.coded, near=near)
        except UserError:
            self.workspace.allow_other(PLANNING)
            raise

    def describe(self, plan: Plan, directory: epath.Path) -> None:
        """Writes what goes with the shards: targets, rejected files, tag report.

        Args:
            plan: from `plan`.
            directory: where the shards are or will be.
        """
        copies = (
            (self.items[copy].name, f"the same image as {self.items[kept].name}")
            for copy, kept in plan.copies.tolist()
        )
        near_copies = (
            (
                self.items[file].name,
                f"the same photo as {self.items[kept].name}, of which this is a worse copy",
            )
            for file, kept in plan.near_copies.tolist()
        )
        catalogue = plan.catalogue.with_rejects("duplicate", copies)
        catalogue = catalogue.with_rejects("near_duplicate", near_copies)
        _write_rejects(directory / REJECTS_FILE, catalogue)
        report = build_report(
            catalogue,
            plan.targets,
            group=plan.group,
            heldout=plan.heldout,
            num_alike=plan.num_alike,
            passed_over=self.passed_over,
            sidecars=_summary(self.sidecars),
        )
        write_json(directory / TARGETS_FILE, targets_to_json(plan.targets))
        write_json(directory / REPORT_FILE, report)

    def _entries(self) -> Mapping[str, Entry]:
        """Returns what is known of each photo. Where labels are coded, no photo has others."""
        known = self.sidecars.entries
        if not self.sidecars.coded:
            return known
        nothing = Entry({}, (None,) * len(RELEASED))
        return {item.name: known.get(item.name, nothing) for item in self.items}

    def _refuse_all_rejected(self, catalogue: Catalogue) -> None:
        """Leaves the list of rejected files beside the output that could not be made; raises."""
        out = self.workspace.out
        listing = out.parent / f"{out.name}.{REJECTS_FILE}"
        _write_rejects(listing, catalogue)
        reasons = format_counts(dict(catalogue.rejects.most_common()))
        self.workspace.discard()
        others = f"; passed over: {format_kinds(self.passed_over)}" if self.passed_over else ""
        raise UserError(
            f"none of {len(catalogue.rejected)} files is a usable photo: {reasons}{others}; give "
            "photos as the camera wrote them, with EXIF, 256 pixels or more a side (every file is "
            f"listed in {listing})"
        )


def _write_rejects(path: epath.Path, catalogue: Catalogue) -> None:
    """Lists every rejected file, in the order of the sources; copies of others come last."""
    rows = (
        {"path": name, "reason": reason, "detail": detail}
        for reason, name, detail in catalogue.rejected
    )
    write_json_lines(path, rows)


def _find_photos(
    sources: Sequence[PathLike], sidecars: Sequence[PathLike]
) -> tuple[Found, Sidecars]:
    if not sidecars:
        return find_files(sources), Sidecars()
    found = find_files(sources, extensions=EXTENSIONS | {TENSOR_SUFFIX})
    known = load_sidecars(sidecars, [item.name for item in found.items])
    if known.coded:
        return found, known
    photos = [item for item in found.items if not item.name.endswith(TENSOR_SUFFIX)]
    tensors = len(found.items) - len(photos)
    others = {**found.passed_over, **({TENSOR_SUFFIX: tensors} if tensors else {})}
    return Found(photos, others), known


def _absolute(path: PathLike) -> str:
    text = os.fspath(path)
    return text if is_uri(text) else os.path.realpath(text)


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
        found = disk_error(error)
        if found is None or found.errno not in FULL:
            raise
        raise UserError(
            f"{out}: no space left on the device; what was read so far is kept. Free some space "
            "and run the same command again"
        ) from error


def _engine(runner: str, beam_arguments: Sequence[str], workers: int | None) -> Engine:
    if not runner:
        return LocalEngine(workers)
    try:
        from data_pipelines.prepare.beam_engine import beam_engine
    except ImportError as error:
        raise UserError(
            f"--runner {runner} needs Apache Beam: pip install 'exif-jax[beam]'"
        ) from error
    return beam_engine(runner, beam_arguments)


def _summary(sidecars: Sidecars) -> dict[str, Any] | None:
    """What the report says of sidecars; of their paths the last name only."""
    if not sidecars.files:
        return None
    return {
        "files": [{**vars(file), "path": Path(file.path).name} for file in sidecars.files],
        "num_unmatched": sidecars.num_unmatched,
        "unmatched": sidecars.unmatched,
    }
