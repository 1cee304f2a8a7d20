"""Scores every detector on every test set under every perturbation, and tabulates the results.

One convention everywhere: generated is the positive class, a higher score is more likely generated.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import write_csv, write_json
from data_pipelines.images import ImageError, decode_image
from data_pipelines.labelled import TestSet
from data_pipelines.mirrors import synchronise
from data_pipelines.perturbations import Perturbation
from data_pipelines.skipped import SKIPPED_FILE, SkippedRow, skipped_row, write_skipped
from data_pipelines.storage import valid_text
from data_pipelines.terminal import printable
from exif_jax import metrics
from exif_jax.detection.detectors import Detector
from exif_jax.evaluation.journal import Journal, ScoredBatch
from exif_jax.training.shares import first_alone

_SYNCHRONISED = 30.0  # seconds of scoring that a killed evaluation in object storage may lose
MEAN = "mean"  # stands for the test set in the rows of means
_COUNTS = ("n_real", "n_generated", "n_skipped")
_AVERAGED = ("accuracy", "average_precision", "auroc", "tpr_at_fpr_1pct", "tpr_at_fpr_5pct")
_SCORE_FIELDS = ("path", "label", "test_set", "detector", "perturbation", "score")


@dataclass(frozen=True)
class Row:
    """One line of the results.

    Attributes:
        detector: name.
        kind: of the detector.
        test_set: name, or `mean` for the unweighted mean over test sets.
        perturbation: name, `none` for images as they are.
        n_real: photographs scored; in a row of means the total.
        n_generated: generated images scored; in a row of means the total.
        n_skipped: images that could not be read; in a row of means the total.
        threshold: the detector's.
        accuracy: fraction of right decisions at the threshold.
        average_precision: of the generated class.
        auroc: area under the ROC curve.
        auroc_low: lower end of its 95% bootstrap interval; None in a row of means.
        auroc_high: upper end.
        tpr_at_fpr_1pct: largest true-positive rate at a false-positive rate of at most 0.01.
        tpr_at_fpr_5pct: the same at 0.05.
    """

    detector: str
    kind: str
    test_set: str
    perturbation: str
    n_real: int
    n_generated: int
    n_skipped: int
    threshold: float
    accuracy: float
    average_precision: float
    auroc: float
    auroc_low: float | None
    auroc_high: float | None
    tpr_at_fpr_1pct: float
    tpr_at_fpr_5pct: float


@dataclass(frozen=True)
class Scores:
    """Scores of one detector on one test set under one perturbation.

    Attributes:
        paths: n files, as text.
        labels: int [n], 1 = generated.
        scores: float32 [n].
    """

    paths: list[str]
    labels: np.ndarray
    scores: np.ndarray


# (detector, perturbation) -> test set -> scores, each in the order of evaluation.
AllScores = dict[tuple[str, str], dict[str, Scores]]


def evaluate(
    detectors: Mapping[str, Detector],
    test_sets: Sequence[TestSet],
    perturbations: Sequence[Perturbation],
    workdir: Path,
    *,
    batch_size: int = 16,
    journal: Journal | None = None,
) -> tuple[list[Row], AllScores]:
    """Evaluates detectors and writes what came out.

    Every image is decoded once; at most `batch_size` decoded images and as many perturbed ones are
    in memory. Images that cannot be read are left out for all detectors alike, counted in every row
    and listed. Written to `workdir`, each file replaced as a whole when all is done:

    - results.json, results.csv: the rows;
    - scores.csv: the score of every image, from which every number can be computed again;
    - skipped.jsonl: an object for every image left out (path, label, test_set, reason, message).

    Args:
        detectors: by the name they get in the results.
        test_sets: with different names.
        perturbations: `none` is evaluated only when among them.
        workdir: made if absent; earlier results in it are replaced.
        batch_size: images decoded and scored together.
        journal: keeps finished batches, which are then not scored again; one for an evaluation
            with the same arguments. Several processes divide the batches by it.

    Returns:
        Rows detector by detector, perturbation by perturbation, each with its row of means last,
        and the scores of every image; of several processes, only the first has them.

    Raises:
        UserError: nothing to evaluate, test sets that cannot be told apart by name, or a test set
            of which no photograph or no generated image is readable.
        ValueError: a detector gave a score that is not finite.
    """
    _check(detectors, test_sets, perturbations)
    scores: AllScores = {(d, p.name): {} for d in detectors for p in perturbations}
    rows: list[Row] = []
    skipped: list[SkippedRow] = []
    # Without a journal the processes know nothing of each other.
    processes, mine = (jax.process_count(), jax.process_index()) if journal else (1, 0)
    found: dict[tuple[str, int], ScoredBatch] = {}

    def take(test_set: TestSet) -> None:
        parts = _parts(test_set, batch_size)
        batches = [(part, found[test_set.name, start]) for start, part in parts]
        skipped.extend(row for _, batch in batches for row in batch.skipped)
        read, joined = _joined(test_set.name, batches)
        for unit, scored in zip(scores, joined, strict=True):
            scores[unit][test_set.name] = Scores(*read, scored)

    def tabulate() -> None:
        if journal and processes > 1:
            found.update(journal.batches)
            for test_set in test_sets:
                take(test_set)
        rows.extend(_rows(detectors, scores, skipped))
        _write_results(workdir, rows, scores, skipped)

    turns = itertools.cycle(range(processes))
    total = sum(len(s.real) + len(s.generated) for s in test_sets)
    with (
        tqdm(total=total, unit="image", desc="evaluate", disable=mine > 0) as progress,
        ThreadPoolExecutor() as pool,
    ):
        for test_set in test_sets:
            progress.set_postfix_str(printable(test_set.name))
            for start, part in _parts(test_set, batch_size):
                batch = journal.get(test_set.name, start) if journal else None
                if batch is None and next(turns) == mine:
                    batch = _score_batch(detectors, test_set.name, part, perturbations, pool)
                    if journal:
                        journal.add(test_set.name, start, batch)
                        synchronise(workdir, every=_SYNCHRONISED)
                if batch is not None:
                    found[test_set.name, start] = batch
                progress.update(len(part))
            if processes == 1:
                take(test_set)  # now, as there may be an error to tell
    if journal:
        journal.complete()
    first_alone(tabulate)
    return rows, scores


def _parts(test_set: TestSet, size: int) -> list[tuple[int, list[tuple[Path, int]]]]:
    """Files of a test set in batches, with their labels; the number of the first in each."""
    files = [(path, 0) for path in test_set.real]
    files += [(path, 1) for path in test_set.generated]
    return [(start, files[start : start + size]) for start in range(0, len(files), size)]


def _rows(
    detectors: Mapping[str, Detector], scores: AllScores, skipped: Sequence[SkippedRow]
) -> Iterator[Row]:
    n_skipped = Counter(row["test_set"] for row in skipped)
    for (detector, perturbation), by_set in scores.items():
        rows = [
            _row(detector, detectors[detector], perturbation, name, scored, n_skipped[name])
            for name, scored in by_set.items()
        ]
        yield from [*rows, _mean_row(rows)]


def format_table(rows: Sequence[Row]) -> str:
    """An aligned table of the rows for a terminal, with a note on how to read it."""
    header = (
        *("detector", "perturbation", "test set", "real", "gen.", "skipped"),
        *("accuracy", "AP", "AUROC", "95% interval", "TPR@1%", "TPR@5%"),
    )
    lines = [header, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        cells = (
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        text.append("  ".join(cells).rstrip())
        if line[2] in (header[2], MEAN):
            text.append("-" * (sum(widths) + 2 * len(widths) - 2))
    text.append(
        "Generated is the positive class throughout. (One-class average precision as first "
        "published takes photographs as positive: not comparable.)"
    )
    return "\n".join(text)


def _check(
    detectors: Mapping[str, Detector],
    test_sets: Sequence[TestSet],
    perturbations: Sequence[Perturbation],
) -> None:
    for what, things in (
        ("detector", detectors),
        ("test set", test_sets),
        ("perturbation", perturbations),
    ):
        if not things:
            raise UserError(f"nothing to evaluate: no {what} given")
    names = [test_set.name for test_set in test_sets]
    for name in names:
        if name == MEAN or names.count(name) > 1:
            why = "stands for the mean of all" if name == MEAN else "is given more than once"
            raise UserError(f"test set name {name!r} {why}: rename its folder or group of lines")


def _score_batch(
    detectors: Mapping[str, Detector],
    test_set: str,
    files: Sequence[tuple[Path, int]],
    perturbations: Sequence[Perturbation],
    pool: ThreadPoolExecutor,
) -> ScoredBatch:
    """Scores a few images, each given with its label."""
    read: list[int] = []
    images: list[np.ndarray] = []
    skipped: list[SkippedRow] = []
    for index, image in enumerate(pool.map(_decode, (path for path, _ in files))):
        if isinstance(image, ImageError):
            path, label = files[index]
            skipped.append(
                skipped_row(
                    *(valid_text(str(path)), image.reason, str(image)),
                    label=label,
                    test_set=test_set,
                )
            )
        else:
            read.append(index)
            images.append(image)
    scores = np.zeros((len(detectors), len(perturbations), len(images)), np.float32)
    for column, perturbation in enumerate(perturbations if images else ()):
        perturbed = list(pool.map(perturbation.apply, images))
        for row, (name, detector) in enumerate(detectors.items()):
            scored = np.asarray(detector.score(perturbed), np.float32)
            if scored.shape != (len(perturbed),) or not np.isfinite(scored).all():
                raise ValueError(
                    f"detector {name!r} gave no finite score for each image: {scored}, for "
                    f"{perturbation.name!r} of {[valid_text(str(files[i][0])) for i in read]}"
                )
            scores[row, column] = scored
    return ScoredBatch(read, skipped, scores)


def _joined(
    test_set: str, batches: Sequence[tuple[Sequence[tuple[Path, int]], ScoredBatch]]
) -> tuple[tuple[list[str], np.ndarray], np.ndarray]:
    """Paths and labels [n] of the images of a test set that were read, and scores [units, n]."""
    read = [files[index] for files, batch in batches for index in batch.read]
    labels = np.array([label for _, label in read], int)
    for label, kind in enumerate(("photograph", "generated image")):
        if not (labels == label).any():
            first = next(unread for _, batch in batches for unread in batch.skipped)
            raise UserError(
                f"test set {test_set!r}: no {kind} could be read; "
                f"the first failed so: {first['path']}: {first['message']}"
            )
    scores = np.concatenate([batch.scores for _, batch in batches], axis=-1)
    return ([valid_text(str(path)) for path, _ in read], labels), scores.reshape(-1, len(read))


def _decode(path: Path) -> np.ndarray | ImageError:
    try:
        return decode_image(path)
    except ImageError as error:
        return error


def _row(
    name: str, detector: Detector, perturbation: str, test_set: str, scored: Scores, n_skipped: int
) -> Row:
    scores, labels = scored.scores, scored.labels
    low, high = metrics.auroc_interval(scores, labels)
    return Row(
        detector=name,
        kind=detector.kind,
        test_set=test_set,
        perturbation=perturbation,
        n_real=int((labels == 0).sum()),
        n_generated=int((labels == 1).sum()),
        n_skipped=n_skipped,
        threshold=float(detector.threshold),
        accuracy=metrics.accuracy(scores, labels, detector.threshold),
        average_precision=metrics.average_precision(scores, labels),
        auroc=metrics.auroc(scores, labels),
        auroc_low=low,
        auroc_high=high,
        tpr_at_fpr_1pct=metrics.tpr_at_fpr(scores, labels, 0.01),
        tpr_at_fpr_5pct=metrics.tpr_at_fpr(scores, labels, 0.05),
    )


def _mean_row(rows: Sequence[Row]) -> Row:
    """Unweighted means over test sets, and total counts."""
    changed: dict[str, Any] = {n: sum(getattr(row, n) for row in rows) for n in _COUNTS}
    changed |= {n: float(np.mean([getattr(row, n) for row in rows])) for n in _AVERAGED}
    return dataclasses.replace(rows[0], test_set=MEAN, auroc_low=None, auroc_high=None, **changed)


def _cells(row: Row) -> tuple[str, ...]:
    interval = "" if row.auroc_low is None else f"{row.auroc_low:.3f}-{row.auroc_high:.3f}"
    return (
        *map(printable, (row.detector, row.perturbation, row.test_set)),
        *(str(row.n_real), str(row.n_generated), str(row.n_skipped)),
        *(f"{row.accuracy:.3f}", f"{row.average_precision:.3f}", f"{row.auroc:.3f}", interval),
        *(f"{row.tpr_at_fpr_1pct:.3f}", f"{row.tpr_at_fpr_5pct:.3f}"),
    )


def _write_results(
    workdir: Path, rows: Sequence[Row], scores: AllScores, skipped: Sequence[SkippedRow]
) -> None:
    score_lines = (
        # str of a float32 is the shortest text that reads back as the same number
        (path, label, test_set, detector, perturbation, str(score))
        for (detector, perturbation), by_set in scores.items()
        for test_set, s in by_set.items()
        for path, label, score in zip(s.paths, s.labels, s.scores, strict=True)
    )
    objects = [dataclasses.asdict(row) for row in rows]
    fields = [field.name for field in dataclasses.fields(Row)]
    lines = ([row[name] for name in fields] for row in objects)
    workdir.mkdir(parents=True, exist_ok=True)
    write_csv(workdir / "scores.csv", _SCORE_FIELDS, score_lines)
    write_skipped(workdir / SKIPPED_FILE, skipped)
    write_csv(workdir / "results.csv", fields, lines)
    write_json(workdir / "results.json", objects)
