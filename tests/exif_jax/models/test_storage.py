"""Files and model directories are, at any moment, whole: the old one or the new one."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

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


def test_facts_that_are_no_json_leave_the_old_model(tmp_path):
    save_model(tmp_path / "m", "extractor.json", {"a": np.ones(2)}, {})
    with pytest.raises(TypeError):
        save_model(tmp_path / "m", "extractor.json", {"a": np.zeros(2)}, {"bad": object()})
    arrays, _ = load_model(tmp_path / "m", "extractor.json")
    np.testing.assert_array_equal(arrays["a"], np.ones(2))
