"""Checkpoints on a full disk: an error that names them, and the last whole one stays."""

import errno
import logging
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


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, State(jnp.zeros((3, 4))))
    with pytest.raises(UserError, match=r"/1: this checkpoint is of another model.*; give the"):
        checkpoints.restore(1, State(jnp.zeros((3, 5))))
    checkpoints.close()
