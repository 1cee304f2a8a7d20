"""Results on disk: one JSON object a line, appended as images are judged, and the table of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from data_pipelines.errors import UserError
from data_pipelines.files import append_text, read_json, reading, write_csv, write_json
from exif_jax.detection.judging import Detection

RESULTS: Final = "results.jsonl"
_SETTINGS: Final = "settings.json"
_COLUMNS: Final = ("path", "verdict", "score", "threshold", "p_value", "probability")
Row = dict[str, Any]


def _is_row(row: Any) -> bool:
    """Whether a JSON value is a result, as far as it is read again."""
    return (
        isinstance(row, dict)
        and isinstance(row.get("path"), str)
        and {"verdict", "score", "threshold", "reasons", "evidence"} <= row.keys()
    )


class Results:
    """The results in a folder, which the same command continues.

    Attributes:
        done: paths that were judged, also those that could not be read.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        """Opens a folder, new or of an earlier part of the same command.

        Args:
            folder: that exists.
            settings: what decides the results, JSON-serialisable.

        Raises:
            UserError: the results there were made with other settings.
        """
        self.path = folder / RESULTS
        known = folder / _SETTINGS
        if known.exists():
            before = read_json(known)
            before = before if isinstance(before, dict) else {}
            names = sorted(before.keys() | settings.keys())
            other = [name for name in names if before.get(name) != settings.get(name)]
            if other:
                raise UserError(
                    f"{folder}: holds results of another command (other: {', '.join(other)}); "
                    "give another --out, or remove it"
                )
        else:
            write_json(known, settings)
        self._cut_torn_line()
        self.done = {row["path"] for row in self.rows()}

    def _cut_torn_line(self) -> None:
        """Removes a last line that a crash left without its end."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            whole = 0
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
            file.truncate(whole)

    def add(self, detection: Detection) -> None:
        """Appends a result; the line is there as a whole or not at all."""
        append_text(self.path, json.dumps(detection.to_json()) + "\n")
        self.done.add(detection.path)

    def rows(self) -> Iterator[Row]:
        """The results, one at a time.

        Raises:
            UserError: the file is damaged.
        """
        if self.path.exists():
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    yield self._row(number, line)

    def _row(self, number: int, line: bytes) -> Row:
        with reading(self.path, "delete that line, or give another --out"):
            row: Row = json.loads(line)
            if not _is_row(row):
                raise ValueError(f"line {number} is no result")
            return row

    def write_csv(self, path: Path) -> None:
        """Writes them as a table, atomically; reasons and evidence are texts joined by " | "."""

        def cells(row: Row) -> list[object]:
            evidence = (f"{item['says']}: {item['text']}" for item in row["evidence"])
            texts = [" | ".join(row["reasons"]), " | ".join(evidence), row.get("error")]
            return [*map(row.get, _COLUMNS), *texts]

        write_csv(path, [*_COLUMNS, "reasons", "evidence", "error"], map(cells, self.rows()))
