"""Finished batches of an evaluation, kept on disk so that a killed one continues."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.files import append_text, write_text
from data_pipelines.skipped import SkippedRow

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
    that was written for anything else is replaced.

    Attributes:
        finished: whether nothing is left to do.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        """Opens the journal of one evaluation.

        Args:
            path: of the file; its folder exists.
            identity: tells this evaluation from others; plain JSON.
        """
        self._path, self._head = path, json.dumps(identity) + "\n"
        self._batches: dict[tuple[str, int], ScoredBatch] = {}
        self.finished = False
        whole = self._read() if path.exists() else 0
        if whole:
            with path.open("r+b") as file:
                file.truncate(whole)
        else:
            write_text(path, self._head)

    def _read(self) -> int:
        """Takes in the whole lines; returns their length, 0 if they are of something else."""
        whole = 0
        with self._path.open("rb") as file:
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
                    self._batches[row["test_set"], row["start"]] = batch
        return whole

    def get(self, test_set: str, start: int) -> ScoredBatch | None:
        """The finished batch of a test set that begins at an image, or None."""
        return self._batches.get((test_set, start))

    def add(self, test_set: str, start: int, batch: ScoredBatch) -> None:
        """Keeps a finished batch."""
        row = {"test_set": test_set, "start": start, "read": batch.read, "skipped": batch.skipped}
        # A float32 is the same after being written as a double and read again.
        append_text(self._path, json.dumps({**row, "scores": batch.scores.tolist()}) + "\n")

    def finish(self) -> None:
        """Notes that all is done, and drops the batches: the results hold their scores."""
        write_text(self._path, self._head + json.dumps(_FINISHED) + "\n")
