"""A detector with verdicts, made by hand."""

import pytest

from tests.exif_jax.noise_detector import write_noise_detector


@pytest.fixture(scope="session")
def noise_detector(tmp_path_factory):
    """Directory of the detector of `noise_detector.py`, which is called `noise`."""
    return write_noise_detector(tmp_path_factory.mktemp("run") / "noise" / "detector")
