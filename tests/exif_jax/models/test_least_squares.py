import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.cross_decomposition import PLSRegression

from exif_jax.models.least_squares import label_columns, supervised_directions


def test_columns_of_ordered_and_of_categorical_tags() -> None:
    ordered = np.array([8.0, np.nan, 1.4, 1.4, 5.6])
    classes = np.array([2.0, 0.0, np.nan, 2.0, 1.0])
    columns = label_columns([ordered, classes], [0, 3])
    assert columns.shape == (5, 4)
    rank = rankdata(ordered[[0, 2, 3, 4]])
    wanted = (rank - rank.mean()) / rank.std()
    np.testing.assert_allclose(columns[[0, 2, 3, 4], 0], wanted)
    assert columns[1, 0] == 0
    np.testing.assert_array_equal(columns[2, 1:], 0)
    known = columns[[0, 1, 3, 4], 1:]
    assert known.var(axis=0).sum() == pytest.approx(1)
    np.testing.assert_allclose(known.mean(axis=0), 0, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_scale_and_no_monotone_change_of_values_matters(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.1, 9, size=20)
    values[rng.random(20) < 0.3] = np.nan
    first, second = (label_columns([v], [0]) for v in (values, np.log(values) * 3 - 7))
    np.testing.assert_allclose(first, second)


def test_tags_that_say_nothing_give_no_column() -> None:
    unknown, constant = np.full(4, np.nan), np.full(4, 2.0)
    assert label_columns([unknown, constant, constant, unknown], [0, 0, 3, 3]).shape == (4, 0)


def test_directions_find_what_the_targets_follow() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 30)).astype(np.float32) + 5
    x[:, 7] *= 0.3  # far from the largest variance
    targets = (x[:, 7:8] - 5) * 4 + rng.normal(size=(2000, 1)) * 0.1
    kernel, bias = supervised_directions(x, targets, 3)
    features = x @ kernel + bias
    assert kernel.dtype == bias.dtype == np.float32
    np.testing.assert_allclose(np.cov(features.T), np.eye(3), atol=0.01)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    fitted = np.linalg.lstsq(features, targets - targets.mean(), rcond=None)[0]
    left = targets - targets.mean() - features @ fitted
    assert left.var() < 0.02 * targets.var()


@pytest.mark.parametrize("rows", [40, 400])
def test_directions_are_those_of_scikit_learn(rows: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, 12)) @ rng.normal(size=(12, 12))
    targets = x @ rng.normal(size=(12, 5)) + rng.normal(size=(rows, 5))
    kernel, bias = supervised_directions(x, targets, 4)
    wanted = PLSRegression(4, scale=False, max_iter=2000).fit(x, targets).transform(x)
    np.testing.assert_allclose(
        np.abs(x @ kernel + bias), np.abs(wanted / wanted.std(axis=0)), atol=1e-4
    )
