"""Files and model directories are, at any moment, whole: the old one or the new one."""

import json
from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, replacing_directory, write_json, write_text
from exif_jax.models.storage import FORMAT_VERSION, flatten, load_model, save_model, unflatten

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4)
leaves = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int32]),
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
    elements=st.integers(-9, 9),
)
trees = st.recursive(leaves, lambda t: st.dictionaries(names, t, min_size=1), max_leaves=6)


def same(a, b):
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return not isinstance(b, dict) and a.dtype == b.dtype and np.array_equal(a, b)


@hypothesis.settings(max_examples=25)
@hypothesis.given(st.dictionaries(names, trees, max_size=3))
def test_unflatten_is_the_inverse_of_flatten(tree):
    assert same(unflatten(flatten(tree)), tree)


def test_models_come_back_with_types_and_shapes(tmp_path):
    base = np.arange(12.0).reshape(3, 4)
    tree = {"a": {"t": base.T, "f": base.astype(np.float32)}, "scalar": np.array(2.5)}
    save_model(tmp_path / "m", "extractor.json", tree, {"kind": "test", "numbers": [1, 2]})
    arrays, facts = load_model(tmp_path / "m", "extractor.json")
    assert same(arrays, tree)
    assert (facts["kind"], facts["numbers"]) == ("test", [1, 2])
    assert facts["format_version"] == FORMAT_VERSION


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    for name in (".model.abc.tmp", ".model.def.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    with replacing_directory(tmp_path / "model") as directory:
        (directory / "whole").write_text("y")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_is_replaced_at_once(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    assert read_json(path) == {"old": 1}

    def fail(self, target):
        assert json.loads(self.read_text()) == {"new": 2}  # whole before it takes the place
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="power cut"):
            write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    write_text(path, "3")
    assert read_json(path) == 3


def test_json_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.json: missing"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b"\xff{")
    with pytest.raises(UserError, match=r"a\.json: not readable as JSON"):
        read_json(tmp_path / "a.json")


def fill(path, text):
    with replacing_directory(path) as directory:
        (directory / "x").write_text(text)


def test_a_directory_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "deep" / "model"
    fill(path, "one")
    (path / "stale").touch()
    fill(path, "two")
    assert [p.name for p in path.parent.iterdir()] == ["model"]
    assert [p.name for p in path.iterdir()] == ["x"]
    assert (path / "x").read_text() == "two"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_in_the_middle_leaves_the_old_directory(tmp_path, error):
    path = tmp_path / "model"
    fill(path, "one")
    with pytest.raises(type(error)), replacing_directory(path) as directory:
        (directory / "x").write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (path / "x").read_text() == "one"


def test_facts_that_are_no_json_leave_the_old_model(tmp_path):
    save_model(tmp_path / "m", "extractor.json", {"a": np.ones(2)}, {})
    with pytest.raises(TypeError):
        save_model(tmp_path / "m", "extractor.json", {"a": np.zeros(2)}, {"bad": object()})
    arrays, _ = load_model(tmp_path / "m", "extractor.json")
    np.testing.assert_array_equal(arrays["a"], np.ones(2))
