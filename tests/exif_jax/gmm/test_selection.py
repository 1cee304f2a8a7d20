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
    rows, heldout = (clusters, None) if criterion == "bic" else (clusters[30:], clusters[:30])
    found = select(rows, [2, 3, 4], criterion, covariance_type="spherical", heldout=heldout)
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


def test_a_stream_is_compared_as_rows_in_memory(clusters, one_device):
    options = {"covariance_type": ["diag", "low_rank"], "rank": 1, "mesh": one_device}
    rows, heldout = clusters[30:], clusters[:30]
    streams = [gmm.Stream(np.split(part, [7, 20]), 16) for part in (rows, heldout)]
    key = jax.random.key(0)
    whole = gmm.compare(key, rows, [2, 500], heldout=heldout, **options)
    streamed = gmm.compare(key, streams[0], [2, 500], heldout=streams[1], **options)
    for a, b in zip(whole, streamed, strict=True):
        assert (a.name, a.num_parameters, a.error) == (b.name, b.num_parameters, b.error)
        assert a.cost("heldout") == pytest.approx(b.cost("heldout"), rel=1e-9)
        assert a.cost("bic") == pytest.approx(b.cost("bic"), rel=1e-9)


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
        (([], "bic"), {}, "no candidate"),
        ((2,), {}, "compares by rows that are not fitted: give heldout"),
    ],
)
def test_bad_input_is_refused_with_one_message(arguments, options, message, clusters, select):
    with pytest.raises(ValueError, match=message):
        select(clusters, *arguments, **options)
