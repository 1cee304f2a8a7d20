"""Fingerprints of data: what they notice, what they do not, and how they tell it."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json
from data_pipelines.fingerprints import (
    Fingerprint,
    differences,
    fingerprint_of_files,
    fingerprint_of_photos,
    fingerprint_of_records,
)
from data_pipelines.records import index_path, open_records


@pytest.fixture
def copy(records, tmp_path):
    """Records of one's own, copied: at another place, with other times."""
    return shutil.copytree(records, tmp_path / "copy", copy_function=shutil.copyfile)


def told(then, directory):
    return "; ".join(differences(then, fingerprint_of_records(open_records(directory))))


@pytest.fixture
def then(records):
    return fingerprint_of_records(open_records(records))


def test_copied_records_are_the_same_and_json_keeps_all(then, copy):
    kept = Fingerprint.from_json(json.loads(json.dumps(then.to_json())))
    assert kept == then == fingerprint_of_records(open_records(copy))
    assert then.values["train windows"] + then.values["validation windows"] == 24
    assert {"ISO of train windows", "path of train windows"} <= then.digests.keys()
    assert fingerprint_of_photos(copy, []) == then


def test_other_classes_are_named(then, copy):
    targets = read_json(copy / "targets.json")
    make = next(target for target in targets if target["name"] == "Make")
    first, second, *rest = make["classes"]
    make["classes"] = [second, first, *rest]
    write_json(copy / "targets.json", targets)
    assert f"class 0 of Make was {first}, is {second} now" in told(then, copy)
    make["classes"] = [first, *rest]
    targets.remove(next(target for target in targets if target["name"] == "Flash"))
    write_json(copy / "targets.json", targets)
    number = len(rest) + 2
    assert f"Make had {number} classes, has {number - 1} now" in told(then, copy)
    assert "the tag Flash is gone" in told(then, copy)


def test_other_windows_and_shards_are_told(then, copy):
    info = read_json(copy / "dataset_info.json")
    train = next(split for split in info["splits"] if split["name"] == "train")
    train["shardLengths"] = [str(int(train["shardLengths"][0]) + 1), "2"]
    (copy / "dataset_info.json").write_text(json.dumps(info))
    count = then.values["train windows"]
    assert f"train windows: {count} then, {count + 3} now" in told(then, copy)
    assert "1 train shards then, 2 now: 1 is gone, e.g. exif_photos-train" in told(then, copy)


def test_the_columns_of_an_index_tell_and_a_missing_index_does_not(then, copy):
    path = index_path(copy, "train")
    columns = open_records(copy).columns("train")
    iso = columns.values["ISO"] + 1
    other = dataclasses.replace(columns, values={**columns.values, "ISO": iso})
    path.write_bytes(other.to_bytes())
    assert told(then, copy) == "other ISO of train windows"
    path.write_bytes(b"damaged")
    assert told(then, copy) == ""
    path.unlink()
    assert told(then, copy) == ""


def test_files_are_known_by_their_names_and_sizes_below_the_folder(tmp_path):
    def found(folder):
        return fingerprint_of_files(folder, {"photographs": sorted(folder.glob("*.jpg"))})

    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(1200):
        (folder / f"{index:04d}.jpg").write_bytes(bytes(10))
    then = found(folder)
    moved = folder.rename(tmp_path / "moved")
    os.utime(moved / "0007.jpg", (1, 1))
    assert differences(then, found(moved)) == []
    for index in range(12):
        (moved / f"{index:04d}.jpg").unlink()
    (moved / "a\n.jpg").write_bytes(b"")
    (moved / "1000.jpg").write_bytes(bytes(11))
    assert differences(then, found(moved)) == [
        "1,200 photographs then, 1,189 now: 12 are gone, e.g. 0000.jpg, 1 is new, e.g. a\\n.jpg, "
        "1 is of another size, e.g. 1000.jpg"
    ]


def test_a_listed_file_may_be_missing_elsewhere_or_of_no_text(tmp_path):
    names = [Path("/nowhere/x.jpg"), tmp_path / "\udcff.jpg"]
    found = fingerprint_of_files(tmp_path / "list.csv", {"photographs": names})
    assert found.files == {"photographs": {"/nowhere/x.jpg": None, "\udcff.jpg": None}}
    assert Fingerprint.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_records_in_place_of_files_are_one_difference(then):
    files = Fingerprint({"data": "image files"}, files={"photographs": {"a.jpg": 1}})
    assert differences(files, then) == ["data: image files then, prepared records now"]


def test_what_another_version_does_not_know_says_nothing():
    old = Fingerprint({"width": 4}, digests={"a": "1"})
    new = Fingerprint({"width": 4, "depth": 2}, digests={"a": "1", "b": "2"})
    assert differences(old, new) == differences(new, old) == []


def test_many_differences_are_counted():
    classes = [Fingerprint(classes={"Model": [f"{x}{i}" for i in range(9)]}) for x in "ab"]
    assert differences(*classes)[2:] == [
        "class 2 of Model was a2, is b2 now",
        "6 more classes of Model are others",
    ]
    values = [Fingerprint({str(i): i + x for i in range(20)}) for x in (0, 1)]
    assert len(differences(*values)) == 13 and differences(*values)[-1] == "8 more differences"


@pytest.mark.parametrize("obj", [[], "x", {"files": [1]}, {"files": {"photographs": 3}}])
def test_anything_else_is_no_fingerprint(obj):
    with pytest.raises(UserError, match="no fingerprint of data"):
        Fingerprint.from_json(obj)
