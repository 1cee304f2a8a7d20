"""The picture of a run."""

import json
from pathlib import Path

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from exif_jax.training.curves import _family, training_curves


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
            "linear_probe/auroc": 0.6,
            "correlation/ISO": 0.3,
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


def test_every_measure_has_a_panel(tmp_path: Path) -> None:
    assert _family("linear_probe/auroc") == _family("auroc") == "detection"
    assert _family("correlation/ISO") == "correlation"
    assert _family("count/ISO") is _family("loss") is None
