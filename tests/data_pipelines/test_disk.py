"""A disk that fails, in the words of every library, is one error that names the file."""

import errno
import os

import numpy as np
import pytest
import safetensors.numpy

from data_pipelines.disk import disk_error, naming
from data_pipelines.errors import UserError
from data_pipelines.files import append_text, replacing_directory, replacing_file, write_json
from tests.full_disks import small_disk

SAID = {
    # TensorStore, which Orbax writes with
    'RESOURCE_EXHAUSTED: Error writing local file "/r/_sharding": Failed to write 34305 bytes to '
    "file 12: No space left on device [os_error_code='28']": errno.ENOSPC,
    "FAILED_PRECONDITION: Failed to open: Read-only file system [os_error_code='30']": errno.EROFS,
    "PERMISSION_DENIED: Failed to open [os_error_code='13'] [x='1']": errno.EACCES,
    "DATA_LOSS: Failed to read: Input/output error [os_error_code='5']": errno.EIO,
    # Rust: safetensors
    "Error while serializing: I/O error: No space left on device (os error 28)": errno.ENOSPC,
    "I/O error: Disk quota exceeded (os error 122)": errno.EDQUOT,
    "I/O error: File too large (os error 27)": errno.EFBIG,
    # ArrayRecord and others
    "INTERNAL: write failed: No space left on device; writing x": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
}


@pytest.mark.parametrize("text", SAID)
@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_what_libraries_say_of_the_disk(text, kind):
    found = disk_error(kind(text))
    assert found is not None and found.errno == SAID[text]
    with pytest.raises(OSError, match="'place'") as raised, naming("place"):
        raise kind(text)
    assert (raised.value.errno, raised.value.filename) == (SAID[text], "place")


@pytest.mark.parametrize(
    "error", [ValueError("wrong"), UserError("x (os error 28)"), KeyError("28"), MemoryError()]
)
def test_other_errors_stay_what_they_are(error):
    assert disk_error(error) is None
    with pytest.raises(type(error)) as raised, naming("place"):
        raise error
    assert raised.value is error


def test_a_file_that_is_named_keeps_its_name_unless_it_is_temporary():
    with pytest.raises(OSError) as raised, naming("place"):
        raise OSError(errno.ENOSPC, "full", "other")
    assert raised.value.filename == "other"
    with pytest.raises(OSError) as raised, naming("place", temporary="/tmp/x"):
        raise OSError(errno.ENOSPC, "full", b"/tmp/x/part")
    assert raised.value.filename == "place"


def numbers(path):
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, np.zeros(100_000))


def archive(path):
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, a=np.random.default_rng(0).normal(size=100_000))


def text_file(path):
    write_json(path, "x" * 100_000)


def library(path):
    with replacing_directory(path) as folder:
        safetensors.numpy.save_file({"a": np.zeros(100_000)}, folder / "a")


def by_hand(path):
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(100_000))


def longer(path):
    append_text(path, "x" * 100_000)


@pytest.mark.parametrize("write", [text_file, library, by_hand, longer, numbers, archive])
def test_a_full_disk_names_the_file_and_leaves_nothing_half_written(write, tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        target = disk / "target"
        with pytest.raises(OSError, match="No space left") as raised:
            write(target)
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(target))
        left = [path for path in disk.iterdir() if path != target]
        assert left == [] and (not target.exists() or target.stat().st_size == 0)


def test_what_is_appended_is_there_as_a_whole_or_not_at_all(tmp_path):
    with small_disk(tmp_path / "disk", 16) as disk:
        path = disk / "lines"
        append_text(path, "first\n")
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                append_text(path, "x" * 60_000)
            assert path.read_text() == "first\n"
        append_text(path, "second\n")
        assert path.read_text() == "first\nsecond\n"


def test_a_place_without_permission_is_named_and_not_its_temporary_file(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / ".x.1.tmp"))

    monkeypatch.setattr("pathlib.Path.write_bytes", refused)
    with pytest.raises(PermissionError) as raised:
        write_json(tmp_path / "x", 1)
    assert raised.value.filename.startswith(str(tmp_path))
