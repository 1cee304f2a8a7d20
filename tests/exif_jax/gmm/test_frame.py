"""Working coordinates: moments, and the way back to the data's coordinates."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exif_jax import gmm
from exif_jax.gmm.covariances import COVARIANCE_TYPES, Structure
from exif_jax.gmm.frame import Frame, Moments, moments_of


def direct(x, matrix):
    scatter = (x - x.mean(axis=0)).T @ (x - x.mean(axis=0))
    return Moments(len(x), x.mean(axis=0), scatter if matrix else scatter.diagonal())


def assert_same(a, b, rtol=1e-9):
    assert a.rows == b.rows
    np.testing.assert_allclose(a.mean, b.mean, rtol=rtol)
    np.testing.assert_allclose(a.scatter, b.scatter, rtol=rtol, atol=rtol * np.abs(b.scatter).max())


@given(
    cuts=st.lists(st.integers(1, 160), min_size=1, max_size=4, unique=True),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    matrix=st.booleans(),
)
@settings(max_examples=25)
def test_moments_of_parts_are_those_of_all_rows(x, cuts, offset, matrix):
    rows, total = x + offset, None
    for part in np.split(rows, sorted(cuts)):
        total = moments_of(part, matrix, total)
    assert_same(total, direct(rows, matrix))


def test_moments_do_not_depend_on_the_blocks_in_which_rows_are_read(monkeypatch, x):
    whole = moments_of(x, True)
    monkeypatch.setattr("exif_jax.gmm.frame._BLOCK", 10)
    assert_same(moments_of(x, True), whole, rtol=1e-12)


@pytest.mark.parametrize("reg_covar", [None, 0.0, 0.1])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_densities_outside_are_those_inside_but_for_the_scale(kind, reg_covar, x, random_mixture):
    structure = Structure(kind, 2 if kind == "low_rank" else 0)
    rows = x * [1e-3, 1.0, 20.0, 1e3] + [1.0, 50.0, -300.0, 0.0]
    moments = moments_of(rows, structure.keeps == "any")
    frame = Frame.of(moments, structure, reg_covar)
    inner = random_mixture(kind, spread=0.5)
    z = frame.centred(rows, np.dtype(float))
    z = z if frame.upper is None else z @ frame.upper
    np.testing.assert_allclose(
        gmm.log_density(frame.outward(inner), rows),
        gmm.log_density(inner, z) + frame.log_scale,
        rtol=1e-8,
    )


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_general_covariances_see_whitened_rows(kind, x):
    rows = x * [1e-3, 1.0, 20.0, 1e3] + 5
    frame = Frame.of(moments_of(rows, True), Structure(kind), 0.0)
    z = frame.centred(rows, np.dtype(float)) @ frame.upper
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(4), atol=1e-9)
    np.testing.assert_array_equal(frame.upper, np.triu(frame.upper))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_regulariser_inside_is_reg_covar_outside(kind, x, dense):
    """A covariance of nothing but the regulariser comes out as reg_covar times the identity."""
    structure = Structure(kind, 2 if kind == "low_rank" else 0)
    rows = x * [0.1, 1.0, 20.0, 3.0]
    moments = moments_of(rows, structure.keeps == "any")
    r = Frame.of(moments, structure, 0.25).regulariser
    arrays = {
        "full": lambda: {"precisions_cholesky": np.linalg.inv(np.linalg.cholesky(r)).T[None]},
        "tied": lambda: {"precisions_cholesky": np.linalg.inv(np.linalg.cholesky(r)).T},
        "diag": lambda: {"precisions_cholesky": r[None] ** -0.5},
        "spherical": lambda: {"precisions_cholesky": r[None] ** -0.5},
        "low_rank": lambda: {
            "directions": np.eye(4)[None, :, :2],
            "variances": np.full((1, 2), r),
            "noise": r[None],
        },
    }[kind]()
    arrays |= {"weights": np.ones(1), "means": np.zeros((1, 4))}
    inner = gmm.GaussianMixture.from_arrays(arrays, kind)
    outer = Frame.of(moments, structure, 0.25).outward(inner)
    np.testing.assert_allclose(dense(outer)[0], 0.25 * np.eye(4), rtol=1e-8, atol=1e-9)


def test_centring_far_from_zero_keeps_the_digits_of_float32():
    rng = np.random.default_rng(0)
    rows = (1e5 + rng.normal(size=(200, 3))).astype(np.float32)
    frame = Frame.of(moments_of(rows, False), Structure("diag"), None)
    z = frame.centred(rows, np.dtype(np.float32))
    wide = rows.astype(np.float64)
    np.testing.assert_allclose(z, (wide - wide.mean(axis=0)) / wide.std(axis=0), atol=1e-6)


def test_the_fingerprint_changes_with_the_data_and_the_regularisation(x):
    def fingerprint(x, reg_covar):
        return Frame.of(moments_of(x, True), Structure(), reg_covar).fingerprint

    same = fingerprint(x, None)
    other = x.copy()
    other[7, 2] += 1e-6
    assert same == fingerprint(x.copy(), None)
    assert len({same, fingerprint(other, None), fingerprint(x, 1e-3)}) == 3


def test_the_outer_mixture_keeps_the_precision_of_the_inner_one(x, random_mixture):
    inner = jax.tree.map(lambda a: a.astype(np.float32), random_mixture("full"))
    frame = Frame.of(moments_of(x, True), Structure(), None)
    assert {leaf.dtype for leaf in jax.tree.leaves(frame.outward(inner))} == {np.dtype(np.float32)}
