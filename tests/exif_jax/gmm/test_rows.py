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


def test_rows_are_taken_as_they_are(x):
    assert checked(x) is x
    assert checked(x.astype(np.float32)).dtype == np.float32


X = np.arange(12.0).reshape(6, 2)
HOLES = np.where(np.arange(6)[:, None] == [4, 2], np.nan, X)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (HOLES, "2 rows hold NaN or infinity, the first is row 102: leave them out"),
        (np.where(X == 7, np.inf, X), "1 rows hold NaN or infinity, the first is row 103"),
        (X[0], r"must be \[rows, columns\], not \(2,\)"),
        (X[None], r"must be \[rows, columns\], not \(1, 6, 2\)"),
        (X.astype(int), "must be floats, not int64"),
        (X.astype(str), "must be floats"),
        (X[:0], "must have rows and columns"),
        (X[:, :0], "must have rows and columns"),
    ],
)
def test_bad_rows_are_refused_with_their_numbers(rows, message):
    with pytest.raises(ValueError, match=message):
        checked(rows, first=100)


@pytest.mark.parametrize("devices", [1, 8])
def test_rows_are_padded_and_padding_is_masked(devices):
    layout = Layout.of(-(-len(X) // devices), "cpu")
    placed, mask = place(X, layout, data_mesh(jax.devices()[:devices]))
    assert len(placed) == len(mask) == devices * layout.rows
    np.testing.assert_array_equal(mask, np.arange(len(mask)) < 6)
    np.testing.assert_array_equal(np.asarray(placed)[:6], X)
    assert not np.asarray(placed)[6:].any()
