"""Files and folders, local here; `prepare/test_sources.py` does the same in remote storage."""

from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.storage import expand_user, is_uri, join, parent_of, suffix_of, valid_text, walk


def test_every_folder_is_walked_and_no_link_is_followed(tmp_path: Path) -> None:
    for name in ("1.jpg", "a/2.jpg", "a/.b/3.jpg", "__MACOSX/4.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    found = {folder.removeprefix(str(tmp_path)): names for folder, names in walk(str(tmp_path))}
    assert found == {"": ["1.jpg", "__MACOSX/"], "/a": ["2.jpg"], "/a/.b": ["3.jpg"]}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: cannot be read"):
        list(walk(str(tmp_path / "gone")))


def test_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert [expand_user(path) for path in ("~", "~/a/*.jpg", "a/~", "gs://~/a")] == [
        *("/home/me", "/home/me/a/*.jpg", "a/~", "gs://~/a")
    ]


def test_parts_of_paths() -> None:
    assert (is_uri("gs://bucket/a"), is_uri("/gs/a"), is_uri("C:/a")) == (True, False, False)
    assert [suffix_of(path) for path in ("a/b.JPG", ".jpg", "a.b/c")] == [".jpg", "", ""]
    assert (parent_of("/a/b.jpg"), parent_of("/b.jpg")) == ("/a", "/")
    assert (join("/a", "b"), join("/", "b")) == ("/a/b", "/b")
    assert valid_text("\udcff.jpg") == "\\udcff.jpg"


@pytest.mark.parametrize(
    ("path", "folder"),
    [("gs://x.jpg", "gs://"), ("gs://", "gs://"), ("gs://b/x.jpg", "gs://b"), ("/x.jpg", "/")],
)
def test_the_folder_of_remote_files_is_remote(path: str, folder: str) -> None:
    assert parent_of(path) == folder
