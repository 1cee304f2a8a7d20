"""Losses: masks, ties, extreme values, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from exif_jax import losses

NAN = float("nan")


def rank(scores, values, groups=None, pairing="all_pairs", kind="bce"):
    scores, values = jnp.asarray(scores), jnp.asarray(values)
    groups = jnp.arange(len(scores)) if groups is None else jnp.asarray(groups)
    photos = losses.Rows(scores, values, groups)
    return losses.ranking_loss(photos, photos, jnp.array(0), pairing, kind)


def test_classification_ignores_missing_labels():
    logits = jnp.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    values, valid = losses.classification_loss(logits, jnp.array([0.0, NAN, 1.0]))
    np.testing.assert_array_equal(valid, [True, False, True])
    np.testing.assert_allclose(values, [np.log1p(np.exp(-2)), 0, np.log(2)], rtol=1e-6)


def test_ties_are_worth_a_half():
    rows = losses.Rows(jnp.array([1.0, 0.0]), jnp.array([3.0, 3.0]), jnp.arange(2))
    values, valid = losses.ranking_loss(rows, rows, jnp.array(0), "all_pairs")
    np.testing.assert_array_equal(valid, [[False, True], [False, False]])
    assert values[0, 1] == losses.pair_loss(jnp.array(1.0), jnp.array(0.5))


@given(st.floats(-5, 5), st.sampled_from([0.0, 0.5, 1.0]))
def test_bce_is_the_cross_entropy_of_the_thurstone_preference(difference, target):
    p = norm.cdf(difference)
    expected = -(target * np.log(p) + (1 - target) * np.log1p(-p))
    actual = losses.pair_loss(jnp.float32(difference), jnp.float32(target))
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=1e-6)


@given(st.floats(-5, 5), st.floats(0, 1))
def test_fidelity_is_its_definition_and_at_most_one(difference, target):
    p = norm.cdf(difference)
    expected = 1 - np.sqrt(p * target) - np.sqrt((1 - p) * (1 - target))
    actual = losses.pair_loss(jnp.float32(difference), jnp.float32(target), "fidelity")
    np.testing.assert_allclose(actual, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["bce", "fidelity"])
@pytest.mark.parametrize("difference", [-60.0, -6.0, 0.0, 6.0, 60.0])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_value_and_gradient_stay_finite(kind, difference, target):
    value, slope = jax.value_and_grad(losses.pair_loss)(difference, target, kind)
    assert np.isfinite(value)
    assert np.isfinite(slope)


def test_all_pairs_meet_once():
    _, valid = rank([0.0, 1.0, 2.0, 3.0], [1.0, 2.0, NAN, 4.0])
    assert valid.tolist() == [
        [False, True, False, True],
        [False, False, False, True],
        [False, False, False, False],
        [False, False, False, False],
    ]


def test_photos_of_one_group_are_not_compared():
    _, valid = rank([0.0, 1.0, 2.0], [1.0, 2.0, 3.0], groups=[7, 7, 8])
    assert valid.sum() == 2


def test_neighbours_wrap_around():
    values, valid = rank([0.3, -0.2, 1.0], [1.0, 2.0, NAN], pairing="neighbour")
    assert valid.tolist() == [True, False, False]
    np.testing.assert_allclose(values[0], -norm.logcdf(-0.5), rtol=1e-5)


@given(arrays(np.float32, 5, elements=st.floats(-3, 3, width=32)), st.permutations(range(5)))
def test_all_pairs_do_not_depend_on_the_order(scores, order):
    values = np.array([1.0, 2.0, 2.0, np.nan, 5.0], np.float32)
    order = np.array(order)
    total = lambda s, v: float(rank(s, v)[0].sum())  # noqa: E731
    np.testing.assert_allclose(
        total(scores, values), total(scores[order], values[order]), rtol=1e-4, atol=1e-5
    )


def test_missing_values_give_no_gradient():
    gradient = jax.grad(lambda s: rank(s, [1.0, NAN, 3.0])[0].sum())(jnp.array([0.1, 90.0, 0.3]))
    assert np.isfinite(gradient).all()
    assert gradient[1] == 0


@pytest.mark.parametrize(("field", "value"), [("pairing", "triples"), ("kind", "hinge")])
def test_unknown_choices_are_refused(field, value):
    with pytest.raises(ValueError, match=value):
        rank([0.0, 1.0], [1.0, 2.0], **{field: value})


def test_distance_is_the_sum_of_mean_squares_and_leaves_the_teacher_alone():
    student = {"f1": jnp.full((2, 3), 2.0), "f2": jnp.ones((2, 2, 2))}
    teacher = {"f1": jnp.zeros((2, 3)), "f2": jnp.array([[[1.0, 1], [1, 1]], [[0, 0], [0, 0]]])}
    np.testing.assert_allclose(losses.feature_distance(student, teacher), [4.0, 5.0])
    gradient = jax.grad(lambda t: losses.feature_distance(student, t).sum())(teacher)
    assert all((np.asarray(g) == 0).all() for g in gradient.values())
