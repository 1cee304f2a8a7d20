"""The journal of an evaluation: what is kept, what is dropped."""

import json

import numpy as np
import pytest

from exif_jax.evaluation.journal import Journal, ScoredBatch

IDENTITY = {"detectors": {"a": "1"}, "images": "2"}
SKIPPED = [{"path": "b.png", "label": 1, "test_set": "s", "reason": "r", "message": "m"}]


@pytest.fixture
def path(tmp_path):
    """A journal of two batches."""
    rng = np.random.default_rng(0)
    journal = Journal(tmp_path / "scored.jsonl", IDENTITY)
    for start in (0, 2):
        scores = rng.normal(size=(2, 3, 1)).astype(np.float32)
        journal.add("s", start, ScoredBatch([1], SKIPPED, scores))
    return tmp_path / "scored.jsonl"


def starts(path, identity=IDENTITY):
    """Of the batches that are known."""
    journal = Journal(path, identity)
    return [start for start in (0, 2, 4) if journal.get("s", start) is not None]


def test_batches_come_back_bit_for_bit(path):
    expected = np.random.default_rng(0).normal(size=(2, 3, 1)).astype(np.float32)
    journal = Journal(path, IDENTITY)
    batch = journal.get("s", 0)
    assert (batch.read, batch.skipped, journal.finished) == ([1], SKIPPED, False)
    assert batch.scores.dtype == np.float32
    np.testing.assert_array_equal(batch.scores, expected)
    assert journal.get("other", 0) is None and journal.get("s", 4) is None


def test_a_torn_last_line_is_dropped(path):
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for cut in (1, len(last) // 2, len(last) - 1):
        path.write_bytes(whole[:-cut])
        assert starts(path) == [0]
        journal = Journal(path, IDENTITY)
        journal.add("s", 4, ScoredBatch([0], [], np.zeros((2, 3, 1), np.float32)))
        assert starts(path) == [0, 4]
        for line in path.read_text().splitlines():
            json.loads(line)


def test_an_empty_batch_is_kept(path):
    journal = Journal(path, IDENTITY)
    journal.add("s", 4, ScoredBatch([], SKIPPED, np.zeros((2, 3, 0), np.float32)))
    journal = Journal(path, IDENTITY)
    assert journal.get("s", 4).scores.shape == (2, 3, 0)


def test_another_evaluation_begins_anew(path):
    assert starts(path, {**IDENTITY, "images": "3"}) == []
    assert starts(path) == []


@pytest.mark.parametrize("text", ["", "{", "not JSON\n"])
def test_a_file_that_is_no_journal_is_replaced(path, text):
    path.write_text(text)
    assert starts(path) == []
    journal = Journal(path, IDENTITY)
    journal.add("s", 0, ScoredBatch([], [], np.zeros((2, 3, 0), np.float32)))
    assert starts(path) == [0]


def test_when_all_is_done_only_that_is_kept(path):
    journal = Journal(path, IDENTITY)
    journal.finish()
    assert len(path.read_text().splitlines()) == 2
    journal = Journal(path, IDENTITY)
    assert journal.finished
    journal = Journal(path, {**IDENTITY, "images": "3"})
    assert not journal.finished
