import csv
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.labelled import TestSet, find_test_sets
from data_pipelines.perturbations import parse_perturbations
from exif_jax import metrics
from exif_jax.evaluation.evaluate import Row, Scores, evaluate, format_table

BOTH = parse_perturbations("resize:0.5")


@dataclass
class Brightness:
    """A detector that calls bright images generated."""

    kind: str = "fake"
    threshold: float = 100.0
    offset: float = 0.0
    batches: list[list[tuple[int, ...]]] = field(default_factory=list)

    def score(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.batches.append([image.shape for image in images])
        return np.array([image.mean() + self.offset for image in images], np.float32)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, gap in (("easy", 100), ("hard", 10)):
        for index in range(7):
            for folder, level in (("real", 80), ("fake", 80 + gap)):
                path = tmp_path / "data" / name / folder / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                shape = (8 + index, 10, 3)
                pixels = np.full(shape, level + rng.integers(-20, 20), np.uint8)
                Image.fromarray(pixels).save(path)
    return tmp_path / "data"


def run(labelled: Path, workdir: Path) -> list[Row]:
    detectors = {"plain": Brightness(), "strict": Brightness(threshold=200)}
    return evaluate(detectors, find_test_sets(labelled), BOTH, workdir, batch_size=4)[0]


def test_rows_come_for_every_unit_with_means_last(labelled: Path, tmp_path: Path) -> None:
    rows = run(labelled, tmp_path / "out")
    assert [(row.detector, row.perturbation, row.test_set) for row in rows] == [
        (detector, perturbation, test_set)
        for detector in ("plain", "strict")
        for perturbation in ("none", "resize:0.5")
        for test_set in ("easy", "hard", "mean")
    ]
    easy, hard, mean = rows[:3]
    assert easy.auroc == easy.accuracy == easy.tpr_at_fpr_1pct == 1
    assert (easy.auroc_low, easy.auroc_high) == (1, 1)
    assert 0.3 < hard.auroc < 1
    assert mean.auroc == pytest.approx((easy.auroc + hard.auroc) / 2)
    assert mean.auroc_low is None
    assert (mean.n_real, mean.n_generated, mean.n_skipped) == (14, 14, 0)
    assert (easy.kind, easy.threshold) == ("fake", 100)
    assert rows[6].accuracy == 0.5  # the strict threshold calls nothing generated


def test_files_hold_what_was_returned(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    rows = run(labelled, out)
    loaded = json.loads((out / "results.json").read_text())
    assert [Row(**row) for row in loaded] == rows
    needed = "detector test_set perturbation n_real n_generated accuracy average_precision auroc"
    assert set(needed.split()) <= set(loaded[0])
    assert {"tpr_at_fpr_1pct", "tpr_at_fpr_5pct", "threshold"} <= set(loaded[0])
    with (out / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["auroc"]) for line in lines] == [row.auroc for row in rows]
    assert lines[2]["auroc_low"] == ""
    assert sorted(path.name for path in out.iterdir()) == [
        *("results.csv", "results.json", "scores.csv", "skipped.jsonl")
    ]


def test_numbers_can_be_computed_again_from_the_scores(labelled: Path, tmp_path: Path) -> None:
    rows = run(labelled, tmp_path)
    lines = defaultdict(lambda: defaultdict(list))
    with (tmp_path / "scores.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            lines[line["detector"], line["perturbation"]][line["test_set"]].append(line)
    scores = {
        unit: {
            test_set: Scores(
                [line["path"] for line in found],
                np.array([int(line["label"]) for line in found]),
                np.array([float(line["score"]) for line in found], np.float32),
            )
            for test_set, found in by_set.items()
        }
        for unit, by_set in lines.items()
    }
    assert list(scores) == list(dict.fromkeys((row.detector, row.perturbation) for row in rows))
    for row in rows:
        if row.test_set != "mean":
            found = scores[row.detector, row.perturbation][row.test_set]
            assert metrics.auroc(found.scores, found.labels) == row.auroc
            assert metrics.accuracy(found.scores, found.labels, row.threshold) == row.accuracy
            low, high = metrics.auroc_interval(found.scores, found.labels)
            assert (low, high) == (row.auroc_low, row.auroc_high)
    easy = scores["plain", "none"]["easy"]
    assert easy.scores.dtype == np.float32
    for path, score in zip(easy.paths, easy.scores, strict=True):
        assert np.float32(np.asarray(Image.open(path)).mean()) == score


def test_at_most_a_batch_is_held_and_perturbed(labelled: Path, tmp_path: Path) -> None:
    detector = Brightness()
    evaluate({"d": detector}, find_test_sets(labelled)[:1], BOTH, tmp_path, batch_size=4)
    assert [len(batch) for batch in detector.batches] == [4, 4, 4, 4, 4, 4, 2, 2]
    plain, halved = detector.batches[:2]
    assert plain == [(8, 10, 3), (9, 10, 3), (10, 10, 3), (11, 10, 3)]
    assert halved == [(4, 5, 3), (5, 5, 3), (5, 5, 3), (6, 5, 3)]


def test_unreadable_images_are_counted_and_listed(labelled: Path, tmp_path: Path) -> None:
    (labelled / "hard/real/0.png").write_bytes(b"")
    (labelled / "hard/fake/3.png").write_text("no image")
    rows = run(labelled, tmp_path)
    counts = [(row.n_real, row.n_generated, row.n_skipped) for row in rows[:3]]
    assert counts == [(7, 7, 0), (6, 6, 2), (13, 13, 2)]
    skipped = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [(Path(s["path"]).name, s["label"], s["test_set"], s["reason"]) for s in skipped] == [
        ("0.png", 0, "hard", "empty_file"),
        ("3.png", 1, "hard", "not_an_image"),
    ]
    assert all(s["message"] for s in skipped)


def test_a_batch_without_any_readable_image_is_no_problem(labelled: Path, tmp_path: Path) -> None:
    for index in range(4):
        (labelled / f"hard/real/{index}.png").write_bytes(b"")
    assert run(labelled, tmp_path)[1].n_real == 3


def test_a_class_without_any_readable_image_is_an_error(labelled: Path, tmp_path: Path) -> None:
    for path in (labelled / "hard/fake").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"'hard': no generated image could be read.*fake/0\.png"):
        run(labelled, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_score_that_is_not_finite_names_the_detector(labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"detector 'bad'.*'none'.*0\.png"):
        evaluate(
            {"bad": Brightness(offset=np.nan)}, find_test_sets(labelled), BOTH, tmp_path / "out"
        )


def test_nothing_to_evaluate_is_an_error(tmp_path: Path) -> None:
    some = [TestSet("a", (Path("r"),), (Path("g"),))]
    with pytest.raises(UserError, match="no detector"):
        evaluate({}, some, BOTH, tmp_path)
    with pytest.raises(UserError, match="no test set"):
        evaluate({"d": Brightness()}, [], BOTH, tmp_path)
    with pytest.raises(UserError, match="no perturbation"):
        evaluate({"d": Brightness()}, some, [], tmp_path)


@pytest.mark.parametrize("names", [["mean"], ["a", "a"]])
def test_test_sets_must_differ_by_name(names: list[str], tmp_path: Path) -> None:
    sets = [TestSet(name, (Path("r"),), (Path("g"),)) for name in names]
    with pytest.raises(UserError, match="rename"):
        evaluate({"d": Brightness()}, sets, BOTH, tmp_path)


def test_the_table_is_aligned_and_says_what_is_positive(labelled: Path, tmp_path: Path) -> None:
    rows = run(labelled, tmp_path)
    lines = format_table(rows).splitlines()
    assert lines[0].split()[:3] == ["detector", "perturbation", "test"]
    assert len({line.find("test set") for line in lines[:1]} | {lines[2].find("easy")}) == 1
    assert len([line for line in lines if set(line) == {"-"}]) == 1 + 4  # header, means
    assert f"{rows[0].auroc:.3f}" in lines[2]
    assert lines[-1].startswith("Generated is the positive class")


def test_another_run_in_the_same_workdir_replaces_the_results(
    labelled: Path, tmp_path: Path
) -> None:
    run(labelled, tmp_path)
    first = (tmp_path / "scores.csv").read_bytes()
    evaluate({"other": Brightness()}, find_test_sets(labelled), BOTH[:1], tmp_path)
    assert len(json.loads((tmp_path / "results.json").read_text())) == 3
    run(labelled, tmp_path)
    assert (tmp_path / "scores.csv").read_bytes() == first


def test_what_lies_in_folders_besides_images_is_counted_with_reasons(
    labelled: Path, tmp_path: Path
) -> None:
    real = labelled / "easy" / "real"
    (real / "web.jpg").write_bytes(b"<!DOCTYPE html><html><body>404</body></html>")
    (real / "moved.jpg").symlink_to(tmp_path / "gone.jpg")
    (real / "._0.png").write_bytes(b"\0\5\x16\7")
    row, *_ = run(labelled, tmp_path / "out")
    assert (row.test_set, row.n_real, row.n_generated, row.n_skipped) == ("easy", 7, 7, 2)
    skipped = [
        json.loads(line) for line in (tmp_path / "out/skipped.jsonl").read_text().split("\n")[:-1]
    ]
    assert {Path(s["path"]).name: (s["reason"], s["label"]) for s in skipped} == {
        "web.jpg": ("not_an_image", 0),
        "moved.jpg": ("unreadable", 0),
    }
    assert "a link to a file that is not there" in {s["message"] for s in skipped}


def test_a_list_is_scored_like_the_folders_it_names(labelled: Path, tmp_path: Path) -> None:
    lines = [
        f"{path.relative_to(tmp_path)},{int(path.parent.name == 'fake')},{path.parts[-3]}"
        for path in labelled.rglob("*.png")
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,test_set", *lines]))
    assert run(tmp_path / "list.csv", tmp_path / "a") == run(labelled, tmp_path / "b")
