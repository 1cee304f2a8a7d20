"""A run's directory: which one is continued, and what its metrics hold after a crash."""

import dataclasses
import errno
import json
import logging
import shutil
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from data_pipelines.errors import UserError
from data_pipelines.fingerprints import Fingerprint
from exif_jax.config import OptimizerConfig, PretextConfig, RecordsConfig
from exif_jax.training.runs import MetricsLog, open_run
from tests.full_disks import small_disk

CONFIG = PretextConfig(steps=4, data=RecordsConfig(photos="records"))


def stored(workdir):
    return json.loads((workdir / "config.json").read_text())


def with_data(config, **fields):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **fields))


def test_a_new_run_writes_its_stage_and_configuration(tmp_path):
    workdir = tmp_path / "deep" / "run"
    open_run(workdir, CONFIG, "pretext")
    config = stored(workdir)
    assert (config["stage"], config["steps"]) == ("pretext", 4)
    assert config["data"]["photos"] == "records"


def test_an_empty_directory_becomes_a_run(tmp_path):
    open_run(tmp_path, CONFIG, "pretext")
    assert stored(tmp_path)["stage"] == "pretext"


@pytest.mark.parametrize(
    "later",
    [CONFIG, dataclasses.replace(CONFIG, steps=9), with_data(CONFIG, threads=3)],
    ids=["same", "more steps", "other threads"],
)
def test_the_same_run_is_continued(tmp_path, later):
    open_run(tmp_path, CONFIG, "pretext")
    open_run(tmp_path, later, "pretext")
    assert (stored(tmp_path)["steps"], stored(tmp_path)["data"]["threads"]) == (
        later.steps,
        later.data.threads,
    )


@pytest.mark.parametrize(
    ("later", "kind", "message"),
    [
        (dataclasses.replace(CONFIG, seed=3), "pretext", r"seed: 0 there, 3 now"),
        (with_data(CONFIG, patches=5), "pretext", r"data\.patches: 16 there, 5 now"),
        (with_data(CONFIG, photos="b"), "pretext", r"data\.photos: 'records' there, 'b' now"),
        (CONFIG, "binary", r"stage: 'pretext' there, 'binary' now"),
    ],
)
def test_another_run_is_refused_with_what_differs(tmp_path, later, kind, message):
    open_run(tmp_path, CONFIG, "pretext")
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=rf"holds another run .*{message}.*another --workdir"):
        open_run(tmp_path, later, kind)
    assert (tmp_path / "config.json").read_text() == before


def test_all_that_differs_is_named_and_nothing_else(tmp_path):
    open_run(tmp_path, CONFIG, "pretext")
    later = with_data(dataclasses.replace(CONFIG, seed=3, steps=9), patches=5)
    with pytest.raises(UserError) as caught:
        open_run(tmp_path, later, "pretext")
    assert "data.patches" in str(caught.value) and "seed" in str(caught.value)
    assert "steps" not in str(caught.value) and "batch_size" not in str(caught.value)


def test_a_schedule_that_ends_at_the_last_step_fixes_the_steps(tmp_path):
    cosine = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(schedule="cosine"))
    open_run(tmp_path, cosine, "pretext")
    open_run(tmp_path, cosine, "pretext")
    with pytest.raises(UserError, match=r"steps: 4 there, 9 now"):
        open_run(tmp_path, dataclasses.replace(cosine, steps=9), "pretext")


def test_files_that_are_no_run_are_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty and holds no run: choose another --workdir"):
        open_run(tmp_path, CONFIG, "pretext")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_messages_go_to_the_log_of_the_run_that_is_open(tmp_path):
    log = logging.getLogger("exif_jax.training.loop")
    for name in ("first", "second", "first"):
        open_run(tmp_path / name, CONFIG, "pretext")
        log.info("in %s", name)
    first, second = ((tmp_path / name / "log.txt").read_text() for name in ("first", "second"))
    assert first.count("in first") == 2 and "in second" not in first
    assert second.count("in second") == 1 and "in first" not in second


def test_warnings_of_the_data_reach_the_log(tmp_path):
    open_run(tmp_path / "run", CONFIG, "pretext")
    logging.getLogger("data_pipelines.labelled").warning("a folder is left out")
    assert "WARNING a folder is left out" in (tmp_path / "run" / "log.txt").read_text()


CANON = Fingerprint(classes={"Make": ["Canon", "other"]}, digests={"columns": "1"})
NIKON = Fingerprint(classes={"Make": ["Nikon", "other"]}, digests={"columns": "1"})


def open_with(workdir, data, config=CONFIG, **options):
    open_run(workdir, config, "pretext", lambda: {"data.photos": data}, **options)


def test_other_data_at_the_same_place_is_refused_with_what_differs(tmp_path):
    open_with(tmp_path, CANON)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"config.json", "data.json", "log.txt", "time.jsonl"}
    with pytest.raises(UserError) as caught:
        open_with(tmp_path, NIKON, dataclasses.replace(CONFIG, seed=3))
    assert str(caught.value) == (
        f"{tmp_path} holds another run (seed: 0 there, 3 now; data.photos = records has other "
        "data: class 0 of Make was Canon, is Nikon now): choose another --workdir, or give that "
        "run's configuration and data to continue it"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    open_with(tmp_path, CANON)
    assert (tmp_path / "data.json").read_bytes() == before["data.json"]


def test_the_same_data_may_be_at_another_place(tmp_path):
    open_with(tmp_path, CANON)
    open_with(tmp_path, CANON, with_data(CONFIG, photos="moved"))
    assert stored(tmp_path)["data"]["photos"] == "moved"
    with pytest.raises(UserError, match=r"data\.photos = elsewhere has other data"):
        open_with(tmp_path, NIKON, with_data(CONFIG, photos="elsewhere"))


def test_a_run_of_an_earlier_version_takes_the_data_of_today(tmp_path):
    open_run(tmp_path, CONFIG, "pretext")
    with pytest.raises(UserError, match=r"data\.photos: 'records' there, 'b' now"):
        open_with(tmp_path, CANON, with_data(CONFIG, photos="b"))
    open_with(tmp_path, CANON)
    assert "data.json: written now" in (tmp_path / "log.txt").read_text()
    with pytest.raises(UserError, match="Nikon"):
        open_with(tmp_path, NIKON)


def test_a_run_that_begins_anew_says_why(tmp_path):
    open_with(tmp_path, CANON, begins_anew=True)
    open_with(tmp_path, NIKON, begins_anew=True)
    log = (tmp_path / "log.txt").read_text()
    assert "class 0 of Make was Canon, is Nikon now; all is done anew" in log
    open_with(tmp_path, NIKON, begins_anew=True)
    assert (tmp_path / "log.txt").read_text() == log


@pytest.mark.parametrize("text", ["[]", "{", '{"data.photos": 3}'])
def test_a_damaged_fingerprint_is_named_with_the_remedy(tmp_path, text):
    open_with(tmp_path, CANON)
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=r"data\.json: .*; delete it if the data are still"):
        open_with(tmp_path, CANON)


def lines(workdir):
    return (workdir / "metrics.jsonl").read_text().splitlines()


def write(workdir, steps, start=0):
    with MetricsLog(workdir, start) as log:
        for step in steps:
            log.write(step, "train", {"loss": 10.0 - step})
        log.write(steps[-1], "validation", {"loss": float(steps[-1]), "accuracy": 0.5})


def test_metrics_are_one_object_a_line(tmp_path):
    write(tmp_path, [1, 2])
    assert [json.loads(line) for line in lines(tmp_path)] == [
        {"step": 1, "split": "train", "loss": 9.0},
        {"step": 2, "split": "train", "loss": 8.0},
        {"step": 2, "split": "validation", "loss": 2.0, "accuracy": 0.5},
    ]
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        log.write(1, "train", {"loss": 1.0})
        assert len(lines(tmp_path)) == 1
        log.flush()


@pytest.mark.parametrize("torn", ['{"step": 3, "split": "tr', '{"step": 3', "{", '"'])
def test_a_torn_last_line_is_dropped(tmp_path, torn):
    write(tmp_path, [1, 2])
    whole = lines(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    with MetricsLog(tmp_path, 2) as log:
        assert lines(tmp_path) == whole
        log.write(3, "train", {"loss": 7.0})
    assert lines(tmp_path)[:-1] == whole
    assert json.loads(lines(tmp_path)[-1])["step"] == 3


def test_lines_after_the_step_that_is_continued_are_dropped(tmp_path):
    write(tmp_path, [1, 2, 3])
    whole = lines(tmp_path)
    with MetricsLog(tmp_path, 2) as log:
        assert lines(tmp_path) == whole[:2]
        assert log.lowest("validation", "loss") is None
        assert log.last_step("train") == 2
    write(tmp_path, [3], start=2)
    assert lines(tmp_path) == whole
    with MetricsLog(tmp_path, 0):
        assert lines(tmp_path) == []


def test_what_was_written_before_is_remembered(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        assert log.lowest("train", "loss") is None
        assert log.last_step("train") == 0
    write(tmp_path, [1, 2])
    with MetricsLog(tmp_path, 2) as log:
        assert log.lowest("train", "loss") == 8.0
        assert log.lowest("validation", "accuracy") == 0.5
        assert log.lowest("train", "accuracy") is None
        log.write(3, "train", {"loss": 1.0})
        assert log.lowest("train", "loss") == 1.0
        assert (log.last_step("train"), log.last_step("validation")) == (3, 2)


def test_metrics_on_a_full_disk_name_the_file_and_keep_whole_lines(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        with pytest.raises(OSError, match="No space left") as raised, MetricsLog(disk, 0) as log:
            for step in range(10_000):
                log.write(step, "train", {"loss": 1.0, "name" * 20: float(step)})
                log.flush()
        assert raised.value.errno == errno.ENOSPC
        assert raised.value.filename.startswith(str(disk))
        text = (disk / "metrics.jsonl").read_text()
        assert text.endswith("\n") and all(json.loads(line) for line in text.splitlines())


def test_a_log_on_a_full_disk_is_an_error_and_no_stack_trace(tmp_path, capsys):
    with small_disk(tmp_path / "disk", 8) as disk:
        open_run(disk / "run", PretextConfig(), "pretext")
        log = logging.getLogger("exif_jax.somewhere")
        with pytest.raises(OSError, match="No space left") as raised:
            for _ in range(1000):
                log.info("x" * 100)
        assert raised.value.filename == str(disk / "run" / "log.txt")
        open_run(tmp_path / "other", PretextConfig(), "pretext")  # takes the place of the first log
    assert "Traceback" not in capsys.readouterr().err


def test_a_full_disk_refuses_a_run_in_one_line(tmp_path):
    with small_disk(tmp_path / "disk", 4) as disk:
        (disk / "other").write_bytes(bytes(4096))
        with pytest.raises(UserError, match=r"config\.json: No space left on device; free some"):
            open_run(disk / "run", PretextConfig(), "pretext")


def test_a_log_holds_names_of_any_kind_on_one_line(tmp_path):
    open_run(tmp_path / "run", PretextConfig(), "pretext")
    logging.getLogger("data_pipelines.x").warning("%s: left out", "a\n\udcff\x1b[2J\u202eé日")
    (line,) = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8").splitlines()
    assert line.endswith(" WARNING a\\n\\udcff\\x1b[2J\\u202eé日: left out")


def test_events_are_records_that_tensorboard_reads(tmp_path):
    with MetricsLog(tmp_path, 3) as log:
        log.write(4, "train", {"loss": 1.5})
    (path,) = (tmp_path / "tensorboard").iterdir()
    data, events = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert struct.unpack("<I", data[8:12]) == (masked_crc32c(data[:8]),)
        content, data = data[12 : 12 + length], data[12 + length :]
        assert struct.unpack("<I", data[:4]) == (masked_crc32c(content),)
        events.append(Event.FromString(content))
        data = data[4:]
    assert events[0].file_version == "brain.Event:2"
    assert (events[1].session_log.status, events[1].step) == (SessionLog.START, 4)
    assert (events[2].step, events[2].summary.value[0].tag) == (4, "train/loss")
    assert events[2].summary.value[0].simple_value == 1.5


def test_what_is_logged_after_the_folder_of_a_run_is_gone_is_dropped(tmp_path):
    open_run(tmp_path / "run", PretextConfig(), "pretext")
    shutil.rmtree(tmp_path / "run")
    logging.getLogger("exif_jax.somewhere").warning("nobody reads this")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[]", "3", "Infinity", "null", '"x"'])
def test_a_configuration_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: damaged .*; choose another --workdir"):
        open_run(tmp_path, CONFIG, "pretext")


def test_however_much_differs_the_message_is_short(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({f"{i}" * 5000: "x" * 5000 for i in range(99)})
    )
    with pytest.raises(UserError, match=r"; and \d+ more\)") as refused:
        open_run(tmp_path, CONFIG, "pretext")
    assert len(str(refused.value)) < 3000


@pytest.mark.parametrize(
    "row",
    [
        {"split": "train", "loss": 0.5},
        {"step": "1", "split": "train"},
        {"step": 1, "split": None},
        {"step": 1, "split": "train", "loss": [1.0]},
        {"step": 1, "split": "train", "loss": "low"},
    ],
)
def test_damaged_metrics_are_one_line(tmp_path, row):
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(row)}\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl: damaged .*; restore it"):
        MetricsLog(tmp_path, 5)
