"""Files that are left out: a row for each, counted by reason and listed in `skipped.jsonl`."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from data_pipelines.files import append_text, read_json_lines, reading, write_json_lines
from data_pipelines.mirrors import shown
from data_pipelines.storage import valid_text

SKIPPED_FILE: Final = "skipped.jsonl"
SkippedRow = dict[str, Any]

_log = logging.getLogger(__name__)


def skipped_row(path: str, reason: str, message: str, **place: str | int) -> SkippedRow:
    """A row of the list.

    Args:
        path: of the file; bytes that are no valid text become escapes.
        reason: short code for counting, see `ImageError`.
        message: one line for people.
        place: what else tells where the file was wanted.
    """
    return {"path": valid_text(path), **place, "reason": reason, "message": message}


def format_counts(counts: Mapping[str, int]) -> str:
    """Counts by reason in words: "3 undecodable, 1 empty_file"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())


def write_skipped(path: Path, rows: Sequence[SkippedRow]) -> None:
    """Writes the list as a whole, and logs how many files are in it and why."""
    write_json_lines(path, rows)
    if rows:
        _log_counts(Counter(row["reason"] for row in rows), path)


def gather_skipped(folder: Path) -> None:
    """Brings the lists of all processes of an earlier part of a run into that of the first."""
    others = sorted(folder.glob("skipped.*.jsonl"))
    if others:
        first: dict[str, SkippedRow] = {}
        for path in (folder / SKIPPED_FILE, *others):
            for row in read_json_lines(path):
                first.setdefault(row["path"], row)
        write_json_lines(folder / SKIPPED_FILE, first.values())
        for path in others:
            path.unlink()


class SkippedFiles:
    """The list of a run that comes upon unreadable files again and again: each is in it once.

    What an earlier part of the run listed is kept, except a last line that a crash tore. Rows of
    the previous release, whose reason is what is now the message, are brought into today's form.
    Every process but the first has a list of its own, `skipped.PROCESS.jsonl`, of what is not in
    that of the first when it begins.
    """

    def __init__(self, folder: Path, process: int = 0) -> None:
        """Opens the list of a process, when there are no lists of an earlier part but the first."""
        listed = folder / SKIPPED_FILE
        with reading(listed, "delete it: what cannot be read is listed anew"):
            rows = [
                row if "message" in row else skipped_row(row["path"], "unreadable", row["reason"])
                for row in read_json_lines(listed)
            ]
            self._seen = {str(row["path"]) for row in rows}
            self._counts = Counter(str(row["reason"]) for row in rows)
        if listed.exists() and not process:
            write_json_lines(listed, rows)
        self._path = folder / f"skipped.{process}.jsonl" if process else listed

    def add(self, rows: Iterable[SkippedRow]) -> None:
        """Appends the rows of files that are not in the list, and logs how many now are."""
        new = {row["path"]: row for row in rows if row["path"] not in self._seen}
        if new:
            append_text(self._path, "".join(json.dumps(row) + "\n" for row in new.values()))
            self._seen |= new.keys()
            self._counts.update(row["reason"] for row in new.values())
            _log_counts(self._counts, self._path)


def _log_counts(counts: Counter[str], path: Path) -> None:
    reasons = format_counts(dict(counts.most_common()))
    _log.warning("skipped %d unreadable images (%s), see %s", counts.total(), reasons, shown(path))
