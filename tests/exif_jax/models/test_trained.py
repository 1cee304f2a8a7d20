"""Trained extractors on disk: what was saved comes back, anything damaged is one clear error."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data_pipelines.errors import UserError
from data_pipelines.records import open_records
from exif_jax.models.storage import FORMAT_VERSION, flatten
from exif_jax.models.trained import load_extractor, save_extractor

ARRAYS, FACTS = "model.safetensors", "extractor.json"


@pytest.fixture
def copy(tiny_extractor, tmp_path):
    return shutil.copytree(tiny_extractor, tmp_path / "copy")


def edit_arrays(directory, change):
    arrays = load_file(directory / ARRAYS)
    change(arrays)
    save_file(arrays, directory / ARRAYS)
    edit_facts(directory, lambda facts: facts.pop("sha256", None))  # as old ones, without a hash


def edit_facts(directory, change):
    facts = json.loads((directory / FACTS).read_text())
    change(facts)
    (directory / FACTS).write_text(json.dumps(facts))


def patches(count):
    return np.random.default_rng(0).integers(256, size=(2, count, 64, 64, 3), dtype=np.uint8)


def test_a_run_and_its_extractor_are_the_same(tiny_extractor, records):
    for path in (tiny_extractor, str(tiny_extractor), tiny_extractor.parent):
        loaded = load_extractor(path)
        assert loaded.source == tiny_extractor
        assert loaded.targets == open_records(records).targets
        assert loaded.heads.keys() == {target.name for target in loaded.targets}


def test_features_and_intermediates_have_the_shapes_of_the_model(tiny_extractor):
    features, intermediates = load_extractor(tiny_extractor)(patches(3))
    assert (features.shape, features.dtype) == ((2, 10), np.float32)
    assert intermediates["f1"].shape[:2] == intermediates["f5"].shape[:2] == (2, 3)
    assert all(np.isfinite(x).all() for x in (features, *intermediates.values()))


def test_what_is_saved_again_gives_the_same_features(tiny_extractor, tmp_path):
    loaded = load_extractor(tiny_extractor)
    params = {"extractor": loaded.params, "heads": loaded.heads}
    save_extractor(tmp_path / "again", params, loaded.model, loaded.targets, {"note": "mine"})
    again = load_extractor(tmp_path / "again")
    assert (again.model, again.targets) == (loaded.model, loaded.targets)
    np.testing.assert_array_equal(again(patches(2))[0], loaded(patches(2))[0])
    facts = json.loads((tmp_path / "again" / FACTS).read_text())
    assert (facts["note"], facts["format_version"]) == ("mine", FORMAT_VERSION)
    assert facts["versions"].keys() == {"exif-jax", "jax", "flax"}
    a, b = flatten(again.heads), flatten(loaded.heads)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_extractor_needs_no_heads(copy):
    edit_arrays(copy, lambda a: [a.pop(name) for name in list(a) if name.startswith("heads/")])
    edit_facts(copy, lambda facts: facts.pop("targets"))
    loaded = load_extractor(copy)
    assert loaded.heads == {} and loaded.targets == ()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 64, 64, 3), np.uint8),
        np.zeros((2, 1, 32, 32, 3), np.uint8),
        np.zeros((2, 1, 64, 64, 4), np.uint8),
        np.zeros((2, 1, 64, 64, 3), np.float32),
    ],
)
def test_other_arrays_are_refused(tiny_extractor, bad):
    with pytest.raises(ValueError, match=r"patches must be"):
        load_extractor(tiny_extractor)(bad)


def test_nothing_there_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=rf"{path}: no extractor here; give the workdir"):
            load_extractor(path)


def first(arrays):
    return min(name for name in arrays if name.startswith("extractor/"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop(first(a)), r"is missing, expected \("),
        (lambda a: a.update({first(a): np.zeros((1, 2), np.float32)}), r"is \(1, 2\), expected \("),
        (lambda a: a.update({"extractor/more": np.zeros(3, np.float32)}), r"more is \(3,\)"),
        (lambda a: [a.pop(n) for n in list(a) if n.startswith("extractor/")], "is missing, expect"),
    ],
    ids=["missing", "misshaped", "unknown", "none"],
)
def test_arrays_that_do_not_fit_are_named(copy, change, message):
    edit_arrays(copy, change)
    with pytest.raises(UserError, match=rf"copy: the arrays do not fit the model: .*{message}"):
        load_extractor(copy)


def test_damaged_arrays_are_named(copy):
    path = copy / ARRAYS
    for data in (path.read_bytes()[:-100], b"", b"not arrays at all, but long enough to try"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"model\.safetensors: damaged"):
            load_extractor(copy)


@pytest.mark.parametrize("name", [ARRAYS, FACTS])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(UserError, match=r"copy: (model\.safetensors is missing|no extractor here)"):
        load_extractor(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"model": {}}'])
def test_a_damaged_description_is_named(copy, text):
    (copy / FACTS).write_text(text)
    with pytest.raises(UserError, match=r"extractor\.json: (not readable as JSON|has no format)"):
        load_extractor(copy)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("model"),
        lambda facts: facts.update(model={}),
        lambda facts: facts.update(model=None),
        lambda facts: facts["model"].update(another_size=3),
    ],
    ids=["no model", "empty", "null", "unknown field"],
)
def test_a_damaged_description_of_the_model_is_named(copy, change):
    edit_facts(copy, change)
    with pytest.raises(UserError, match=r"copy.*model"):
        load_extractor(copy)


def test_a_newer_version_is_named(copy):
    edit_facts(
        copy,
        lambda facts: facts.update(format_version=FORMAT_VERSION + 1, versions={"exif-jax": "9.1"}),
    )
    with pytest.raises(UserError, match=r"was written by exif-jax 9\.1.*upgrade exif-jax"):
        load_extractor(copy)
