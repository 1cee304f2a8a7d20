"""exif-jax convert: released checkpoints become directories that load."""

import jax
import numpy as np
import pytest

import exif_jax
from data_pipelines.errors import UserError
from exif_jax.cli.__main__ import main
from exif_jax.cli.convert import convert
from exif_jax.models.extractor import extractor_shapes
from exif_jax.models.released import RELEASED_TARGETS, import_weights
from exif_jax.models.storage import flatten


def assert_equal(actual, expected):
    actual, expected = flatten(actual), flatten(expected)
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def test_a_pretext_checkpoint_becomes_an_extractor(pretext_weights, tmp_path, capsys):
    np.savez(tmp_path / "weights.npz", **pretext_weights)
    assert main(["convert", str(tmp_path / "weights.npz"), str(tmp_path / "out")]) == 0
    assert "exif_jax.load_extractor" in capsys.readouterr().out
    loaded = exif_jax.load_extractor(tmp_path / "out")
    _, params = import_weights(pretext_weights, "weights.npz")
    assert_equal(loaded.params, params["extractor"])
    assert_equal(loaded.heads, params["heads"])
    assert loaded.targets == RELEASED_TARGETS
    assert extractor_shapes(loaded.module)[1] == 528


def test_the_published_numbers_come_out(parity, tmp_path):
    convert(parity / "pretext_random_state.npz", tmp_path / "out")
    expected = np.load(parity / "expected.npz")
    patches = expected["patches_uint8"][:1, 0, :3]
    with jax.enable_x64(False):
        features, _ = exif_jax.load_extractor(tmp_path / "out")(patches)
    np.testing.assert_allclose(features, expected["f_three_patches"], rtol=0, atol=1e-3)


def test_a_binary_checkpoint_becomes_a_detector(binary_weights, tmp_path, capsys):
    np.savez(tmp_path / "weights.npz", **binary_weights)
    assert main(["convert", str(tmp_path / "weights.npz"), str(tmp_path / "out")]) == 0
    assert "exif_jax.load_detector" in capsys.readouterr().out
    detector = exif_jax.load_detector(tmp_path / "out")
    _, params = import_weights(binary_weights, "weights.npz")
    assert (detector.name, detector.kind, detector.threshold) == ("out", "binary", 0.5)
    assert detector.facts["converted_from"] == "weights.npz"
    assert_equal(detector.extractor.params, params["extractor"])
    assert_equal(detector.arrays, {"head": params["head"]})


def test_a_pytorch_file_and_an_archive_give_the_same(pretext_weights, tmp_path):
    torch = pytest.importorskip("torch", reason="the optional PyTorch is not installed")
    state = {key: torch.from_numpy(np.array(value)) for key, value in pretext_weights.items()}
    torch.save({"state_net": state}, tmp_path / "weights.pth")
    np.savez(tmp_path / "weights.npz", **pretext_weights)
    for suffix in ("pth", "npz"):
        assert convert(tmp_path / f"weights.{suffix}", tmp_path / suffix) == "extractor"
    a, b = (exif_jax.load_extractor(tmp_path / suffix) for suffix in ("pth", "npz"))
    assert_equal(a.params, b.params)
    assert_equal(a.heads, b.heads)


def test_nothing_is_overwritten(pretext_weights, tmp_path):
    np.savez(tmp_path / "weights.npz", **pretext_weights)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="out exists"):
        convert(tmp_path / "weights.npz", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_bad_checkpoint_writes_nothing(tmp_path, capsys):
    np.savez(tmp_path / "weights.npz", a=np.ones(3))
    assert main(["convert", str(tmp_path / "weights.npz"), str(tmp_path / "out")]) == 2
    assert "unknown: a" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "absent.pth"), str(tmp_path / "out")]) == 2
    assert "absent.pth: no such file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["weights.npz"]
