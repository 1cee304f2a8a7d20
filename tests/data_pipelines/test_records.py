import io
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.records import (
    PREPARE_FILE,
    SCHEMA_VERSION,
    TARGETS_FILE,
    Record,
    Records,
    open_records,
    shard_path,
    tags_for_record,
    write_description,
    write_shard,
)
from data_pipelines.targets import build_targets, targets_to_json

VALUES: dict[str, str | float] = {"Make": "Canon", "FNumber": 2.8, "Flash": "fired"}


def window(i: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 256, (256, 256, 3), np.uint8)


def make_records(count: int) -> Iterator[Record]:
    for i in range(count):
        file = io.BytesIO()
        Image.fromarray(window(i)).save(file, "PNG", compress_level=1)
        yield {
            "image": file.getvalue(),
            "tags": tags_for_record(VALUES if i else {}),
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
    sizes = {
        split: [
            write_shard(Path(shard_path(tmp_path, split, i, len(parts))), part)
            for i, part in enumerate(parts)
        ]
        for split, parts in shards.items()
    }
    write_description(tmp_path, sizes)
    targets = targets_to_json(build_targets([VALUES]))
    (tmp_path / TARGETS_FILE).write_text(json.dumps(targets))
    (tmp_path / PREPARE_FILE).write_text(json.dumps({"schema_version": SCHEMA_VERSION}))
    return tmp_path


def test_records_come_back_exactly(directory: Path) -> None:
    records = open_records(directory)
    assert records.splits == ("train", "validation")
    source = records.source("train")
    assert len(source) == 5
    for i in range(5):
        decoded = records.decode(source[i])
        np.testing.assert_array_equal(decoded["image"], window(i))
        assert decoded["photo"] == 2**62 + i
        assert decoded["photo"].dtype == decoded["group"].dtype == np.int64
        assert decoded["path"] == f"é/{i}.jpg"
        row = decoded["targets"]
        assert row.dtype == np.float32
        assert np.isnan(row).sum() == (11 if i else 14)
    assert row[0] == np.float32(2.8)
    assert records.targets[1].classes[int(row[1])] == "Canon"
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
