"""The grid of a sweep: what is written on the command line, and the names of folders."""

import pytest

from data_pipelines.errors import UserError
from exif_jax.cli.sweep.grid import grid_points


def names(*grid, seeds="0"):
    return [point.name for point in grid_points(grid, seeds)]


def test_all_combinations_with_seeds_last():
    points = grid_points(["optimizer.learning_rate=1e-4,1e-3", "pair_loss=bce,fidelity"], "0,7")
    assert len(points) == 8
    assert points[0].name == "optimizer.learning_rate=1e-4_pair_loss=bce_seed=0"
    assert points[1].name == "optimizer.learning_rate=1e-4_pair_loss=bce_seed=7"
    assert points[-1].overrides == [
        "--config.optimizer.learning_rate=1e-3",
        "--config.pair_loss=fidelity",
        "--config.seed=7",
    ]


def test_a_bar_lets_values_hold_commas():
    points = grid_points(["objectives.tags=all|FNumber, ISO|-Make"], "0")
    assert [p.fields["objectives.tags"] for p in points] == ["all", "FNumber, ISO", "-Make"]
    assert names("model.stage_depths=(4, 2, 2, 2)|(2,1,1,1)") == [
        "model.stage_depths=4+2+2+2_seed=0",
        "model.stage_depths=2+1+1+1_seed=0",
    ]


def test_names_are_safe_and_no_longer_than_file_systems_allow():
    tags = [f"FocalLength,{'ExposureTime,' * 20}{last}" for last in ("ISO", "Make")]
    found = names(f"objectives.tags={'|'.join(tags)}", "data.photos=/a/b,../c d")
    assert len(set(found)) == 4
    for name in found:
        assert len(name) < 200 and not set(name) & set("/ ,|()'\"")


@pytest.mark.parametrize(
    ("grid", "seeds", "message"),
    [
        (["pair_loss"], "0", r"--grid pair_loss: write FIELD=VALUE,VALUE"),
        (["pair_loss="], "0", "--grid pair_loss="),
        (["pair_loss=bce,,fidelity"], "0", "write FIELD=VALUE"),
        (["seed=1,2"], "0", "seed has its values from --seeds"),
        (["a=1", "a=2"], "0", "a has its values from another --grid"),
        (["a=1,1"], "0", "give a=1_seed=0 twice"),
        (["a=1"], "3,3", "give a=1_seed=3 twice"),
        (["a=1"], "1;2", "--seeds 1;2: write whole numbers"),
    ],
)
def test_a_mistake_is_named(grid, seeds, message):
    with pytest.raises(UserError, match=message):
        grid_points(grid, seeds)
