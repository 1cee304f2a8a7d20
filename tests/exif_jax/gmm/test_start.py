"""Where EM starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax.gmm import start as starts
from exif_jax.gmm.start import Sample, generator, kmeans_responsibilities

CLUSTERS = np.repeat([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]], 20, axis=0)


def kmeans(key, x, num_components):
    rows = jnp.asarray(x, jnp.float32)
    return np.asarray(kmeans_responsibilities(key, rows, num_components))


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_separate_clusters(seed):
    x = CLUSTERS + np.random.default_rng(seed).normal(size=CLUSTERS.shape)
    found = kmeans(jax.random.key(seed), x, 3)
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    labels = found.argmax(axis=1).reshape(3, 20)
    assert {len(np.unique(part)) for part in labels} == {1}
    assert len(np.unique(labels)) == 3


def test_kmeans_ends_at_the_nearest_centre(x):
    """Lloyd's fixed point: every row belongs to the mean that is nearest to it."""
    found = kmeans(jax.random.key(1), x, 3)
    centres = found.T @ x / found.sum(axis=0)[:, None]
    distances = np.linalg.norm(x[:, None] - centres, axis=2)
    assert (distances.argmin(axis=1) == found.argmax(axis=1)).mean() > 0.97


def test_kmeans_of_fewer_distinct_rows_than_components_leaves_some_empty():
    x = np.repeat([[0.0, 0.0], [1.0, 1.0]], 30, axis=0)
    found = kmeans(jax.random.key(0), x, 3)
    np.testing.assert_array_equal(found.sum(axis=1), 1)
    assert sorted(found.sum(axis=0)) == [0, 30, 30]


def test_the_start_follows_the_key_and_not_the_precision(x):
    a, b = (kmeans(jax.random.key(0), x, 3) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    with jax.enable_x64(False):
        single = kmeans(jax.random.key(0), x, 3)
    np.testing.assert_array_equal(single, a)


@pytest.mark.parametrize("lengths", [[161], [100, 61], [1, 59, 1, 100]])
def test_a_sample_of_chunks_is_a_sample_of_all_rows(monkeypatch, x, lengths):
    monkeypatch.setattr(starts, "SAMPLE", 50)
    whole = Sample.of(np.random.default_rng(0), x)
    assert len(whole.rows) == 50
    rng, parts = np.random.default_rng(0), None
    for rows in np.split(x, np.cumsum(lengths)[:-1]):
        part = Sample.of(rng, rows)
        parts = part if parts is None else parts.merge(part)
    np.testing.assert_array_equal(parts.rows, whole.rows)


def test_every_row_is_as_likely_in_the_sample(monkeypatch, x):
    monkeypatch.setattr(starts, "SAMPLE", 40)
    numbers = np.arange(len(x))[:, None].astype(float)
    rng, counts, draws = np.random.default_rng(0), np.zeros(len(x)), 2000
    for _ in range(draws):
        sample = Sample.of(rng, numbers[:100]).merge(Sample.of(rng, numbers[100:]))
        counts[sample.rows[:, 0].astype(int)] += 1
    share = 40 / len(x)
    assert counts.sum() == 40 * draws
    assert np.abs(counts / draws - share).max() < 5 * np.sqrt(share * (1 - share) / draws)


@pytest.mark.parametrize("first", [0, 1, 7, 20])
def test_a_row_gets_its_draw_whichever_process_has_it(first):
    every = generator(jax.random.key(0)).random(20)
    own = generator(jax.random.key(0), first).random(20 - first)
    np.testing.assert_array_equal(own, every[first:])
    assert generator(jax.random.key(1)).random() not in every


@pytest.mark.parametrize("size", [30, 500])
def test_processes_have_the_sample_of_one(size, monkeypatch, x):
    monkeypatch.setattr(starts, "SAMPLE", size)
    parts, first = [], 0
    for rows in np.split(x, [0, 100, 110]):
        parts.append(Sample.of(generator(jax.random.key(0), first), rows))
        first += len(rows)

    def gather(own, _):
        # Of the rows that stay, each sends its own.
        return [{"own": part.priority} for part in parts] if "own" in own else [own]

    monkeypatch.setattr(starts, "gather", gather)
    sent = [part.over_processes(None).rows for part in parts]
    whole = Sample.of(generator(jax.random.key(0)), x)
    np.testing.assert_array_equal(np.concatenate(sent), whole.rows)
