"""Grain pipeline: a fixed sequence of global batches, divided over processes, from any step."""

import numpy as np
import pytest
from PIL import Image

from data_pipelines.examples import load_labelled, padded
from data_pipelines.images import random_window
from data_pipelines.perturbations import Augmentation
from data_pipelines.pipeline import labelled_batches, record_batches
from data_pipelines.prepare.run import Options, prepare
from data_pipelines.records import open_records
from data_pipelines.simulated import make_dataset
from tests.data_pipelines.labelled_files import write_labelled


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipeline")
    make_dataset(folder / "data", photos=10, labelled=0, test=0)
    prepare([folder / "data" / "photos"], folder / "records", Options(), workers=1)
    return open_records(folder / "records")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("labelled"), ".png")


def take(dataset, count):
    iterator = iter(dataset)
    return [next(iterator) for _ in range(count)]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_every_epoch_shows_every_photo_once_in_another_order(records):
    size = len(records.source("train"))
    batches = take(record_batches(records, "train", 1, 0, 2), 2 * size)
    paths = [str(batch["path"][0]) for batch in batches]
    assert len(set(paths[:size])) == len(set(paths[size:])) == size
    assert paths[:size] != paths[size:]
    assert batches[0]["image"].shape == (1, 256, 256, 3)
    assert batches[0]["image"].dtype == np.uint8
    assert batches[0]["targets"].dtype == np.float32


def test_labels_may_be_given(records):
    count = len(records.source("train"))
    rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    paths = records.columns("train").path
    for batch in take(record_batches(records, "train", 2, 0, 2, labels=rows), 4):
        for path, targets in zip(batch["path"], batch["targets"], strict=True):
            np.testing.assert_array_equal(targets, rows[paths.tolist().index(path)])
    with pytest.raises(ValueError, match="labels of 1 records"):
        record_batches(records, "train", 2, 0, 2, labels=rows[:1])


def test_the_targets_are_those_of_the_photo(records):
    labels, paths = records.labels("train"), records.columns("train").path.tolist()
    for batch in take(record_batches(records, "train", 3, 0, 2), 3):
        for path, targets in zip(batch["path"], batch["targets"], strict=True):
            np.testing.assert_array_equal(targets, labels[paths.index(path)])


def test_two_processes_see_the_batches_of_one(records):
    whole = take(record_batches(records, "train", 4, 3, 2), 6)
    parts = [take(record_batches(records, "train", 4, 3, 2, p, 2), 6) for p in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        same(batch, {name: np.concatenate([first[name], second[name]]) for name in batch})


def test_threads_do_not_change_the_order(records):
    for a, b in zip(
        *(take(record_batches(records, "train", 3, 1, t), 5) for t in (1, 8)), strict=True
    ):
        same(a, b)


@pytest.mark.parametrize(("process", "processes"), [(0, 1), (1, 2)])
def test_batches_begin_at_any_step(records, process, processes):
    whole = take(record_batches(records, "train", 4, 3, 2), 7)
    rest = record_batches(records, "train", 4, 3, 2, process, processes).after(4)
    rows = slice(process * 4 // processes, (process + 1) * 4 // processes)
    for batch in whole[4:]:
        same({name: x[rows] for name, x in batch.items()}, next(rest))
    far = next(record_batches(records, "train", 4, 3, 2).after(10**9))
    assert len(far["path"]) == 4


def test_labelled_batches_are_half_and_half_and_name_broken_files(labelled):
    batches = take(labelled_batches(labelled, Augmentation(), 4, 0, 2), 6)
    for batch in batches:
        assert batch["image"].shape == (4, 256, 256, 3)
        assert sorted(batch["label"].tolist()) == [0, 0, 1, 1]
        assert (batch["size"] >= 64).all()
        assert (batch["size"] <= 256).all()
        broken = np.array([str(path).endswith("broken.png") for path in batch["path"]])
        np.testing.assert_array_equal(batch["valid"] == 0, broken)
        np.testing.assert_array_equal([bool(str(e)) for e in batch["error"]], broken)
    assert any((batch["valid"] == 0).any() for batch in batches)
    dataset = labelled_batches(labelled, Augmentation(), 4, 0, 1)
    for a, b in zip(batches, take(dataset, 6), strict=True):
        same(a, b)
    same(batches[5], next(dataset.after(5)))  # the same windows and augmentation


def test_validation_sees_the_central_window(labelled):
    image = np.asarray(Image.open(labelled[1].path))
    example = load_labelled(labelled[1])
    np.testing.assert_array_equal(example["image"], image[22:278, 12:268])


def test_windows_are_padded_and_small_images_resized():
    image = np.full((100, 300, 3), 9, np.uint8)
    window = random_window(image, np.random.default_rng(0))
    assert window.shape == (100, 256, 3)
    canvas, size = padded(window)
    assert canvas.shape == (256, 256, 3)
    assert size.tolist() == [100, 256]
    assert (canvas[:100] == 9).all()
    assert (canvas[100:] == 0).all()
    assert padded(image[:10])[1].tolist() == [64, 64]
