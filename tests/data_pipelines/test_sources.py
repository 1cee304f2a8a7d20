import dataclasses
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from etils.epath import backend
from fsspec.implementations.local import LocalFileSystem

from data_pipelines.items import Item
from data_pipelines.sources import find_files, is_source, read_item
from tests.data_pipelines.found import LIMIT, contents, find_items, names, reason, refusal, write

registry = importlib.import_module("fsspec.registry")  # fsspec.registry itself is a table in it


def test_directory_is_searched_by_extension(tmp_path):
    for name in ("b/c/2.JPG", "1.jpg", "b/.hidden.png", "b/no.raw", "b/noext", "._1.jpg"):
        write(tmp_path / "d" / name)
    write(tmp_path / "d" / "__MACOSX" / "x.jpg")
    assert names(tmp_path / "d") == ["1.jpg", "b/.hidden.png", "b/c/2.JPG"]
    assert names(tmp_path / "d", extensions=frozenset({".raw"})) == ["b/no.raw"]


def test_items_have_absolute_paths_and_read_back(tmp_path, monkeypatch):
    write(tmp_path / "d" / "ä b" / "1 2.jpg", b"one")
    monkeypatch.chdir(tmp_path)
    (item,) = find_items(["d"])
    assert item == Item("ä b/1 2.jpg", str(tmp_path / "d" / "ä b" / "1 2.jpg"))
    assert read_item(item, max_bytes=3) == b"one"
    assert reason(item, max_bytes=2) == "too_many_bytes"


def test_links_to_files_are_taken_and_to_directories_not_followed(tmp_path):
    write(tmp_path / "d" / "1.jpg")
    write(tmp_path / "other" / "2.jpg")
    write(tmp_path / "other" / "3.jpg")
    (tmp_path / "d" / "link.jpg").symlink_to(tmp_path / "other" / "2.jpg")
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "folder.jpg").symlink_to(tmp_path / "other")
    (tmp_path / "d" / "broken.jpg").symlink_to(tmp_path / "gone")
    assert names(tmp_path / "d") == ["1.jpg", "broken.jpg", "link.jpg"]
    assert names(tmp_path / "d" / "**" / "*k*.jpg") == ["broken.jpg", "link.jpg"]
    # A link that a pattern matches is as good as given itself.
    assert names(tmp_path / "d" / "*oop*") == ["1.jpg", "broken.jpg", "link.jpg"]
    assert names(tmp_path / "d" / "*") == ["1.jpg", "broken.jpg", "folder.jpg/3.jpg", "link.jpg"]
    assert reason(find_items([tmp_path / "d"])[1]) == "unreadable"


def test_single_file_is_taken_whatever_its_extension(tmp_path):
    assert names(write(tmp_path / "photo.weird")) == ["photo.weird"]


def test_name_that_is_no_text(tmp_path):
    file = os.fsencode(tmp_path) + b"/a\xff.jpg"
    Path(os.fsdecode(file)).write_bytes(b"data")
    (item,) = find_items([tmp_path])
    assert item.name == "a\\udcff.jpg"
    item.name.encode()
    again = Item(**json.loads(json.dumps(dataclasses.asdict(item))))
    assert again == item
    assert read_item(again, max_bytes=LIMIT) == b"data"


def test_equal_names_get_their_own_items(tmp_path):
    write(tmp_path / "d" / "a\\udcff.jpg", b"text")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/d/a\xff.jpg")).write_bytes(b"bytes")
    found = contents(tmp_path / "d")
    assert found == {"a\\udcff.jpg": b"text", "a\\udcff.jpg#2": b"bytes"}


def test_each_file_once_with_names_from_the_common_base(tmp_path):
    one = write(tmp_path / "d" / "a" / "1.jpg")
    write(tmp_path / "d" / "b" / "2.jpg")
    (tmp_path / "alias").symlink_to(tmp_path / "d" / "a")
    a, b = tmp_path / "d" / "a", tmp_path / "d" / "b"
    assert names(a, b, one, a) == ["a/1.jpg", "b/2.jpg"]
    assert names(tmp_path / "alias", a) == names(a, tmp_path / "alias") == ["d/a/1.jpg"]


def test_link_and_its_target_count_once(tmp_path):
    photo = write(tmp_path / "d" / "photo.jpg")
    link = tmp_path / "links" / "link.jpg"
    link.parent.mkdir()
    link.symlink_to("../d/photo.jpg")
    (tmp_path / "links" / "again.jpg").symlink_to(link)
    expected = {"d/photo.jpg": b"photo.jpg"}
    assert contents(photo, link) == contents(link.parent, photo.parent) == expected
    assert contents(link.parent) == {"link.jpg": b"photo.jpg"}


def test_working_directory(tmp_path, monkeypatch):
    write(tmp_path / "1.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(".") == names("1.jpg") == ["1.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["1.jpg"]),
        ("?.jp*g", ["1.jpg"]),
        ("**/*.jpg", ["1.jpg", "a/2.jpg", "a/b/3.jpg"]),
        ("a/**/[0-9].jpg", ["2.jpg", "b/3.jpg"]),
        ("a/*", ["2.jpg", "b/3.jpg"]),
        ("*/b/*.jpg", ["3.jpg"]),
        ("**", ["1.jpg", "a/.hidden/4.jpg", "a/2.jpg", "a/b/3.jpg"]),
        ("**/b", ["3.jpg"]),
        ("a/*.raw", ["5.raw"]),
        ("a/.hid*", ["4.jpg"]),
    ],
)
def test_patterns(tmp_path, pattern, expected):
    for name in ("1.jpg", "a/2.jpg", "a/b/3.jpg", "a/.hidden/4.jpg", "a/5.raw", "a/notes.txt"):
        write(tmp_path / "p q" / name)
    assert names(tmp_path / "p q" / pattern) == expected


def test_pattern_matches_no_file(tmp_path):
    write(tmp_path / "1.jpg")
    assert f"{tmp_path}/*.png: no file matches" in refusal(tmp_path / "*.png", tmp_path)
    assert "gone/*.png: no file matches" in refusal(tmp_path / "gone" / "*.png")


def test_existing_path_is_no_pattern(tmp_path):
    write(tmp_path / "d[1]" / "a*?.jpg")
    write(tmp_path / "d1" / "b.jpg")
    assert names(tmp_path / "d[1]") == names(tmp_path / "d[1]" / "a*?.jpg") == ["a*?.jpg"]


def test_list_file(tmp_path):
    for name in ("1.jpg", "sub dir/2.jpg", "deep/x/3.jpg", "photo.odd"):
        write(tmp_path / "d" / name)
    write(tmp_path / "z" / "4.jpg")
    shutil.make_archive(str(tmp_path / "d" / "z"), "zip", tmp_path / "z")
    lines = [
        "# comment",
        "",
        "1.jpg",
        "  sub dir  ",
        "deep/**/*.jpg",
        "gone.jpg",
        "photo.odd",
        "z.zip",
        str(tmp_path / "d" / "1.jpg"),
    ]
    listing = write(tmp_path / "d" / "all.txt", "\ufeff".encode() + "\r\n".join(lines).encode())
    items = find_items([listing])
    assert [item.name for item in items] == [
        *("1.jpg", "deep/x/3.jpg", "gone.jpg", "photo.odd", "sub dir/2.jpg", "z.zip/4.jpg")
    ]
    assert reason(items[2]) == "unreadable"


def test_list_with_an_impossible_name(tmp_path):
    (item,) = find_items([write(tmp_path / "l.lst", b"x" * 300)])
    assert reason(item) == "unreadable"
    assert "no such file" in refusal("x" * 300)


LONG = {
    "a path": "a/" * 3000 + "x.jpg",
    "a path of 4,096 bytes": "a/" * 2048,
    "a name": "x" * 252 + ".jpg",
    "a name of few characters": "ä" * 130 + ".jpg",
    "a folder": "x" * 256 + "/a.jpg",
    "a pattern": "x" * 300 + "*.jpg",
    "a long pattern": "a/" * 3000 + "*.jpg",
    "an archive": "x" * 300 + ".zip",
    "a compressed archive": "x" * 300 + ".tar.gz",
    "a list": "x" * 300 + ".txt",
    "a home": "~/" + "a/" * 3000 + "x.jpg",
    "no extension": "x" * 5000,
    "brackets": "[" * 300 + ".jpg",
}


@pytest.mark.parametrize("line", LONG.values(), ids=LONG)
def test_what_is_too_long_for_a_disk_is_a_file_that_cannot_be_read(tmp_path, line):
    write(tmp_path / "1.jpg", b"one")
    items = find_items([write(tmp_path / "l.lst", f"1.jpg\n{line}\n1.jpg".encode())])
    (bad,) = [item for item in items if item.path != str(tmp_path / "1.jpg")]
    assert len(items) == 2
    assert reason(bad) == "unreadable"


def test_a_folder_too_deep_for_a_path_is_counted(tmp_path, monkeypatch):
    write(tmp_path / "d" / "1.jpg")
    monkeypatch.chdir(tmp_path / "d")
    for _ in range(20):
        Path("x" * 250).mkdir()
        os.chdir("x" * 250)
    Path("2.jpg").write_bytes(b"out of reach")
    monkeypatch.undo()
    found = find_files([tmp_path / "d"])
    assert [item.name for item in found.items] == ["1.jpg"]
    assert found.passed_over == {"folder too deep": 1}


def test_the_longest_names_are_no_problem(tmp_path):
    name = "x" * 251 + ".jpg"
    write(tmp_path / name, b"one")
    assert contents(write(tmp_path / "l.lst", name.encode())) == {name: b"one"}


def test_list_with_a_name_that_is_no_text(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.jpg")).write_bytes(b"data")
    assert contents(write(tmp_path / "l.lst", b"\xe9.jpg")) == {"\\udce9.jpg": b"data"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"\n1.jpg\nother.lst", "line 3: {folder}/other.lst: a list cannot name another list"),
        (b"x*.jpg", "line 1: {folder}/x*.jpg: no file matches this pattern"),
        (b"gone.zip", "line 1: {folder}/gone.zip: no such file"),
        (b"a\0b", "not a text file"),
        (b"# nothing", "no images found in {folder}/list.txt"),
    ],
)
def test_wrong_list(tmp_path, text, words):
    write(tmp_path / "1.jpg")
    assert words.format(folder=tmp_path) in refusal(write(tmp_path / "list.txt", text))


def test_refusals(tmp_path):
    assert "no images given" in refusal()
    assert f"{tmp_path}/gone: no such file or directory" in refusal(tmp_path / "gone")
    assert f"{tmp_path}/gone.txt: no such file" in refusal(tmp_path / "gone.txt")
    write(tmp_path / "notes.md")
    assert f"no images found in {tmp_path}: no file with an image's extension (" in refusal(
        tmp_path
    )
    assert "and 2 more: no file" in refusal(*[tmp_path] * 7)
    assert "http:// is not supported" in refusal("http://example.com/a.jpg")


@pytest.mark.parametrize("top", [True, False])
def test_directory_that_cannot_be_listed(tmp_path, monkeypatch, top):
    write(tmp_path / "locked" / "1.jpg")
    write(tmp_path / "2.jpg")
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    message = refusal(tmp_path / "locked" if top else tmp_path)
    assert message == (
        f"{tmp_path}/locked: cannot be read (Permission denied); "
        "change its permissions or leave it out"
    )


# Remote storage


class _FakeStorage(LocalFileSystem):
    """gs:// in a local folder."""

    protocol = ("gcs", "gs")
    cachable = False
    root = ""

    @classmethod
    def _strip_protocol(cls, path):
        path = os.fspath(path)
        return path.replace("gs://", cls.root + "/", 1).rstrip("/")


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """The local folder of gs://bucket."""
    monkeypatch.setenv("EPATH_USE_TF", "false")
    monkeypatch.setattr(_FakeStorage, "root", str(tmp_path / "gs"))
    monkeypatch.setitem(registry._registry, "gcs", _FakeStorage)
    backend.fsspec_backend._get_filesystem.cache_clear()
    folder = tmp_path / "gs" / "bucket"
    for name in ("p/1.jpg", "p/a/2.jpg", "p/a/notes.md", "p/a/b/3.png"):
        write(folder / name)
    yield folder
    backend.fsspec_backend._get_filesystem.cache_clear()


def test_remote_directory(bucket):
    items = find_items(["gs://bucket/p/"])
    assert [item.name for item in items] == ["1.jpg", "a/2.jpg", "a/b/3.png"]
    assert items[1].path == "gs://bucket/p/a/2.jpg"
    assert read_item(items[1], max_bytes=5) == b"2.jpg"
    assert reason(items[1], max_bytes=4) == "too_many_bytes"
    assert names("gs://bucket") == ["p/1.jpg", "p/a/2.jpg", "p/a/b/3.png"]
    (bucket / "p" / "1.jpg").unlink()
    assert reason(items[0]) == "unreadable"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("gs://bucket/p/1.jpg", ["1.jpg"]),
        ("gs://bucket/p/*.jpg", ["1.jpg"]),
        ("gs://bucket/p/**/*.jpg", ["1.jpg", "a/2.jpg"]),
        ("gs://bucket/*/a/*", ["2.jpg", "b/3.png"]),
        ("gs://bucket/p/../p/a", ["2.jpg", "b/3.png"]),
    ],
)
def test_remote_files_and_patterns(bucket, source, expected):
    assert names(source) == expected


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_remote_archive(bucket, tmp_path, kind):
    write(tmp_path / "x" / "a.jpg", b"a" * 3000)
    write(tmp_path / "x" / "y" / "b.jpg")
    shutil.make_archive(str(bucket / "p" / "a" / "x"), kind, tmp_path / "x")
    items = [item for item in find_items(["gs://bucket/p"]) if item.member]
    assert [item.name for item in items] == [f"a/x.{kind}/a.jpg", f"a/x.{kind}/y/b.jpg"]
    assert {item.path for item in items} == {f"gs://bucket/p/a/x.{kind}"}
    assert [read_item(item, max_bytes=3000) for item in items] == [b"a" * 3000, b"b.jpg"]


def test_remote_list_and_mixed_sources(bucket, tmp_path):
    write(bucket / "lists" / "l.txt", b"../p/1.jpg\n../p/a\n../p/gone.jpg\ngs://bucket/p/*.jpg")
    items = find_items(["gs://bucket/lists/l.txt"])
    assert [item.name for item in items] == ["1.jpg", "a/2.jpg", "a/b/3.png", "gone.jpg"]
    assert reason(items[-1]) == "unreadable"
    local = write(tmp_path / "here" / "1.jpg")
    assert names(local, "gs://bucket/p/a") == ["1.jpg", "gs/2.jpg", "gs/b/3.png"]


def test_remote_refusals(bucket, monkeypatch):
    assert "gs://bucket/gone: no such file" in refusal("gs://bucket/gone")
    assert "gs://bucket/p/*.gif: no file matches" in refusal("gs://bucket/p/*.gif")
    listing = LocalFileSystem.ls

    def guarded(self, path, *args, **kwargs):
        if path.endswith("/b"):
            raise PermissionError("403 Forbidden")
        return listing(self, path, *args, **kwargs)

    monkeypatch.setattr(_FakeStorage, "ls", guarded)
    message = refusal("gs://bucket/p")
    assert message.startswith("gs://bucket/p/a/b: cannot be read (PermissionError: 403 Forbidden)")


def test_remote_storage_whose_library_is_missing(monkeypatch):
    monkeypatch.setenv("EPATH_USE_TF", "false")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    for scheme in ("gs", "gcs"):  # it may have been in use
        monkeypatch.delitem(registry._registry, scheme, raising=False)
    backend.fsspec_backend._get_filesystem.cache_clear()
    assert "pip install 'exif-jax[gcs]'" in refusal("gs://bucket/p")


def test_import_is_light():
    code = (
        "import sys, data_pipelines.sources as s; "
        "print(*{'jax', 'tensorflow_datasets', 'fsspec', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_only_a_missing_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    for name in (".", "a.jpg", "*.jpg", "absent.txt", "absent.zip", "absent.tar.gz"):
        assert is_source(f"{tmp_path}/{name}")
    assert not is_source(f"{tmp_path}/absent.jpg") and not is_source(f"{tmp_path}/absent")


def test_a_bucket_in_the_place_of_a_file_is_listed_beside_local_ones(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("none.jpg\ngs://x.jpg\n")
    found = find_files([tmp_path / "list.txt"])
    assert sorted(item.path for item in found.items) == [str(tmp_path / "none.jpg"), "gs://x.jpg"]
