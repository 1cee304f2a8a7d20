"""Matrix kernels against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_triangular

from exif_jax.gmm import linalg

COLUMNS = [5, 140, 260, 520]  # 1, 1, 2 and 4 blocks


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("columns", "count"), [(5, 1), (140, 1), (260, 2), (520, 4)])
def test_wide_products_are_divided_into_blocks(columns, count):
    blocks = linalg.column_blocks(columns)
    assert len(blocks) == count
    assert [a for a, _ in blocks] == [0] + [b for _, b in blocks[:-1]]
    assert blocks[-1][1] == columns


@pytest.mark.parametrize("columns", COLUMNS)
def test_products_with_triangular_matrices(rng, columns):
    x = rng.normal(size=(7, columns))
    upper = np.triu(rng.normal(size=(columns, columns)))
    np.testing.assert_allclose(
        linalg.squared_norms(x, upper), np.square(x @ upper).sum(axis=1), rtol=1e-10
    )


@pytest.mark.parametrize("columns", COLUMNS)
@pytest.mark.parametrize("tile", [0, 16])
def test_scatter_is_the_weighted_sum_of_squares(rng, columns, tile):
    x, centre = rng.normal(size=(48, columns)) + 3, rng.normal(size=columns)
    weights = rng.uniform(size=48)
    ours = np.asarray(linalg.scatter(jnp.asarray(x), jnp.asarray(weights), centre, tile))
    expected = (x - centre).T @ (weights[:, None] * (x - centre))
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(ours, ours.T)


def test_tiles_without_weight_are_passed_over_and_change_nothing(rng):
    x = rng.normal(size=(64, 5))
    weights = np.where(np.arange(64) // 16 == 2, rng.uniform(size=64), 1e-40)
    tiled, whole = (
        linalg.scatter(jnp.asarray(x), jnp.asarray(weights), np.zeros(5), tile) for tile in (16, 0)
    )
    np.testing.assert_allclose(tiled, whole, rtol=1e-12, atol=1e-12)
    # NaN in a tile that is passed over would show if it were not.
    hole = np.where(weights[:, None] > 1e-30, x, np.nan)
    again = linalg.scatter(jnp.asarray(hole), jnp.asarray(weights), np.zeros(5), 16)
    np.testing.assert_array_equal(again, tiled)


def test_products_keep_the_precision_of_float32(rng):
    a, b = rng.normal(size=(2, 64, 64))
    ours = linalg.dot(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    assert ours.dtype == jnp.float32
    assert np.abs(ours - a @ b).max() < 1e-4


def test_a_positive_matrix_is_factorised_as_it_is(rng):
    half = rng.normal(size=(5, 9))
    lower, jitter = linalg.safe_cholesky(jnp.asarray(half @ half.T))
    assert jitter == 0
    np.testing.assert_allclose(lower, np.linalg.cholesky(half @ half.T), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_a_singular_matrix_gets_little_jitter(rng, dtype, scale):
    half = rng.normal(size=(6, 2))
    matrix = (scale * half @ half.T).astype(dtype)
    lower, jitter = (np.asarray(a, np.float64) for a in linalg.safe_cholesky(jnp.asarray(matrix)))
    assert 0 < jitter < 1e-3 * np.trace(matrix) / 6
    np.testing.assert_allclose(
        lower @ lower.T, matrix + jitter * np.eye(6), atol=1e-5 * np.trace(matrix)
    )


def test_a_matrix_of_zeros_gets_a_finite_factor():
    lower, jitter = linalg.safe_cholesky(jnp.zeros((4, 4)))
    assert jitter > 0
    assert np.isfinite(lower).all() and (np.diagonal(lower) > 0).all()


def test_nan_is_not_hidden_by_jitter():
    assert np.isnan(linalg.safe_cholesky(jnp.full((3, 3), np.nan))[0]).any()


def test_the_inverse_transpose_whitens(rng):
    half = rng.normal(size=(5, 9))
    lower = np.linalg.cholesky(half @ half.T)
    upper = np.asarray(jax.jit(linalg.inverse_transpose)(lower))
    np.testing.assert_allclose(upper.T, solve_triangular(lower, np.eye(5), lower=True), rtol=1e-9)
    np.testing.assert_allclose(upper.T @ (half @ half.T) @ upper, np.eye(5), atol=1e-9)
