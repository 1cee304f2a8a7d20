"""The training loop on a toy stage: non-finite losses, the best export, unreadable files."""

import dataclasses
import json
import subprocess
import sys

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.errors import UserError
from data_pipelines.pipeline import Batches
from data_pipelines.skipped import skipped_row
from exif_jax.config import PretextConfig
from exif_jax.training.checkpoints import Checkpoints
from exif_jax.training.loop import Stage, fit
from exif_jax.training.mapping import data_mesh, example_keys, replicate
from exif_jax.training.step import initial_state, map_train_step, masked_mean_part
from exif_jax.training.telemetry import MEASURED

MESH = data_mesh(jax.devices()[:1])


def toy_loss(params, frozen, batch, key):
    return jnp.mean((params["x"] - batch["target"]) ** 2), {}


def toy_stage(losses, exported, *, keep_best=False, poison=None, steps_lr=0.1):
    """Fits a number to 1; `losses` are the validation losses it will report, in turn."""

    def load(index):
        target = np.float32(np.nan if index == poison else 1)
        return {
            "target": target,
            "path": f"{index}.jpg",
            "reason": "undecodable" if index == 1 else "",
            "error": "cut short" if index == 1 else "",
        }

    optimizer = optax.sgd(steps_lr)
    return Stage(
        state=initial_state({"x": jnp.zeros(())}, optimizer),
        frozen={},
        step=map_train_step(toy_loss, optimizer, MESH),
        mesh=MESH,
        data=Batches(grain.MapDataset.range(1000).map(load), 2, threads=1),
        evaluators=[lambda params: {"loss": losses.pop(0)}],
        export=lambda params, step, numbers: exported.append((step, float(params["x"]))),
        keep_best=keep_best,
    )


def schedule(steps):
    return PretextConfig(steps=steps, log_every=1, eval_every=2, checkpoint_every=3)


def rows(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: x for k, x in row.items() if k not in MEASURED} for row in lines]


def test_nan_stops_with_step_and_files_and_leaves_the_checkpoint(tmp_path):
    exported = []
    stage = toy_stage([1.0] * 9, exported, poison=9)  # in the fifth batch of two
    with pytest.raises(UserError, match=r"nan at step 5 on the batch of 8\.jpg, 9\.jpg"):
        fit(stage, schedule(20), tmp_path)
    report = json.loads((tmp_path / "nonfinite.json").read_text())
    assert (report["step"], report["files"]) == (5, ["8.jpg", "9.jpg"])
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() == 4  # before the evaluation
    state = checkpoints.restore(4, replicate(toy_stage([], []).state, MESH))
    checkpoints.close()
    assert np.isfinite(state.params["x"])
    assert all(np.isfinite(row["loss"]) for row in rows(tmp_path))


def test_only_better_validation_losses_are_exported(tmp_path):
    exported = []
    fit(toy_stage([3.0, 4.0, 2.0, 2.5], exported, keep_best=True), schedule(8), tmp_path)
    assert [step for step, _ in exported] == [2, 6]


def test_best_so_far_is_remembered_by_a_continued_run(tmp_path):
    exported = []
    fit(toy_stage([3.0, 1.0], exported, keep_best=True), schedule(4), tmp_path)
    fit(toy_stage([2.0, 0.5], exported, keep_best=True), schedule(8), tmp_path)
    assert [step for step, _ in exported] == [2, 4, 8]


def test_without_keep_best_every_checkpoint_is_exported(tmp_path):
    exported = []
    fit(toy_stage([1.0] * 4, exported), schedule(7), tmp_path)
    assert [step for step, _ in exported] == [3, 6, 7]


def test_a_run_in_two_parts_is_a_run_in_one(tmp_path):
    for steps in (3, 7):
        fit(toy_stage([1.0] * 4, []), schedule(steps), tmp_path / "parts")
    fit(toy_stage([1.0] * 4, []), schedule(7), tmp_path / "whole")
    train = [
        [row for row in rows(tmp_path / name) if row["split"] == "train"]
        for name in ("parts", "whole")
    ]
    assert train[0] == train[1]


def test_a_run_in_parts_on_different_devices_is_a_run_on_one(tmp_path):
    def stage(devices):
        mesh = data_mesh(jax.devices()[:devices])

        def loss(params, frozen, batch, key):
            noise = jax.vmap(jax.random.normal)(example_keys(key, len(batch["target"])))
            distance = jnp.square(params["x"] - batch["target"] - noise)
            return masked_mean_part(distance, jnp.ones(len(distance)))[0], {}

        def load(index):
            return {"target": np.float32(index % 7), "path": f"{index}.jpg"}

        optimizer = optax.adam(0.1)
        return dataclasses.replace(
            toy_stage([1.0] * 9, []),
            state=initial_state({"x": jnp.zeros(())}, optimizer),
            step=map_train_step(loss, optimizer, mesh),
            mesh=mesh,
            data=Batches(grain.MapDataset.range(1000).map(load), 8, threads=1),
        )

    whole = fit(stage(1), schedule(9), tmp_path / "whole")
    for steps, devices in ((3, 4), (5, 1), (9, 8)):
        parts = fit(stage(devices), schedule(steps), tmp_path / "parts")
    losses = [
        [row["loss"] for row in rows(tmp_path / name) if row["split"] == "train"]
        for name in ("whole", "parts")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    np.testing.assert_allclose(whole.params["x"], parts.params["x"], rtol=1e-6)


def test_lines_after_the_checkpoint_and_torn_lines_are_written_again(tmp_path):
    fit(toy_stage([1.0] * 4, []), schedule(3), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "split": "train", "loss": 9.0}\n{"step": 5, "spl')
    fit(toy_stage([1.0] * 4, []), schedule(5), tmp_path)
    losses = {row["step"]: row["loss"] for row in rows(tmp_path) if row["split"] == "train"}
    assert sorted(losses) == [1, 2, 3, 4, 5]
    assert losses[4] < 1


def test_unreadable_files_are_listed_once(tmp_path):
    fit(toy_stage([1.0] * 9, []), schedule(4), tmp_path)
    listed = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert listed == [{"path": "1.jpg", "reason": "undecodable", "message": "cut short"}]


def test_what_evaluators_could_not_read_is_listed_once(tmp_path, caplog):
    unread = {}

    def evaluate(params):
        unread["v.jpg"] = skipped_row("v.jpg", "empty_file", "no bytes")
        return {"loss": 1.0}

    stage = dataclasses.replace(toy_stage([], []), evaluators=[evaluate], unread=unread)
    for steps in (4, 7):  # also when it goes on
        fit(stage, schedule(steps), tmp_path)
    listed = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [row["path"] for row in listed] == ["1.jpg", "v.jpg"]
    assert "skipped 2 unreadable images (1 undecodable, 1 empty_file)" in caplog.text


def test_no_steps_export_the_untrained_parameters(tmp_path):
    exported = []
    fit(toy_stage([1.0], exported), schedule(0), tmp_path)
    fit(toy_stage([], exported), schedule(0), tmp_path)  # finished: evaluates nothing
    assert exported == [(0, 0.0)]
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_an_export_before_the_next_evaluation_has_the_last_numbers(tmp_path):
    given = []

    def stage():
        toy = toy_stage([1.0, 0.5], [])
        export = lambda params, step, numbers: given.append((step, numbers))  # noqa: E731
        return dataclasses.replace(toy, export=export)

    often = dataclasses.replace(schedule(4), eval_every=4, checkpoint_every=2)
    fit(stage(), often, tmp_path)
    # Continued after the evaluation of step 4: the checkpoint of step 6 comes before the next one.
    fit(stage(), dataclasses.replace(often, steps=6, eval_every=100), tmp_path)
    assert [step for step, _ in given] == [2, 4, 6]
    assert given[0][1] == {} and given[1][1] == {"loss": 1.0}
    assert given[2][1] == {"loss": 1.0}  # evaluated at the last step, by a fresh toy


def test_a_fit_returns_the_state_also_of_a_finished_run(tmp_path):
    trained = fit(toy_stage([1.0] * 4, []), schedule(4), tmp_path)
    finished = fit(toy_stage([], []), schedule(4), tmp_path)
    assert int(trained.step) == int(finished.step) == 4
    assert float(trained.params["x"]) == float(finished.params["x"]) > 0


def test_the_average_of_the_parameters_is_continued_evaluated_and_exported(tmp_path):
    def stage(exported, seen):
        toy = toy_stage([], exported)
        step = map_train_step(toy_loss, optax.sgd(0.1), MESH, ema=0.9)
        state = initial_state({"x": jnp.zeros(())}, optax.sgd(0.1), ema=True)
        measure = lambda params: {"loss": seen.append(float(params["x"])) or 1.0}  # noqa: E731
        return dataclasses.replace(toy, state=state, step=step, evaluators=[measure])

    whole, parts, seen = [], [], []
    end = fit(stage(whole, seen), schedule(8), tmp_path / "whole")
    for steps in (3, 8):
        continued = fit(stage(parts, []), schedule(steps), tmp_path / "parts")
    assert float(end.ema["x"]) == float(continued.ema["x"])
    assert 0 < float(end.ema["x"]) < float(end.params["x"])
    assert whole[-1] == parts[-1] == (8, float(end.ema["x"])) and seen[-1] == whole[-1][1]


def test_the_loop_loads_no_plots_and_no_scikit_learn():
    code = "import sys, exif_jax.training.loop; print({'matplotlib', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
