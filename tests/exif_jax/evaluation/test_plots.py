import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import UserError
from exif_jax.evaluation.evaluate import Row, Scores
from exif_jax.evaluation.plots import plot_evaluation, roc_curves, score_histograms
from exif_jax.figures import save
from exif_jax.gmm import Candidate, Structure
from exif_jax.gmm.selection_plot import selection_curves
from exif_jax.training.curves import training_curves


def some_scores(n_sets: int) -> dict[str, Scores]:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 12)
    return {
        # A lone dollar sign and a leading underscore mean something to matplotlib.
        f"_set${index}": Scores(
            ["x"] * 24, labels, (rng.normal(size=24) + labels * index).astype(np.float32)
        )
        for index in range(n_sets)
    }


ROW = Row("a/b", "fake", "s", "none", 1, 1, 0, 0.5, 0.5, 0.5, 0.5, None, None, 0.5, 0.5)


def test_two_legible_pictures_for_every_detector_and_perturbation(tmp_path: Path) -> None:
    scores = {("a/b", "none"): some_scores(2), ("a/b", "resize:0.5+jpeg:80"): some_scores(1)}
    rows = [ROW, dataclasses.replace(ROW, perturbation="resize:0.5+jpeg:80")]
    written = plot_evaluation(rows, scores, tmp_path / "plots")
    assert [path.name for path in written] == [
        "a-b_none_histograms.png",
        "a-b_none_roc.png",
        "a-b_resize-0.5-jpeg-80_histograms.png",
        "a-b_resize-0.5-jpeg-80_roc.png",
    ]
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [p.name for p in written]
    for path in written:
        with Image.open(path) as image:
            assert image.width >= 600
            assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 10


def test_histograms_count_every_image_and_mark_the_threshold() -> None:
    by_set = some_scores(6)
    by_set["_set$0"].scores[0] = 1e9  # goes into the last bin
    figure = score_histograms(by_set, 0.25, "title")
    panels = [axes for axes in figure.get_axes() if axes.axison]
    assert [axes.get_title().splitlines()[0] for axes in panels] == list(by_set)
    for axes in panels:
        filled = [patch for patch in axes.patches if hasattr(patch, "get_height")]
        assert sum(bar.get_height() for bar in filled) == pytest.approx(2)  # 1 a class
        assert axes.lines[0].get_xdata()[0] == 0.25


def test_selection_shows_every_fitted_candidate_and_marks_the_choice(tmp_path: Path) -> None:
    table = [
        dataclasses.replace(
            Candidate.of(structure, size, 6), heldout_log_likelihood=-10.0 + size, bic=7.0 - size
        )
        for structure in (Structure("full"), Structure("low_rank", 2))
        for size in (1, 2, 3)
    ]
    table.append(dataclasses.replace(Candidate.of(Structure("tied"), 9, 6), error="too few rows"))
    (axes,) = selection_curves(table, table[2], "heldout").get_axes()
    full, low_rank, mark = axes.lines
    assert [line.get_label() for line in axes.lines] == ["full", "low_rank 2", "chosen"]
    assert full.get_xydata().tolist() == [[1, 2], [2, 1], [3, 0]]
    assert tuple(low_rank.get_ydata()) == tuple(full.get_ydata())
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (3, 0)
    assert axes.yaxis_inverted()  # the best on top
    (axes,) = selection_curves(table, table[2], "bic").get_axes()
    assert list(axes.lines[0].get_ydata()) == [2, 1, 0]
    with Image.open(save(selection_curves(table, table[2], "bic"), tmp_path / "plot.png")) as image:
        assert image.width >= 600


def test_equal_scores_and_a_threshold_among_them_can_be_drawn() -> None:
    flat = Scores(["x"] * 4, np.array([0, 0, 1, 1]), np.full(4, 0.5, np.float32))
    assert score_histograms({"flat": flat}, 0.5, "title").get_axes()


def test_the_roc_legend_is_ordered_by_auroc_and_complete() -> None:
    figure = roc_curves(some_scores(20), "title")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 21
    assert labels[-1].endswith("chance")
    areas = [float(label.split()[0]) for label in labels[:-1]]
    assert areas == sorted(areas, reverse=True)
    styles = {(line.get_color(), line.get_linestyle()) for line in figure.get_axes()[0].lines}
    assert len(styles) == 21


def test_training_curves_are_drawn_from_the_metrics_of_a_run(tmp_path: Path) -> None:
    lines = [{"step": step, "split": "train", "loss": 1 / step} for step in range(1, 9)]
    lines += [
        {
            "step": step,
            "split": "validation",
            "loss": 2 / step,
            "concordance/ISO": 0.6,
            "concordance/mean": 0.6,
            "balanced_accuracy/Make": 0.5,
            "count/Make": 40,
            "auroc": 0.7,
        }
        for step in (4, 8)
    ]
    path = tmp_path / "metrics.jsonl"
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text)
    out = training_curves(path, tmp_path / "plots" / "curves.png")
    with Image.open(out) as image:
        height = image.height
    path.write_text(text + '{"step": 9, "spl')  # killed while writing
    training_curves(path, out)
    path.write_text(text.splitlines()[0] + "\n")  # no validation yet: the loss alone
    training_curves(path, out)
    with Image.open(out) as image:
        assert image.height < height / 3


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "is this a run"), ("", "no metrics yet"), ("{\n{}\n", "line 1 is not JSON")],
)
def test_metrics_that_cannot_be_read_are_named(
    tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "metrics.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        training_curves(path, tmp_path / "out.png")
