"""A kind of detector of one's own: one registered class, saved, loaded and used like ours."""

from dataclasses import dataclass

import numpy as np
import pytest

from data_pipelines.errors import UserError
from exif_jax.detection.detectors import load_detector, save_detector
from exif_jax.detection.kinds import DETECTOR_KINDS, DetectorKind, describe
from exif_jax.models.trained import load_extractor


@DETECTOR_KINDS.register("distance")
@dataclass(frozen=True)
class Distance(DetectorKind):
    """Distance to a mean, to some power."""

    power: float

    def shapes(self, arrays, features):
        return {"mean": (features,)}

    def score(self, features, arrays):
        return np.linalg.norm(features - arrays["mean"], axis=1) ** self.power


def test_it_is_saved_loaded_and_scores(tiny_extractor, tmp_path):
    extractor = load_extractor(tiny_extractor)
    arrays = {"mean": np.full(10, 0.5, np.float32)}
    for power in (1, 2):
        save_detector(tmp_path / f"{power}", "distance", 0.5, extractor, arrays, {"power": power})
    one, two = (load_detector(tmp_path / f"{power}") for power in (1, 2))
    assert one.description == Distance(1)
    image = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    np.testing.assert_allclose(one.score([image]) ** 2, two.score([image]), rtol=1e-5)
    assert one.p_values(one.score([image])) is None


def test_arrays_that_do_not_fit_are_refused(tiny_extractor, tmp_path):
    extractor = load_extractor(tiny_extractor)
    save_detector(tmp_path / "d", "distance", 0.5, extractor, {"mean": np.zeros(9)}, {"power": 1})
    with pytest.raises(UserError, match=r"mean is \(9,\), expected \(10,\)"):
        load_detector(tmp_path / "d")


def test_a_missing_field_and_an_unknown_kind_are_refused(tiny_extractor, tmp_path):
    extractor = load_extractor(tiny_extractor)
    save_detector(tmp_path / "d", "distance", 0.5, extractor, {"mean": np.zeros(10)}, {})
    with pytest.raises(UserError, match="power"):
        load_detector(tmp_path / "d")
    with pytest.raises(UserError, match="known are one_class, binary"):
        describe("x", {})
