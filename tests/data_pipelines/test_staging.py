"""Records in object storage and their local copy: once, whole, shared, from where it stopped."""

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from data_pipelines import object_storage, staging
from data_pipelines.errors import UserError
from data_pipelines.fingerprints import fingerprint_of_records
from data_pipelines.object_storage import is_whole, stored_files
from data_pipelines.records import open_records
from data_pipelines.staging import staged
from tests.storage_emulators import put

SHARD = "exif_photos-train.array_record-00000-of-00001"


@pytest.fixture(scope="module")
def uri(google_storage, records):
    put(records, "gs://bucket/staging/records")
    return "gs://bucket/staging/records"


@pytest.fixture
def reads(monkeypatch):
    """(file, first byte) of every request for bytes; once there are so many, the process dies."""
    made, dies_after = [], [None]
    read = object_storage.read_object

    def counted(uri, start=0, end=None):
        if dies_after[0] is not None and len(made) >= dies_after[0]:
            raise KeyboardInterrupt
        made.append((uri.rpartition("/")[2], start))
        return read(uri, start, end)

    monkeypatch.setattr(staging, "read_object", counted)
    monkeypatch.setattr(staging, "_THREADS", 1)
    return made, dies_after


def test_a_copy_is_made_once_and_is_the_same_data(uri, records, reads, tmp_path):
    folder = staged(uri, str(tmp_path))
    assert folder.parent == tmp_path and staged(str(records)) == records
    copy, original = open_records(folder), open_records(records)
    assert fingerprint_of_records(copy) == fingerprint_of_records(original)
    assert copy.source("train")[3]["image"] == original.source("train")[3]["image"]
    made = len(reads[0])
    assert made >= len([*records.glob("*.npz")]) and staged(uri, str(tmp_path)) == folder
    assert len(reads[0]) == made


def test_a_killed_copy_goes_on_where_it_stopped(uri, records, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(staging, "_CHUNK", 1 << 16)
    made, dies_after = reads
    dies_after[0] = 5
    with pytest.raises(KeyboardInterrupt):
        staged(uri, str(tmp_path))
    assert len(made) == 5 and made[-1][1] > 0
    dies_after[0] = None
    folder = staged(uri, str(tmp_path))
    assert len(made) == len(set(made))  # nothing was read twice
    for path in filter(Path.is_file, records.iterdir()):
        assert (folder / path.name).read_bytes() == path.read_bytes()
    assert not list(folder.glob("*.part"))


def test_what_changed_is_copied_again_and_what_is_gone_removed(uri, reads, tmp_path):
    folder = staged(uri, str(tmp_path))
    whole = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(b"x" + whole[1:])  # of the same size
    os.utime(folder / SHARD, (1, 1))
    object_storage.write_object(
        f"{uri}/targets.json", (folder / "targets.json").read_bytes() + b"\n"
    )
    object_storage.write_object(f"{uri}/more.txt", b"more")
    before = len(reads[0])
    staged(uri, str(tmp_path))
    assert {name for name, _ in reads[0][before:]} == {SHARD, "targets.json", "more.txt"}
    assert (folder / SHARD).read_bytes() == whole
    object_storage.remove_object(f"{uri}/more.txt")
    staged(uri, str(tmp_path))
    assert not (folder / "more.txt").exists()


def test_what_arrives_damaged_is_refused(uri, reads, tmp_path, monkeypatch):
    def damaged(uri, start=0, end=None):
        return b"x" * (end - start)

    monkeypatch.setattr(staging, "read_object", damaged)
    with pytest.raises(UserError, match="has not the checksum that the storage tells, twice"):
        staged(uri, str(tmp_path))


def test_processes_of_a_host_share_one_copy(uri, reads, tmp_path):
    made, _ = reads
    gate = threading.Barrier(3)

    def one(_):
        gate.wait()
        return staged(uri, str(tmp_path))

    with ThreadPoolExecutor(3) as pool:  # each has a lock of its own, as processes do
        assert len(set(pool.map(one, range(3)))) == 1
    assert len(made) == len(set(made))


def test_a_full_disk_is_told_before_anything_is_copied(uri, reads, tmp_path, monkeypatch):
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: free)
    with pytest.raises(UserError, match=r"do not fit .* --config.data.cache"):
        staged(uri, str(tmp_path))
    assert not reads[0]


def test_what_is_no_records_stays_where_it_is_or_is_named(uri, tmp_path):
    assert str(staged("gs://bucket/staging")) == "gs://bucket/staging"
    object_storage.write_object("gs://bucket/half/unfinished/parts/1", b"x")
    prepared = json.loads(object_storage.read_object(f"{uri}/prepare.json"))
    newer = json.dumps({**prepared, "schema_version": 99}).encode()
    object_storage.write_object("gs://bucket/newer/prepare.json", newer)
    with pytest.raises(UserError, match="gs://bucket/newer: records of schema version 99"):
        staged("gs://bucket/newer", str(tmp_path))


@pytest.mark.parametrize("size", [0, 5, 6 << 20])
def test_objects_of_s3_are_checked_by_etag(amazon_storage, size, tmp_path):
    path, uri = tmp_path / "x", f"s3://bucket/etag/{size}"
    path.write_bytes(os.urandom(size))
    with object_storage.filesystem(uri).open(uri, "wb", block_size=5 << 20) as file:
        file.write(path.read_bytes())  # the largest in two parts
    stored = stored_files("s3://bucket/etag")[str(size)]
    assert ("-" in stored.version) == (size > 5 << 20)
    assert is_whole(path, uri, stored)
    path.write_bytes(os.urandom(size))
    assert is_whole(path, uri, stored) == (size == 0)
