"""Checkpoints on a full disk, copied in part, or of another model: what is wrong, what to do."""

import errno
import logging
import re
import shutil
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import UserError
from exif_jax.training.checkpoints import Checkpoints
from tests.full_disks import grow, small_disk


@dataclass
class State:
    array: np.ndarray


@pytest.fixture(autouse=True)
def quiet():
    """As commands are, see `log_to_terminal`."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("absl").setLevel(logging.WARNING)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 1 and 2."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(directory)
    for step in (1, 2):
        checkpoints.save(step, State(np.full(4, float(step))))
    checkpoints.close()
    return directory


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("numbers", [60_000, 200_000])
def test_a_full_disk(tmp_path, numbers):
    rng = np.random.default_rng(0)
    small, large = State(rng.normal(size=1000)), State(rng.normal(size=numbers))
    with small_disk(tmp_path / "disk", 480) as disk:
        checkpoints = Checkpoints(disk / "checkpoints")
        checkpoints.save(1, small)
        checkpoints.close()
        checkpoints = Checkpoints(disk / "checkpoints")
        with pytest.raises(OSError, match="No space left") as raised:
            checkpoints.save(2, large)
            checkpoints.close()
        assert raised.value.errno == errno.ENOSPC
        assert raised.value.filename == str(disk / "checkpoints")
        grow(disk)
        checkpoints = Checkpoints(disk / "checkpoints")
        assert checkpoints.latest() == 1
        restored = checkpoints.restore(1, small)
        np.testing.assert_array_equal(restored.array, small.array)
        checkpoints.save(2, large)
        checkpoints.close()
        assert Checkpoints(disk / "checkpoints").latest() == 2


def _cut(step):
    for file in (step / "state" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:5])


@pytest.mark.parametrize(
    "lose",
    [
        lambda step: shutil.rmtree(step / "state"),
        lambda step: [shutil.rmtree(step), step.mkdir()],
        _cut,
        lambda step: (step / "state" / "_METADATA").write_text("[]"),
    ],
)
def test_a_checkpoint_that_was_copied_in_part(saved, tmp_path, lose):
    shutil.copytree(saved, tmp_path / "run")
    lose(tmp_path / "run" / "2")
    checkpoints = Checkpoints(tmp_path / "run")
    with pytest.raises(UserError, match=r"run/2: this checkpoint .*if the run was copied"):
        checkpoints.restore(2, State(np.zeros(4)))
    checkpoints.close()
    shutil.rmtree(tmp_path / "run" / "2")
    checkpoints = Checkpoints(tmp_path / "run")
    restored = checkpoints.restore(checkpoints.latest(), State(np.zeros(4)))
    np.testing.assert_array_equal(restored.array, np.full(4, 1.0))
    checkpoints.close()


def test_a_damaged_byte_is_told_or_does_no_harm(tmp_path):
    """Whichever file it is in, be it of what Orbax keeps itself or of a compressed array."""
    rng = np.random.default_rng(0)
    state = State(rng.normal(size=(16, 64)).astype(np.float32))
    checkpoints = Checkpoints(tmp_path / "run")
    checkpoints.save(1, state)
    checkpoints.close()
    reasons = set()
    for file in sorted((tmp_path / "run" / "1").rglob("*")):
        data = file.read_bytes() if file.is_file() else b""
        for place in {min(place, len(data) - 1) for place in (0, 5, 30, 200, 1000)} - {-1}:
            file.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
            try:
                checkpoints = Checkpoints(tmp_path / "run")
                checkpoints.restore(1, State(np.zeros((16, 64), np.float32)))
                checkpoints.close()
            except UserError as error:
                reasons.add(re.sub(r".*cannot be restored \((.*)\); .*", r"\1", str(error)))
            file.write_bytes(data)
    assert len(reasons) > 2
    assert not any("bound method" in reason for reason in reasons)
    restored = Checkpoints(tmp_path / "run").restore(1, State(np.zeros((16, 64), np.float32)))
    np.testing.assert_array_equal(restored.array, state.array)


def test_an_array_that_cannot_be_decoded_tells_the_reason(saved, monkeypatch):
    checkpoints = Checkpoints(saved)

    def fail(*_, **options):
        raise Exception("see <bound method spec>") from ValueError("ZSTD failed")  # as Orbax does

    monkeypatch.setattr(checkpoints._manager, "restore", fail)
    with pytest.raises(UserError, match=r"cannot be restored \(ValueError: ZSTD failed\)"):
        checkpoints.restore(2, State(np.zeros(4)))


def test_what_lies_among_checkpoints_besides(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / "3.orbax-checkpoint-tmp-1703334121930256").mkdir()
    for name in (".DS_Store", "._2", "2/.DS_Store"):
        (tmp_path / "run" / name).write_bytes(b"x")
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.latest() == 2
    restored = checkpoints.restore(2, State(np.zeros(4)))
    np.testing.assert_array_equal(restored.array, np.full(4, 2.0))
    checkpoints.close()


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, State(jnp.zeros((3, 4))))
    with pytest.raises(UserError, match=r"/1: this checkpoint .* of another model .give the"):
        checkpoints.restore(1, State(jnp.zeros((3, 5))))
    checkpoints.close()


def test_a_checkpoint_that_tells_nothing_of_itself(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / "2" / "_CHECKPOINT_METADATA").write_text("[]")
    with pytest.raises(UserError, match=r"run: one of these checkpoints cannot be restored"):
        Checkpoints(tmp_path / "run")
