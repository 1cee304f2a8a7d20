"""Projection of features: standardised, or whitened principal components."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from data_pipelines.errors import UserError
from exif_jax.detection.projection import principal_projection, project


def correlated(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns)) + 3


def test_projection_is_whitened_principal_components():
    x = correlated(60, 8)
    ours = project(x, principal_projection([x], 5))
    theirs = PCA(5, svd_solver="full").fit_transform(x)
    theirs /= theirs.std(axis=0)
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours * signs, theirs, atol=1e-8)
    np.testing.assert_allclose(np.cov(ours.T, bias=True), np.eye(5), atol=1e-8)


def test_without_components_every_coordinate_is_standardised():
    x = correlated(40, 6)
    x[:, 2] = 7.0
    ours = project(x, principal_projection([x], 0))
    expected = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    np.testing.assert_allclose(ours, expected, atol=1e-10)


def test_directions_without_variance_stay_finite():
    x = correlated(30, 3) @ np.ones((3, 5))  # all on one line
    assert np.isfinite(project(x, principal_projection([x], 4))).all()


@pytest.mark.parametrize(("rows", "dimensions"), [(50, 7), (4, 4), (50, -1)])
def test_impossible_dimensions_are_refused(rows, dimensions):
    with pytest.raises(UserError, match=rf"config\.pca = {dimensions} must lie between 0 and"):
        principal_projection([correlated(rows, 6)], dimensions)


@pytest.mark.parametrize("dimensions", [0, 5])
def test_chunks_are_projected_as_all_rows_together(dimensions):
    x = correlated(60, 8)
    whole, parts = (
        principal_projection(chunks, dimensions) for chunks in ([x], np.split(x, [3, 20, 21]))
    )
    signs = np.sign((whole["matrix"] * parts["matrix"]).sum(axis=0))
    np.testing.assert_allclose(parts["mean"], whole["mean"], rtol=1e-12)
    np.testing.assert_allclose(parts["matrix"] * signs, whole["matrix"], rtol=1e-9, atol=1e-11)
