"""Importing released weights: everything checked, nothing executed."""

import builtins
import io
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import UserError
from exif_jax.models.released import RELEASED_TARGETS, import_weights, read_checkpoint


def test_convolutions_and_linear_layers_are_transposed(pretext_weights):
    kind, params = import_weights(pretext_weights, "x.npz")
    assert kind == "pretext" and set(params) == {"extractor", "heads"}
    stem = pretext_weights["module.backbone.group1_b.0.weight"]
    ours = params["extractor"]["encoder"]["stem_kernel"]
    assert ours[2, 1, 7, 3] == stem[3, 7, 2, 1]
    scale = params["extractor"]["encoder"]["stem_norm"]["scale"]
    assert scale[5, 6, 2] == pretext_weights["module.backbone.group1_b.1.weight"][2, 5, 6]
    for index, target in enumerate(RELEASED_TARGETS, start=1):
        kernel = pretext_weights[f"module.fc{index}.weight"]
        np.testing.assert_array_equal(params["heads"][target.name]["kernel"], kernel.T)


def test_of_a_binary_checkpoint_both_networks_are_kept_apart(binary_weights):
    kind, params = import_weights(binary_weights, "x.npz")
    assert kind == "binary" and set(params) == {"extractor", "teacher", "head"}
    for name, part in (("random", "extractor"), ("pretrained", "teacher")):
        bias = binary_weights[f"module.diffusionextractor_{name}.group1_b.0.bias"]
        np.testing.assert_array_equal(params[part]["encoder"]["stem_bias"], bias)


def test_other_float_types_are_taken(pretext_weights):
    key = "module.fc1.bias"
    for dtype in (np.float16, np.float64):
        _, params = import_weights(pretext_weights | {key: np.ones(1, dtype)}, "x.npz")
        assert params["heads"][RELEASED_TARGETS[0].name]["bias"].dtype == np.float32


def test_every_problem_is_listed_in_one_error(pretext_weights):
    weights = dict(pretext_weights)
    del weights["module.fc1.bias"], weights["module.backbone.group2.0.weight"]
    weights["module.extra.weight"] = weights["module.surprise"] = np.ones(3)
    weights["module.fc3.weight"] = np.ones((1, 527), np.float32)
    weights["module.fc5.bias"] = np.full(1, np.nan)
    weights["module.fc8.bias"] = np.ones(1, int)
    weights["module.backbone.group1.hpf.weight"] = np.zeros((30, 1, 5, 5), np.float32)
    with pytest.raises(UserError) as error:
        import_weights(weights, "some.npz")
    lines = str(error.value).splitlines()
    assert lines[0] == "some.npz: 8 keys do not fit the released layout:"
    assert sorted(line.strip() for line in lines[1:]) == [
        "missing: backbone.group2.0.weight",
        "missing: fc1.bias",
        "not finite numbers: fc5.bias",
        "not finite numbers: fc8.bias",
        "other filters than the published ones: backbone.group1.hpf.weight",
        "unknown: extra.weight",
        "unknown: surprise",
        "wrong shape: fc3.weight is (1, 527), expected (1, 528)",
    ]


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return bytearray(file.getvalue())


def damaged_member():
    data = archive(a=np.arange(100.0))
    data[300:310] = b"x" * 10
    return data


def single_array():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


class Trap:
    """Pickled, it creates the file that the environment variable names when it is loaded."""

    def __reduce__(self):
        return (builtins.open, (os.environ["TRAP"], "w"))


@pytest.fixture
def trap(tmp_path, monkeypatch):
    path = tmp_path / "trapped"
    monkeypatch.setenv("TRAP", str(path))
    yield path
    assert not path.exists(), "a file was executed while it was read"


@pytest.mark.parametrize(
    "content",
    [
        lambda: b"",
        lambda: b"text",
        lambda: archive(a=np.arange(100.0))[:200],
        damaged_member,
        single_array,
        lambda: archive(a=np.array([Trap()], object)),
        lambda: pickle.dumps(Trap()),
    ],
    ids=["empty", "text", "cut", "damaged", "npy", "pickled array", "pickle"],
)
def test_damaged_archives_are_refused(content, tmp_path, trap):
    path = tmp_path / "weights.npz"
    path.write_bytes(content())
    with pytest.raises(UserError, match=r"weights\.npz: not a readable \.npz file"):
        read_checkpoint(path)


def test_without_pytorch_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"x\.pth: .*pip install 'exif-jax\[torch\]'"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the optional PyTorch is not installed")


def test_a_pytorch_file_gives_its_arrays(torch, tmp_path):
    state = {"module.a": torch.arange(3.0), "module.b": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({"state_net": state, "epoch": 3}, tmp_path / "x.pth")
    arrays = read_checkpoint(tmp_path / "x.pth")
    np.testing.assert_array_equal(arrays["module.a"], [0, 1, 2])
    assert arrays["module.b"].dtype == np.float32


@pytest.mark.parametrize("content", [{"other": {}}, {"state_net": {"a": 1}}, [1, 2]])
def test_a_pytorch_file_without_weights_is_refused(torch, content, tmp_path):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth: holds no dict 'state_net' of tensors"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_pytorch_file_is_refused_and_not_executed(torch, legacy, tmp_path, trap):
    path: Path = tmp_path / "evil.pth"
    if legacy:
        path.write_bytes(pickle.dumps({"state_net": {"a": Trap()}}))
    else:
        torch.save({"state_net": {"a": torch.ones(1), "b": Trap()}}, path)
    with pytest.raises(UserError, match=r"evil\.pth: not a PyTorch checkpoint of plain weights"):
        read_checkpoint(path)
