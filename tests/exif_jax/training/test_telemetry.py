"""What the loop tells of itself: train lines, time.jsonl, traces, trackers; and what runs shows."""

import dataclasses
import json
import sys
import time
import types

import jax
import pytest
from jax.profiler import ProfileData

from data_pipelines.command_line import Exit
from data_pipelines.errors import UserError
from exif_jax import chips
from exif_jax.cli.__main__ import main
from exif_jax.config import PretextConfig
from exif_jax.training import telemetry
from exif_jax.training.loop import fit
from exif_jax.training.profiling import parse_steps
from exif_jax.training.runs import open_run
from exif_jax.training.telemetry import MEASURED, Clock
from exif_jax.training.timeline import read_timeline, seconds_by_cause, state_of
from exif_jax.training.trackers import TRACKERS, check_trackers
from tests.exif_jax.training.test_loop import schedule, toy_stage


def train_lines(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["split"] == "train"]


def test_all_time_has_a_cause_and_compiling_is_taken_out_of_it():
    began = time.monotonic()
    clock = Clock("start", before=5.0)
    with clock.within("train"):
        jax.jit(lambda x: x * jax.numpy.float32(began))(1.0).block_until_ready()
        with clock.within("wait"):
            time.sleep(0.02)
    seconds, whole = clock.read(), time.monotonic() - began
    assert sum(seconds.values()) == pytest.approx(5 + whole, abs=0.01)
    assert seconds["compile"] > 0 and seconds["wait"] >= 0.02 and seconds["start"] >= 5


def test_train_lines_tell_rates_waits_and_memory(tmp_path):
    stage = toy_stage([1.0] * 9, [])
    began = time.monotonic()
    fit(stage, dataclasses.replace(schedule(8), log_every=2), tmp_path)
    lines = train_lines(tmp_path)
    assert [row["step"] for row in lines] == [2, 4, 6, 8]
    for row in lines:
        assert row["images_per_second"] * row["step_seconds"] == pytest.approx(2)
        assert 0 <= row["input_wait"] <= 1 and 0.05 < row["device_memory_gib"] < 1000
        assert "mfu" not in row  # of a CPU
    assert sum(2 * row["step_seconds"] for row in lines) < time.monotonic() - began
    assert set(lines[0]) - set(MEASURED) == {"step", "split", "loss", "gradient_norm"}


def test_the_use_of_the_chip_is_told_where_its_peak_is_known(tmp_path, monkeypatch):
    assert chips.chip_of("NVIDIA H100 80GB HBM3") == chips.GPUS["H100"]
    assert chips.chip_of("TPU v5 lite") == chips.chip_of("TPU v5e") == chips.TPUS["v5e"]
    assert chips.chip_of("TPU v5p") == chips.TPUS["v5p"] and chips.chip_of("cpu") is None
    toy_chip = dataclasses.replace(chips.GPUS["H100"], flops=1e6)
    monkeypatch.setattr(telemetry, "chip_of", lambda kind: toy_chip)
    stage = toy_stage([1.0], [])
    flops = telemetry.step_flops(
        stage.step, *stage.place(jax.random.key(0))[:2],
        stage.put(next(stage.data.after(0))), jax.random.key(0),
    )  # fmt: skip
    assert 5 < flops < 100
    fit(stage, schedule(2), tmp_path)
    row = train_lines(tmp_path)[-1]
    assert row["mfu"] == pytest.approx(flops / 1e6 / row["step_seconds"])


def test_a_run_in_parts_accounts_for_all_its_time(tmp_path, monkeypatch):
    open_run(tmp_path, schedule(4), "pretext")
    fit(toy_stage([1.0] * 2, []), schedule(4), tmp_path)
    fit(toy_stage([], []), schedule(4), tmp_path)  # finished
    stage = toy_stage([1.0] * 9, [], poison=13)  # in the seventh batch
    with pytest.raises(UserError, match="nan at step 7"):
        fit(stage, schedule(8), tmp_path)
    rows = read_timeline(tmp_path)
    assert [(row["event"], row.get("step")) for row in rows] == [
        *(("start", None), ("begin", 0), ("saved", 2), ("evaluated", 2), ("saved", 3)),
        *(("saved", 4), ("evaluated", 4), ("end", 4), ("start", None), ("end", None)),
        *(("start", None), ("begin", 4), ("saved", 6), ("evaluated", 6), ("end", None)),
    ]
    assert rows[7]["state"] == rows[9]["state"] == "finished" and state_of(rows) == "failed"
    fit(toy_stage([1.0] * 9, []), schedule(8), tmp_path)
    rows = read_timeline(tmp_path)
    seconds = seconds_by_cause(rows)
    assert all(seconds[c] > 0 for c in ("train", "wait", "restore", "save", "evaluate", "lost"))
    out = rows[8]["at"] - rows[7]["at"] + rows[10]["at"] - rows[9]["at"]  # while it was finished
    looked = rows[9]["at"] - rows[8]["at"]
    whole = rows[-1]["at"] - rows[0]["at"] - out - looked
    assert sum(seconds.values()) == pytest.approx(whole, abs=0.1)


def test_a_preempted_run_says_so(tmp_path):
    stage = toy_stage([1.0] * 9, [])

    def stop(*_):
        raise Exit(143, "preempted")

    with pytest.raises(Exit):
        fit(dataclasses.replace(stage, evaluators=[stop]), schedule(4), tmp_path)
    last = read_timeline(tmp_path)[-1]
    assert (last["event"], last["state"], last["step"]) == ("end", "preempted", 2)


def test_steps_are_traced_for_xprof(tmp_path):
    with_trace = dataclasses.replace(schedule(6), profile_steps="3-4", eval_every=6)
    fit(toy_stage([1.0] * 9, []), with_trace, tmp_path)
    (path,) = (tmp_path / "tensorboard" / "plugins" / "profile").glob("*/*.xplane.pb")
    names = {
        (event.name, value)
        for plane in ProfileData.from_file(str(path)).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
        for name, value in event.stats
        if name == "step_num"
    }
    assert names == {("train", 3), ("train", 4)}


@pytest.mark.parametrize(("text", "steps"), [("", None), ("7", (7, 7)), (" 100-105", (100, 105))])
def test_steps_to_trace_are_one_or_a_range(text, steps):
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["0", "5-3", "1,2", "a", "-3"])
def test_other_steps_to_trace_are_refused(text):
    with pytest.raises(UserError, match=r"config\.profile_steps = "):
        parse_steps(text)


class FakeRun:
    """Of wandb; keeps all that it is told."""

    def __init__(self, options):
        self.options, self.lines, self.ended = options, [], None

    def define_metric(self, *_, **options):
        assert options == {"step_metric": "step"}

    def log(self, line):
        self.lines.append(line)

    def finish(self, exit_code):
        self.ended = exit_code


def test_wandb_gets_every_line_and_goes_on_with_a_run(tmp_path, monkeypatch):
    begun = []
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: begun.append(FakeRun(options)) or begun[-1]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for steps in (2, 4):
        tracked = dataclasses.replace(schedule(steps), trackers="wandb")
        fit(toy_stage([0.5] * 2, []), tracked, tmp_path / "run")
    first, second = begun
    assert first.options["id"] == second.options["id"] and first.ended == second.ended == 0
    assert first.options["name"] == "run" and first.options["config"]["optimizer.name"] == "adam"
    assert [line["step"] for line in first.lines + second.lines] == [1, 2, 2, 3, 4, 4]
    assert second.lines[-1] == {"step": 4, "validation/loss": 0.5}
    assert {"train/loss", "train/images_per_second"} < first.lines[0].keys()


class FakeClient:
    """Of mlflow; keeps its runs in the class."""

    runs: dict[str, dict]

    def get_experiment_by_name(self, name):
        return types.SimpleNamespace(experiment_id="7") if name == "mine" else None

    def search_runs(self, experiments, filter_string):
        assert experiments == ["7"]
        return [
            types.SimpleNamespace(info=types.SimpleNamespace(run_id=name))
            for name, run in self.runs.items()
            if filter_string == f"tags.`exif_jax.run` = '{run['tags']['exif_jax.run']}'"
        ]

    def create_run(self, experiment, tags, run_name):
        self.runs[run_name] = {"tags": tags, "metrics": [], "params": {}}
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name))

    def update_run(self, name, status):
        self.runs[name]["status"] = status

    def log_param(self, name, field, value):
        self.runs[name]["params"][field] = value

    def log_metric(self, name, metric, value, step):
        self.runs[name]["metrics"].append((metric, step))

    def set_terminated(self, name, state):
        self.runs[name]["status"] = state


def test_mlflow_gets_every_number_and_goes_on_with_a_run(tmp_path, monkeypatch):
    fake = types.ModuleType("mlflow")
    fake.MlflowClient, FakeClient.runs = FakeClient, {}
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    for steps in (2, 4):
        tracked = dataclasses.replace(schedule(steps), trackers="mlflow")
        fit(toy_stage([0.5] * 2, []), tracked, tmp_path / "run")
    (run,) = FakeClient.runs.values()
    assert run["status"] == "FINISHED" and run["params"]["optimizer.learning_rate"] == "0.0001"
    assert [step for name, step in run["metrics"] if name == "train/loss"] == [1, 2, 3, 4]


def test_a_tracker_that_fails_is_left_out_and_training_goes_on(tmp_path, caplog):
    class Broken:
        def __init__(self, run):
            pass

        def write(self, step, split, numbers):
            raise ConnectionError("no network")

    TRACKERS.register("broken")(Broken)
    tracked = dataclasses.replace(schedule(3), trackers="broken")
    assert int(fit(toy_stage([1.0] * 2, []), tracked, tmp_path).step) == 3
    assert caplog.text.count("broken gets no more of this run: ConnectionError: no network") == 1


def test_a_tracker_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"config\.trackers: wandb cannot .*: pip install wandb"):
        check_trackers("wandb")
    with pytest.raises(UserError, match="tracker 'wandbb'"):
        check_trackers("wandbb")


def test_runs_shows_a_table_and_json(tmp_path, capsys):
    configured = PretextConfig(steps=4, log_every=1, eval_every=2, checkpoint_every=3)
    open_run(tmp_path / "b" / "done", configured, "pretext")
    fit(toy_stage([0.5] * 2, []), configured, tmp_path / "b" / "done")
    open_run(tmp_path / "b" / "begun", configured, "pretext")
    open_run(tmp_path / "nan", configured, "pretext")
    with pytest.raises(UserError):
        fit(toy_stage([0.5] * 2, [], poison=4), configured, tmp_path / "nan")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "config.json").write_text("{")
    assert main(["runs", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    shown = {line.split()[0]: line.split() for line in lines[1:5]}
    assert shown["b/done"][1:4] == ["pretext", "finished", "4/4"] and "0.5" in shown["b/done"]
    assert shown["b/begun"][1:4] == ["pretext", "running", "0/4"]
    assert shown["nan"][1:4] == ["pretext", "failed", "2/4"] and shown["torn"][1] == "unreadable"
    assert lines[5].startswith("nan: error: the loss became nan at step 3 ")
    assert lines[6].startswith("torn: ")
    assert main(["runs", str(tmp_path / "b" / "done"), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["run"], one["state"], one["step"], one["steps"]) == ("done", "finished", 4, 4)
    assert 0 < one["goodput"] < 1 and one["seconds"]["train"] > 0 and one["validation_loss"] == 0.5
    assert main(["runs", str(tmp_path / "b" / "done" / "checkpoints")]) == 2
    assert "no run is in this folder" in capsys.readouterr().err
