"""Object storage on the loopback: mirrors of folders, labelled images there, one clear error."""

import shutil
import tempfile
import time
from pathlib import Path

import pytest

from data_pipelines import mirrors, object_storage
from data_pipelines.errors import UserError
from data_pipelines.fingerprints import differences, fingerprint_of_files
from data_pipelines.labelled import find_test_sets, labelled_images
from data_pipelines.mirrors import mirrored, place_of, renew, shown, synchronise
from data_pipelines.object_storage import path_of, stored_files, top_names
from data_pipelines.photo_sources import open_photos
from tests.storage_emulators import put


def texts(uri):
    return {
        name: object_storage.read_object(f"{uri}/{name}").decode() for name in stored_files(uri)
    }


@pytest.fixture(params=["google_storage", "amazon_storage"])
def place(request):
    """A new folder of either storage."""
    storage = request.getfixturevalue(request.param)
    return f"{storage.uri}/mirror/{time.monotonic_ns()}"


def test_a_local_folder_is_its_own_mirror(tmp_path):
    with mirrored(str(tmp_path)) as folder:
        synchronise(folder)
        assert folder == tmp_path and place_of(folder / "a") == f"{tmp_path}/a"
        assert shown(f"{folder}: x") == f"{tmp_path}: x"


def test_a_mirror_brings_what_is_new_and_takes_in_what_was_there(place):
    with mirrored(place, leaves=("checkpoints",)) as folder:
        (folder / "sub").mkdir()
        (folder / "log.txt").write_text("a")
        (folder / "sub" / "x").write_text("x")
        (folder / ".y.tmp").write_text("half")
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "1").write_text("by others")
        synchronise(folder, every=60)
        assert not stored_files(place)
        synchronise(folder)
        assert texts(place) == {"log.txt": "a", "sub/x": "x"}
        assert place_of(folder / "checkpoints") == f"{place}/checkpoints"
        assert shown(folder / "sub") == f"{place}/sub" and place_of(folder) == place
        with (folder / "log.txt").open("a") as file:
            file.write("b")
        (folder / "sub" / "x").unlink()
    assert texts(place) == {"log.txt": "ab"} and not folder.exists()
    object_storage.write_object(f"{place}/checkpoints/1", b"large")
    with mirrored(place, leaves=("checkpoints",)) as folder:
        assert [path.name for path in folder.iterdir()] == ["log.txt"]
        object_storage.write_object(f"{place}/skipped.jsonl", b"{}")
        object_storage.remove_object(f"{place}/log.txt")
        renew(folder)
        assert [path.name for path in folder.iterdir()] == ["skipped.jsonl"]
    assert top_names(place) == {"checkpoints", "skipped.jsonl"}


def test_what_says_that_something_is_done_comes_last(place, monkeypatch):
    order = []
    monkeypatch.setattr(mirrors, "upload", lambda path, _: order.append(path.name))
    with mirrored(place) as folder:
        for name in ("z.safetensors", "detector.json", "metrics.jsonl", "a.png"):
            (folder / name).write_text(name)
            time.sleep(0.01)  # clocks of file systems are coarse
        synchronise(folder)
    assert order == ["z.safetensors", "detector.json", "metrics.jsonl", "a.png"]


def test_errors_name_the_storage_and_lose_nothing(place):
    with (
        pytest.raises(UserError, match=rf"^{place}/config.json: damaged$"),
        mirrored(place) as folder,
    ):
        (folder / "metrics.jsonl").write_text("so far")
        raise UserError(f"{folder}/config.json: damaged")
    assert texts(place) == {"metrics.jsonl": "so far"}
    with (
        pytest.raises(UserError, match="not empty and holds no run"),
        mirrored(place, "config.json"),
    ):
        pass


def test_what_killed_processes_left_is_removed(google_storage, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "exif_jax_run_left"
    left.mkdir()
    (left / ".lock").touch()
    with mirrored("gs://bucket/left/1") as alive, mirrored("gs://bucket/left/2"):
        assert alive.exists() and not left.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nobucket/x", "nobucket"])
def test_a_bucket_that_is_not_there_is_named(google_storage, amazon_storage, name):
    for scheme in ("gs", "s3"):
        with pytest.raises(UserError, match=f"there is no bucket {scheme}://nobucket, or"):
            path_of(f"{scheme}://{name}")
    with pytest.raises(UserError, match="http:// is not supported"):
        path_of("http://bucket/x")


def test_a_missing_permission_is_named_with_the_remedy(google_storage):
    with mirrored("gs://bucket/denied") as folder:
        (folder / "config.json").write_text("{}")
        google_storage.fail(403)
        try:
            with pytest.raises(UserError, match=r"cannot be written: this account may not.*role"):
                synchronise(folder)
            with pytest.raises(UserError, match=r"cannot be reached: this account may not.*login"):
                path_of("gs://bucket/other")
        finally:
            google_storage.fail(None)


def test_a_storage_that_does_not_answer_is_given_up(google_storage, monkeypatch):
    monkeypatch.setattr(object_storage, "_ANSWER_SECONDS", 1)
    google_storage.fail(503)  # which clients try again, for minutes
    try:
        began = time.monotonic()
        with pytest.raises(UserError, match="no answer within 1 seconds, so gs://bucket cannot"):
            path_of("gs://bucket/slow")
        assert time.monotonic() - began < 10
    finally:
        google_storage.fail(None)


def relative(test_sets, root):
    return [
        [[str(path).removeprefix(str(root)) for path in paths] for paths in (x.real, x.generated)]
        for x in test_sets
    ]


def test_labelled_images_of_object_storage_are_the_same(google_storage, simulated, tmp_path):
    local = simulated / "labelled"
    put(local, "gs://bucket/labelled")
    remote = path_of("gs://bucket/labelled")
    sets, theirs = find_test_sets(local), find_test_sets(remote)
    assert relative(theirs, remote) == relative(sets, local)
    assert [i.label for i in labelled_images(theirs, bursts=True)] == [
        i.label for i in labelled_images(sets, bursts=True)
    ]
    prints = [
        fingerprint_of_files(root, {"real": found[0].real})
        for root, found in ((local, sets), (remote, theirs))
    ]
    assert not differences(*prints) and prints[0] == prints[1]
    # Lists there and here, of files there and here, relative and not.
    name = str(theirs[0].real[0]).removeprefix("gs://bucket/")
    made = f"path,label\n{name},0\n{sets[0].generated[0]},1\n{theirs[0].generated[1]},1\n"
    object_storage.write_object("gs://bucket/list.csv", made.encode())
    (listed,) = find_test_sets(path_of("gs://bucket/list.csv"))
    assert [*map(str, listed.real)] == [str(theirs[0].real[0])]
    assert {*map(str, listed.generated)} == {str(sets[0].generated[0]), str(theirs[0].generated[1])}
    (tmp_path / "list.csv").write_text(made.replace(name, f"gs://bucket/{name}"))
    (same,) = find_test_sets(tmp_path / "list.csv")
    assert (same.real, same.generated) == (listed.real, listed.generated)
    (tmp_path / "bad.csv").write_text("path,label\ngs://nobucket/a/x.jpg,0\n")
    with pytest.raises(UserError, match="there is no bucket gs://nobucket"):
        find_test_sets(tmp_path / "bad.csv")


def test_photos_of_object_storage_are_read(google_storage, simulated, tmp_path):
    some = sorted((simulated / "photos").rglob("*.jpg"))[:3]
    for path in some:
        shutil.copy(path, tmp_path / path.name)
    put(tmp_path, "gs://bucket/photos")
    photos = open_photos(path_of("gs://bucket/photos"))
    assert [Path(photo.path).name for photo in photos] == sorted(path.name for path in some)
    assert photos[0].read().shape[2] == 3
