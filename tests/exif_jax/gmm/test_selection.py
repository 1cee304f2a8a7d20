"""Choice among candidates."""

import jax
import numpy as np
import pytest

from exif_jax import gmm
from exif_jax.gmm import selection


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0]])
    return rng.permutation(np.repeat(centres, 40, axis=0) + rng.normal(size=(120, 2)))


@pytest.fixture(scope="module")
def select(one_device):
    def run(x, *arguments, key=0, **options):
        return gmm.select(jax.random.key(key), x, *arguments, **{"mesh": one_device} | options)

    return run


@pytest.mark.parametrize("criterion", ["heldout", "bic"])
def test_three_clusters_are_three_components(criterion, clusters, select):
    found = select(clusters, [2, 3, 4], criterion, covariance_type="spherical")
    assert found.best.num_components == 3
    assert [row.num_components for row in found.table] == [2, 3, 4]
    assert found.criterion == criterion
    assert len(found.fit.gmm.weights) == 3 and found.fit.rows == 120
    heldout = [row.heldout_log_likelihood for row in found.table]
    assert all(np.isfinite(heldout)) if criterion == "heldout" else heldout == [None] * 3
    values = [row.cost(criterion) for row in found.table]
    assert found.best is found.table[np.argmin(values)]


def test_the_numbers_of_the_table(clusters, select, one_device):
    heldout = clusters[:30]
    found = select(clusters[30:], 3, heldout=heldout, covariance_type=["spherical", "diag"])
    for row in found.table:
        alone = gmm.fit(
            jax.random.fold_in(jax.random.key(0), 3),
            clusters[30:],
            3,
            row.covariance_type,
            mesh=one_device,
        )
        assert row.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-7)
        assert row.heldout_log_likelihood == pytest.approx(
            float(gmm.log_density(alone.gmm, heldout).mean()), rel=1e-6
        )
        assert row.bic == pytest.approx(gmm.bic(alone.gmm, clusters[30:]), rel=1e-7)
        assert row.aic == pytest.approx(gmm.aic(alone.gmm, clusters[30:]), rel=1e-7)
        assert row.num_parameters == alone.gmm.num_parameters
    assert found.fit.rows == len(clusters)


def test_groups_are_never_divided(monkeypatch, clusters, select):
    groups = np.arange(120) // 7
    rows = np.column_stack([clusters, groups])
    fitted = []

    def record(key, x, *arguments, **options):
        fitted.append(x)
        return gmm.fit(key, x, *arguments, **options)

    monkeypatch.setattr(selection, "fit", record)
    select(
        rows, 2, covariance_type="diag", groups=groups.tolist(), max_iters=0, heldout_fraction=0.4
    )
    kept = {int(g) for g in fitted[0][:, 2]}
    assert 0 < len(kept) < 18
    np.testing.assert_array_equal(fitted[0], rows[np.isin(groups, list(kept))])
    np.testing.assert_array_equal(fitted[1], rows)


def test_every_combination_that_makes_sense_is_tried():
    found = selection.structures(["full", "diag", "low_rank"], [1, 2], ["none", "ledoit_wolf"])
    names = [(s.covariance_type, s.rank, s.shrinkage) for s in found]
    assert names == [
        ("full", 0, "none"),
        ("full", 0, "ledoit_wolf"),
        ("diag", 0, "none"),
        ("low_rank", 1, "none"),
        ("low_rank", 2, "none"),
    ]


def test_a_candidate_that_fails_is_in_the_table_and_stops_nothing(clusters, select):
    found = select(clusters, [3, 500], "bic", covariance_type=["diag", "low_rank"], rank=2)
    assert [(row.num_components, row.name) for row in found.table] == [
        (3, "diag"),
        (500, "diag"),
        (3, "low_rank 2"),
        (500, "low_rank 2"),
    ]
    errors = [row.error for row in found.table]
    assert errors[0] is None
    assert "500 components need at least as many rows, not 120" in errors[1]
    assert "rank 2 of low_rank covariances" in errors[2]
    assert found.best is found.table[0]
    assert found.table[0].to_json()["bic"] == found.table[0].bic
    assert found.table[1].to_json()["bic"] is None
    assert found.table[1].line.startswith("500 components, diag: 500 components need at least")
    assert "3 components, diag: BIC" in found.table[0].line
    assert np.isnan(found.table[1].bic) and found.table[1].cost("bic") == np.inf


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, "luck"), {}, "criterion 'luck' is not known: choose heldout, bic, aic"),
        (([200, 300], "bic"), {}, "no candidate could be fitted: 200 .*; 300 "),
        (([],), {}, "no candidate"),
        ((2,), {"groups": ["one"] * 120}, "120 rows cannot be divided at heldout_fraction = 0.2"),
        ((2,), {"groups": [0, 1, 2, 3, 4]}, "120 rows need as many groups, not 5"),
        ((2,), {"heldout_fraction": 0.0}, "heldout_fraction = 0.0"),
    ],
)
def test_bad_input_is_refused_with_one_message(arguments, options, message, clusters, select):
    with pytest.raises(ValueError, match=message):
        select(clusters, *arguments, **options)
