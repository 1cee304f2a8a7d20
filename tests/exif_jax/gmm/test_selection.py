"""Choice among candidates."""

import jax
import numpy as np
import pytest

from exif_jax import gmm
from exif_jax.gmm import Structure


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [12.0, 0.0], [0.0, 12.0]])
    return rng.permutation(np.repeat(centres, 40, axis=0) + rng.normal(size=(120, 2)))


@pytest.fixture(scope="module")
def compare(one_device):
    def run(x, structures, counts, key=0, **options):
        options = {"mesh": one_device} | options
        return gmm.compare(jax.random.key(key), x, structures, counts, **options)

    return run


@pytest.mark.parametrize("criterion", ["heldout", "bic"])
def test_three_clusters_are_three_components(criterion, clusters, compare, one_device):
    rows, heldout = (clusters, None) if criterion == "bic" else (clusters[30:], clusters[:30])
    table = compare(rows, [Structure("spherical")], [2, 3, 4], heldout=heldout)
    best = gmm.best_of(table, criterion)
    assert best.num_components == 3
    assert [row.num_components for row in table] == [2, 3, 4]
    heldout = [row.heldout_log_likelihood for row in table]
    assert all(np.isfinite(heldout)) if criterion == "heldout" else heldout == [None] * 3
    assert best is table[np.argmin([row.cost(criterion) for row in table])]
    fit = gmm.fit_candidate(jax.random.key(0), clusters, best, mesh=one_device)
    assert len(fit.gmm.weights) == 3 and fit.rows == 120


def test_the_numbers_of_the_table(clusters, compare, one_device):
    rows, heldout = clusters[30:], clusters[:30]
    table = compare(rows, [Structure("spherical"), Structure("diag")], [3], heldout=heldout)
    for row in table:
        key = jax.random.fold_in(jax.random.key(0), 3)
        alone = gmm.fit(key, rows, 3, row.covariance_type, mesh=one_device)
        assert row.log_likelihood == pytest.approx(alone.log_likelihood, rel=1e-7)
        assert row.heldout_log_likelihood == pytest.approx(
            float(gmm.log_density(alone.gmm, heldout).mean()), rel=1e-6
        )
        theirs = gmm.to_sklearn(alone.gmm)
        assert row.bic == pytest.approx(theirs.bic(rows), rel=1e-7)
        assert row.aic == pytest.approx(theirs.aic(rows), rel=1e-7)
        assert row.num_parameters == alone.gmm.num_parameters


def test_a_stream_is_compared_as_rows_in_memory(clusters, compare):
    kinds = [Structure("diag"), Structure("low_rank", 1)]
    rows, heldout = clusters[30:], clusters[:30]
    streams = [gmm.Stream(np.split(part, [7, 20]), 16) for part in (rows, heldout)]
    whole = compare(rows, kinds, [2, 500], heldout=heldout)
    streamed = compare(streams[0], kinds, [2, 500], heldout=streams[1])
    for a, b in zip(whole, streamed, strict=True):
        assert (a.structure, a.num_parameters, a.error) == (b.structure, b.num_parameters, b.error)
        assert a.cost("heldout") == pytest.approx(b.cost("heldout"), rel=1e-9)
        assert a.cost("bic") == pytest.approx(b.cost("bic"), rel=1e-9)


def test_every_combination_that_makes_sense_is_tried():
    found = gmm.structures(["full", "diag", "low_rank"], [1, 2], ["none", "ledoit_wolf"])
    names = [(s.covariance_type, s.rank, s.shrinkage) for s in found]
    assert names == [
        ("full", 0, "none"),
        ("full", 0, "ledoit_wolf"),
        ("diag", 0, "none"),
        ("low_rank", 1, "none"),
        ("low_rank", 2, "none"),
    ]


def test_a_candidate_that_fails_is_in_the_table_and_stops_nothing(clusters, compare):
    table = compare(clusters, [Structure("diag"), Structure("low_rank", 2)], [3, 500])
    assert [(row.num_components, row.structure.label) for row in table] == [
        (3, "diag"),
        (500, "diag"),
        (3, "low_rank 2"),
        (500, "low_rank 2"),
    ]
    errors = [row.error for row in table]
    assert errors[0] is None
    assert "500 components need at least as many rows, not 120" in errors[1]
    assert "rank 2 of low_rank covariances" in errors[2]
    assert gmm.best_of(table, "bic") is table[0]
    assert table[0].to_json()["bic"] == table[0].bic
    assert table[1].to_json()["bic"] is None
    assert table[1].line.startswith("500 components, diag: 500 components need at least")
    assert "3 components, diag: BIC" in table[0].line
    assert np.isnan(table[1].bic) and table[1].cost("bic") == np.inf


@pytest.mark.parametrize(
    ("counts", "criterion", "message"),
    [
        ([3], "luck", "criterion 'luck' is not known: choose heldout, bic, aic"),
        ([200, 300], "bic", "no candidate could be fitted: 200 .*; 300 "),
        ([], "bic", "no candidate"),
        ([3], "heldout", "no candidate could be fitted: not finite"),
    ],
)
def test_bad_input_is_refused_with_one_message(counts, criterion, message, clusters, compare):
    table = compare(clusters, [Structure("spherical")], counts)
    with pytest.raises(ValueError, match=message):
        gmm.best_of(table, criterion)
