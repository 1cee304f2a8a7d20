"""Rows on their way to the devices."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exif_jax.gmm.rows import Layout, checked, place
from exif_jax.training.mapping import data_mesh


@given(rows=st.integers(1, 10**7), platform=st.sampled_from(["cpu", "gpu", "tpu"]))
def test_a_layout_holds_the_rows_and_little_more(rows, platform):
    layout = Layout.of(rows, platform)
    most = {"cpu": 2048}.get(platform, 16384)
    assert layout.rows >= rows
    assert layout.chunk <= most
    assert layout.tile == 0 or layout.chunk % layout.tile == 0
    # Less than a tile of padding for every chunk, or less than twice the rows.
    assert layout.rows - rows < max(layout.chunks * 128, rows + 8)
    assert Layout.of(layout.rows, platform) == layout


def test_few_layouts_are_compiled_for_small_data():
    assert len({Layout.of(rows, "cpu") for rows in range(1, 129)}) == 5


def test_rows_and_weights_are_taken_as_they_are(x):
    rows, weights = checked(x.astype(np.float32))
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(weights, np.ones(len(x)))
    mask = np.arange(len(x)) % 2 == 0
    np.testing.assert_array_equal(checked(x, mask)[1], mask.astype(float))


X = np.arange(12.0).reshape(6, 2)
HOLES = np.where(np.arange(6)[:, None] == [4, 2], np.nan, X)


@pytest.mark.parametrize(
    ("rows", "weights", "message"),
    [
        (HOLES, None, "2 rows hold NaN or infinity, the first is row 102: leave them out"),
        (np.where(X == 7, np.inf, X), None, "1 rows hold NaN or infinity, the first is row 103"),
        (X[0], None, r"must be \[rows, columns\], not \(2,\)"),
        (X[None], None, r"must be \[rows, columns\], not \(1, 6, 2\)"),
        (X.astype(int), None, "must be floats, not int64"),
        (X.astype(str), None, "must be floats"),
        (X[:0], None, "must have rows and columns"),
        (X[:, :0], None, "must have rows and columns"),
        (X, np.ones(5), "6 rows need as many weights"),
        (X, [1, 1, 1, -2, 1, -1], "2 are not, the first is -2.0 of row 103"),
        (X, [1, 1, 1, 1, np.nan, 1], "not negative: 1 are not, the first is nan of row 104"),
    ],
)
def test_bad_rows_are_refused_with_their_numbers(rows, weights, message):
    with pytest.raises(ValueError, match=message):
        checked(rows, weights, first=100)


def test_masked_rows_may_hold_anything():
    rows, weights = checked(HOLES, [1, 1, 0, 1, 0, 1])
    assert np.isnan(rows).any()
    assert weights.sum() == 4


@pytest.mark.parametrize("devices", [1, 8])
def test_rows_are_padded_and_masked_rows_are_zero(devices):
    weights = np.array([1.0, 1, 0, 2, 0, 1])
    layout = Layout.of(-(-len(X) // devices), "cpu")
    mesh = data_mesh(jax.devices()[:devices])
    placed, mask = place(HOLES, weights, layout, mesh)
    assert len(placed) == len(mask) == devices * layout.rows
    np.testing.assert_array_equal(mask, np.pad(weights, (0, len(mask) - 6)))
    used = weights > 0
    np.testing.assert_array_equal(np.asarray(placed)[:6][used], X[used])
    assert not np.asarray(placed)[np.asarray(mask) == 0].any()
