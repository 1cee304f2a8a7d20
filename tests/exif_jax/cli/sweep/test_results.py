"""What a sweep tells of its runs: means and spread over seeds, files, plot."""

import csv
import json
import statistics

import pytest
from PIL import Image

from data_pipelines.errors import UserError
from exif_jax.cli.sweep import results
from exif_jax.cli.sweep.grid import grid_points
from exif_jax.cli.sweep.plot import plot_sweep

LOSSES = {("1e-4", 0): 1.0, ("1e-4", 1): 3.0, ("1e-3", 0): 5.0}


@pytest.fixture
def runs(tmp_path):
    """Two values, two seeds; the last run failed."""
    found = []
    for point in grid_points(["optimizer.learning_rate=1e-4,1e-3"], "0,1"):
        one = results.Run(point, ["train", point.name], tmp_path / f"{point.name}.txt", 2, "why")
        loss = LOSSES.get((point.fields["optimizer.learning_rate"], point.seed))
        if loss is not None:
            one.status, one.error = 0, ""
            one.metrics = {"loss": loss, "count/ISO": 5, "concordance/mean": loss / 10}
        (tmp_path / point.name).mkdir()
        found.append(one)
    return found


def test_means_and_spread(runs):
    low, high = results.summarise(runs)
    assert (low.finished, low.runs, low.mean("loss")) == (2, 2, 2.0)
    assert low.spread("loss") == pytest.approx(statistics.stdev([1.0, 3.0]))
    assert (high.finished, high.runs, high.mean("loss"), high.spread("loss")) == (1, 2, 5.0, None)
    assert high.mean("unknown") is None


def test_the_table_shows_the_loss_and_the_chosen(runs):
    assert results.chosen_metrics(runs, "") == ["loss", "concordance/mean"]
    metrics = results.chosen_metrics(runs, "count/ISO, loss")
    assert metrics == ["loss", "count/ISO"]
    header, line, low, high = results.format_table(results.summarise(runs), metrics).splitlines()
    assert header.split() == ["optimizer.learning_rate", "runs", "loss", "count/ISO"]
    assert set(line) == {"-"}
    assert low.split() == ["1e-4", "2/2", "2.0000", "±", "1.4142", "5.0000", "±", "0.0000"]
    assert high.split() == ["1e-3", "1/2", "5.0000", "5.0000"]
    with pytest.raises(UserError, match="no run has 'auroc'; known are loss, count/ISO, conc"):
        results.chosen_metrics(runs, "auroc")


def test_files(runs, tmp_path):
    results.write(tmp_path, runs)
    stored = json.loads((tmp_path / "sweep.json").read_text())
    assert stored["points"][0]["metrics"]["loss"] == {"mean": 2.0, "spread": 2**0.5}
    assert (stored["runs"][3]["status"], stored["runs"][3]["error"]) == (2, "why")
    with (tmp_path / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["loss"] for row in rows] == ["1.0", "3.0", "5.0", ""]
    assert rows[2]["optimizer.learning_rate"] == "1e-3" and rows[3]["status"] == "2"


def test_only_runs_finished_by_the_same_command_are_taken_up(runs, tmp_path):
    results.write(tmp_path, runs)
    again = [results.Run(one.point, list(one.command), one.log) for one in runs]
    again[0].command.append("--config.steps=9")
    (tmp_path / again[1].point.name).rmdir()
    results.take_up(tmp_path, again)
    assert [one.status for one in again] == [None, None, 0, None]
    assert again[2].metrics == runs[2].metrics


@pytest.mark.parametrize(
    "grid",
    [["optimizer.learning_rate=1e-4,1e-3"], ["tags=all|A,B", "steps=1,2"], ["pair_loss=bce"]],
)
def test_the_plot_of_numbers_words_and_nothing(grid, tmp_path):
    runs = [
        results.Run(point, [], tmp_path, 0, "", {"loss": float(index), "auroc": 0.5})
        for index, point in enumerate(grid_points(grid, "0,1"))
    ]
    for metrics in ({}, runs[-1].metrics):
        runs[-1].metrics = metrics
        path = plot_sweep(results.summarise(runs), ["loss", "auroc"], tmp_path / "plot.png")
        with Image.open(path) as image:
            assert image.format == "PNG"


@pytest.mark.parametrize("text", ["[]", '{"runs": 3}', '{"runs": [{}]}', '{"runs": [[]]}', "{"])
def test_a_damaged_table_is_one_line(runs, tmp_path, text):
    (tmp_path / results.STATE).write_text(text)
    with pytest.raises(UserError, match=r"sweep\.json: "):
        results.take_up(tmp_path, runs)
