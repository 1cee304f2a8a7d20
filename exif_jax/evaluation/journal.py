"""Finished batches of an evaluation, kept on disk so that a killed one continues."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from data_pipelines.files import append_text, write_text
from data_pipelines.skipped import SkippedRow
from exif_jax.training.shares import first_alone, meet

_FINISHED = {"finished": True}


@dataclass(frozen=True)
class ScoredBatch:
    """What came of the images of one batch.

    Attributes:
        read: positions in the batch of the n images that could be read.
        skipped: a row for every other image, with its label and test_set.
        scores: float32 [detectors, perturbations, n].
    """

    read: list[int]
    skipped: list[SkippedRow]
    scores: np.ndarray


class Journal:
    """A file of JSON lines: what is evaluated, every finished batch, and at last that all is done.

    Lines are only added, so a crash costs no more than the last one; a torn one is dropped. A file
    that was written for anything else is replaced. Of several processes, each adds to a file of its
    own, and the first one brings these into its file: when the journal is opened, by any number of
    processes, and when all have scored their share.

    Attributes:
        finished: whether nothing is left to do.
        batches: those that are finished, by test set and number of the first image. Of other
            processes, what was finished when the journal was opened; in the first one, after
            `complete`, all.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Opens the journal of one evaluation, in all processes.

        Args:
            path: of the file of the first process; its folder exists.
            identity: tells this evaluation from others; plain JSON.
        """
        self._first, self._head = path, json.dumps(identity) + "\n"
        self.batches: dict[tuple[str, int], ScoredBatch] = {}
        self.finished = False
        first_alone(self._open)
        process = jax.process_index()
        self._path = _of_process(path, str(process)) if process else path
        if process:
            self._read(path)

    def _open(self) -> None:
        """In the first process: mends its file, and takes in those of the others."""
        whole = self._read(self._first) if self._first.exists() else 0
        if whole:
            with self._first.open("r+b") as file:
                file.truncate(whole)
        else:
            write_text(self._first, self._head)
        self._take_in()

    def _take_in(self) -> None:
        """Brings the files of the other processes into that of the first."""
        for path in sorted(self._first.parent.glob(_of_process(self._first, "*").name)):
            known = set(self.batches)
            self._read(path)
            for place in self.batches.keys() - known:
                append_text(self._first, self._line(*place))
            path.unlink()

    def _read(self, path: Path) -> int:
        """Takes in the whole lines; returns their length, 0 if they are of something else."""
        whole = 0
        with path.open("rb") as file:
            if file.readline() != self._head.encode():
                return 0
            whole = len(self._head)
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    return whole
                if not line.endswith(b"\n"):
                    return whole
                whole += len(line)
                self.finished = row == _FINISHED
                if not self.finished:
                    scores = np.array(row["scores"], np.float32)
                    batch = ScoredBatch(row["read"], row["skipped"], scores)
                    self.batches[row["test_set"], row["start"]] = batch
        return whole

    def _line(self, test_set: str, start: int) -> str:
        batch = self.batches[test_set, start]
        row = {"test_set": test_set, "start": start, "read": batch.read, "skipped": batch.skipped}
        # A float32 is the same after being written as a double and read again.
        return json.dumps({**row, "scores": batch.scores.tolist()}) + "\n"

    def get(self, test_set: str, start: int) -> ScoredBatch | None:
        """The finished batch of a test set that begins at an image, or None."""
        return self.batches.get((test_set, start))

    def add(self, test_set: str, start: int, batch: ScoredBatch) -> None:
        """Keeps a finished batch."""
        self.batches[test_set, start] = batch
        if not self._path.exists():
            write_text(self._path, self._head)
        append_text(self._path, self._line(test_set, start))

    def complete(self) -> None:
        """Waits until all processes have added what they score."""
        meet()
        first_alone(self._take_in)

    def finish(self) -> None:
        """Notes that all is done, and drops the batches: the results hold their scores."""
        write_text(self._path, self._head + json.dumps(_FINISHED) + "\n")


def _of_process(path: Path, process: str) -> Path:
    return path.with_name(f"{path.stem}.{process}{path.suffix}")
