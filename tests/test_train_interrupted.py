"""train.py on a full disk and under Ctrl-C: one line, and the same command goes on exactly."""

import signal
import time
from pathlib import Path

import pytest

from tests.full_disks import grow, small_disk
from tests.test_train import (
    PRETEXT,
    arrays,
    assert_identical,
    finish,
    metrics,
    start,
)

SHORT = ["--config.steps=4", "--config.checkpoint_every=1", "--config.eval_every=2"]


@pytest.fixture(scope="module")
def whole(records, tmp_path_factory):
    """The command, and the directory of its uninterrupted run."""
    arguments = [*PRETEXT, f"--config.data.photos={records}", *SHORT]
    run = tmp_path_factory.mktemp("whole") / "run"
    finish(start([*arguments, f"--workdir={run}"]))
    return arguments, run


def said(process):
    """Lines of a process that ends, without those of its progress bar."""
    lines = process.communicate(timeout=120)[0].replace("\r", "\n").split("\n")
    return [line for line in lines if line.strip() and "step" not in line.partition("[")[2]]


def assert_goes_on(arguments, run, whole):
    finish(start([*arguments, f"--workdir={run}"]))
    assert metrics(run) == metrics(whole)
    assert_identical(arrays(run / "extractor"), arrays(whole / "extractor"))
    assert not [path for path in run.rglob("*") if "tmp" in path.name]


@pytest.mark.parametrize(
    ("kilobytes", "named"),
    [
        (0, "run/data.json"),
        (60, "run/extractor"),  # by safetensors
        (380, "run/checkpoints"),  # by Orbax, in threads of its own
    ],
)
def test_a_full_disk_is_one_line_and_loses_nothing(whole, tmp_path, kilobytes, named):
    arguments, uninterrupted = whole
    with small_disk(tmp_path / "disk", kilobytes or 4) as disk:
        if not kilobytes:
            (disk / "other").write_bytes(bytes(4096))
        run = disk / "run"
        process = start([*arguments, f"--workdir={run}"])
        lines = said(process)
        assert process.returncode == 2 and len(lines) == 1, lines
        assert lines[0].startswith(f"error: {disk / named}")
        assert lines[0].endswith(
            ": No space left on device; free some space and run the same command again"
        )
        grow(disk)
        if kilobytes:
            assert_goes_on(arguments, run, uninterrupted)


def in_a_checkpoint(run):
    return any("tmp" in path.name for path in (run / "checkpoints").glob("*"))


def interrupt(arguments, run, moment, signals=1):
    """Ctrl-C as soon as something is so; exit status and what was said."""
    process = start([*arguments, f"--workdir={run}"])
    while not moment(run):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
    lines = said(process)
    return process.returncode, lines


INTERRUPTED = (130, ["interrupted; the same command continues"])


def test_ctrl_c_is_one_line_and_loses_nothing(whole, tmp_path):
    arguments, uninterrupted = whole
    # While it compiles, and in a checkpoint.
    assert interrupt(arguments, tmp_path / "run", Path.is_dir) == INTERRUPTED
    assert interrupt(arguments, tmp_path / "run", in_a_checkpoint) == INTERRUPTED
    assert_goes_on(arguments, tmp_path / "run", uninterrupted)


def test_ctrl_c_twice_leaves_no_trace(whole, tmp_path):
    arguments, _ = whole
    end = interrupt(arguments, tmp_path / "run", in_a_checkpoint, signals=2)
    # The second one may come before anything is said.
    assert end in (INTERRUPTED, (-signal.SIGINT, []))
