import io
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_pipelines import records as records_module
from data_pipelines.columns import Columns
from data_pipelines.errors import UserError
from data_pipelines.photo_sources import open_photos
from data_pipelines.records import (
    PREPARE_FILE,
    SCHEMA_VERSION,
    TARGETS_FILE,
    Record,
    Records,
    index_path,
    open_records,
    shard_path,
    write_description,
    write_shard,
)
from data_pipelines.tags import TAGS
from data_pipelines.targets import build_targets, targets_to_json

VALUES: dict[str, str | float] = {"Make": "Canon", "FNumber": 2.8, "Flash": "fired"}


def window(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (256, 256, 3), np.uint8)


def make_records(count: int) -> Iterator[Record]:
    for i in range(count):
        file = io.BytesIO()
        Image.fromarray(window(i)).save(file, "PNG", compress_level=1)
        known = VALUES if i else {}
        yield {
            "image": file.getvalue(),
            "tags": {tag.name: known.get(tag.name, tag.missing) for tag in TAGS},
            "photo": 2**62 + i,
            "group": i // 2,
            "path": f"é/{i}.jpg",
            "x": 16,
            "y": 32,
            "width": 4000,
            "height": 3000,
        }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Five records to train on in three shards, and one to validate with."""
    rows = list(make_records(5))
    shards = {"train": [rows[:2], rows[2:4], rows[4:]], "validation": [rows[:1]]}
    sizes = {}
    for split, parts in shards.items():
        written = [
            write_shard(Path(shard_path(tmp_path, split, i, len(parts))), part)
            for i, part in enumerate(parts)
        ]
        sizes[split] = [(len(columns), size) for size, columns in written]
        joined = Columns.join([columns for _, columns in written])
        index_path(tmp_path, split).write_bytes(joined.to_bytes())
    write_description(tmp_path, sizes)
    targets = targets_to_json(build_targets({"Make": {"Canon": 1}, "Flash": {"fired": 1}}))
    (tmp_path / TARGETS_FILE).write_text(json.dumps(targets))
    (tmp_path / PREPARE_FILE).write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    return tmp_path


def test_records_come_back_exactly(directory: Path) -> None:
    records = open_records(directory)
    assert records.splits == ("train", "validation")
    source = records.source("train")
    assert len(source) == 5
    for i in range(5):
        np.testing.assert_array_equal(records.decode(source[i])["image"], window(i))
        assert (source[i]["path"], source[i]["photo"]) == (f"é/{i}.jpg", 2**62 + i)
    labels = records.labels("train")
    assert labels.dtype == np.float32
    assert np.isnan(labels).sum(axis=1).tolist() == [len(TAGS), *[len(TAGS) - 3] * 4]
    assert labels[4, 0] == np.float32(2.8)
    assert records.targets[1].classes[int(labels[4, 1])] == "Canon"
    assert (source[1]["x"], source[1]["y"], source[1]["width"]) == (16, 32, 4000)


def test_tensorflow_datasets_reads_the_directory_alone(directory: Path) -> None:
    data = tfds.builder_from_directory(directory).as_data_source()
    assert {name: len(split) for name, split in data.items()} == {"train": 5, "validation": 1}
    np.testing.assert_array_equal(data["train"][3]["image"], window(3))
    assert math.isnan(data["train"][0]["tags"]["ISO"])


def test_sources_are_picklable_and_take_many_threads(directory: Path) -> None:
    records: Records = pickle.loads(pickle.dumps(open_records(directory)))
    source = pickle.loads(pickle.dumps(records.source("train")))

    def path(i: int) -> str:
        text: str = records.decode(source[i % 5])["path"]
        return text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(path, range(40))) == [f"é/{i % 5}.jpg" for i in range(40)]


def same(a: Columns, b: Columns) -> None:
    for name in ("path", "photo", "group", "x", "y"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.values.keys() == b.values.keys()
    for name, column in a.values.items():
        np.testing.assert_array_equal(column, b.values[name], err_msg=name)
        assert column.dtype == b.values[name].dtype


def test_the_index_says_what_the_records_do_without_reading_one(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = open_records(directory)
    for split in records.splits:
        index_path(directory, split).rename(directory / f"{split}.away")
    read = {split: open_records(directory).columns(split) for split in records.splits}
    for split in records.splits:
        (directory / f"{split}.away").rename(index_path(directory, split))

    def refuse(data: bytes) -> Record:
        pytest.fail("a record was read")

    monkeypatch.setattr(records_module, "parse_record", refuse)
    for split in records.splits:
        same(records.columns(split), read[split])
    columns = records.columns("train")
    assert columns.path.tolist() == [f"é/{i}.jpg" for i in range(5)]
    assert columns.values["Make"].tolist() == ["", *["Canon"] * 4]
    np.testing.assert_array_equal(columns.values["FNumber"], np.float32([np.nan, *[2.8] * 4]))
    assert len(open_photos(directory)) == 6


def test_records_without_an_index_are_read_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = open_records(directory).labels("train")
    for split in ("train", "validation"):
        index_path(directory, split).unlink()
    before = sorted(path.name for path in directory.iterdir())
    records, real, read = open_records(directory), records_module.parse_record, []

    def counting(data: bytes) -> Record:
        read.append(data)
        return real(data)

    monkeypatch.setattr(records_module, "parse_record", counting)
    np.testing.assert_array_equal(records.labels("train"), expected)
    records.columns("train")
    assert len(read) == 5
    assert sorted(path.name for path in directory.iterdir()) == before


def test_an_index_of_other_records_or_a_damaged_one_is_not_believed(directory: Path) -> None:
    index_path(directory, "validation").replace(index_path(directory, "train"))
    assert len(open_records(directory).columns("train")) == 5
    for data in (b"", b"PK", index_path(directory, "train").read_bytes()[:-30]):
        index_path(directory, "train").write_bytes(data)
        with pytest.raises(UserError, match=r"index-train\.npz: damaged .*delete it"):
            open_records(directory).columns("train")


def test_what_is_learned_may_be_encoded_in_another_way(directory: Path) -> None:
    records = open_records(directory)

    def length(values: np.ndarray) -> np.ndarray:
        return np.array([len(text) or np.nan for text in values], np.float32)

    labels = records.labels("train", {"Make": length, "Unheard": length, "FNumber": np.log})
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels[:, 0], [np.nan, 5, 5, 5, 5])
    assert np.isnan(labels[:, 1]).all()
    np.testing.assert_allclose(labels[1:, 2], np.log(2.8), rtol=1e-6)


def test_tensorflow_is_not_needed() -> None:
    code = "import sys, data_pipelines.records; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_no_records_is_refused_with_the_remedy(tmp_path: Path, directory: Path) -> None:
    with pytest.raises(UserError, match=r"no prepared records.*exif-jax prepare"):
        open_records(tmp_path / "absent")
    records = open_records(directory)
    with pytest.raises(UserError, match="no 'test' photos"):
        records.source("test")
    next(directory.glob("*validation*")).unlink()
    with pytest.raises(UserError, match="missing"):
        records.source("validation")
    assert len(records.source("train")) == 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (PREPARE_FILE, json.dumps({"schema_version": SCHEMA_VERSION + 1}), "update exif-jax"),
        (PREPARE_FILE, "{}", "schema_version is missing"),
        (PREPARE_FILE, "{", PREPARE_FILE),
        (TARGETS_FILE, "[]", TARGETS_FILE),
        (TARGETS_FILE, "no", TARGETS_FILE),
        (TARGETS_FILE, None, "targets.json: missing"),
        ("features.json", None, "features.json: missing"),
    ],
)
def test_damaged_records_are_refused(
    directory: Path, name: str, text: str | None, message: str
) -> None:
    if text is None:
        (directory / name).unlink()
    else:
        (directory / name).write_text(text)
    with pytest.raises(UserError, match=message):
        open_records(directory)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dataset_info.json", b"[]"),
        ("dataset_info.json", b"\xff\xfe"),
        ("dataset_info.json", b'{"splits": [{"name": [[]]}]}'),
        ("features.json", b'{"featuresDict": {"features": []}}'),
        ("features.json", b'{"pythonClassName": "a.b.C"}'),
        ("exif_photos-train.array_record-00000-of-00003", b""),
        ("exif_photos-train.array_record-00000-of-00003", bytes(70_000)),
    ],
)
def test_files_that_libraries_cannot_read_are_one_line(
    directory: Path, name: str, text: bytes
) -> None:
    assert (directory / name).exists()
    (directory / name).write_bytes(text)
    with pytest.raises(UserError, match="damaged or was copied in part") as refused:
        records = open_records(directory)
        for split in records.splits:
            source = records.source(split)
            [records.decode(source[i]) for i in range(len(source))]
    assert "\n" not in str(refused.value) and str(directory) in str(refused.value)


def test_a_window_that_is_damaged_is_one_line(directory: Path) -> None:
    records = open_records(directory)
    raw = records.source("train")[0]
    for image in (raw["image"][:100], b"", raw["image"].replace(b"IDAT", b"IDAX")):
        with pytest.raises(UserError, match="damaged or was copied in part"):
            records.decode({**raw, "image": image})


def _flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [_flip, lambda data: data[: len(data) // 2], lambda data: b""])
def test_a_shard_that_was_copied_in_part_is_named(
    directory: Path, damage: Callable[[bytes], bytes]
) -> None:
    shard = min(directory.glob("*train.array_record*"))
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(UserError, match=r"damaged or was copied in part .*copy the directory anew"):
        list(map(open_records(directory).source("train").__getitem__, range(5)))


def test_what_lies_among_records_besides(directory: Path) -> None:
    (directory / ".DS_Store").write_bytes(b"x")
    (directory / "._exif_photos-train.array_record-00000-of-00003").write_bytes(b"x")
    assert len(open_records(directory).source("train")) == 5
