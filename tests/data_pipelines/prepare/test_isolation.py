import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import PreparedPhoto, Reject, read_photo
from data_pipelines.prepare.worker import read_one
from data_pipelines.sources import Item

MakePhoto = Callable[..., Path]
ANSWER_READY = "import sys, time; sys.stdin.readline(); print('ready', flush=True); "


def item(path: Path) -> Item:
    return Item(path.name, str(path))


def test_it_gives_what_reading_here_gives(tmp_path: Path, make_photo: MakePhoto) -> None:
    paths = [make_photo("a.jpg", size=(600, 300)), make_photo("b.jpg", size=(100, 100))]
    (tmp_path / "text.jpg").write_text("text")
    with GuardedReader(Options()) as reader:
        for path in [*paths, tmp_path / "text.jpg"]:
            assert reader.read(item(path)) == read_photo(path.read_bytes(), Options())
        missing = reader.read(item(tmp_path / "absent.jpg"))
    assert isinstance(missing, Reject)
    assert missing.reason == "unreadable"
    assert missing == read_one(item(tmp_path / "absent.jpg"), None, Options())


def test_a_file_that_takes_too_long_is_rejected(make_photo: MakePhoto) -> None:
    sleeps = f"{ANSWER_READY} sys.stdin.readline(); time.sleep(600)"
    options = Options(seconds_per_file=0.3)
    with GuardedReader(options, [sys.executable, "-c", sleeps]) as reader:
        for _ in range(2):  # the second time by another child
            result = reader.read(item(make_photo("good.jpg")))
            assert isinstance(result, Reject)
            assert (result.reason, result.detail) == ("timed_out", "not read within 0.3 seconds")


def test_a_file_that_needs_too_much_memory_is_rejected(
    tmp_path: Path, make_photo: MakePhoto
) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    large = Image.new("RGB", (11_500, 11_500), "gray")  # 400 MB, and as much in coefficients
    large.save(tmp_path / "large.tif", compression="packbits", exif=exif)
    large.save(tmp_path / "large.jpg", exif=exif)
    good = make_photo("good.jpg")
    with GuardedReader(Options(memory_per_file=400)) as reader:
        for name in ("large.tif", "large.jpg"):
            result = reader.read(item(tmp_path / name))
            assert isinstance(result, Reject), name
            assert result.reason == "out_of_memory", result
            assert isinstance(reader.read(item(good)), PreparedPhoto)


def test_a_reader_that_dies_rejects_the_file_and_is_replaced(make_photo: MakePhoto) -> None:
    good = make_photo("good.jpg")
    dies = f"{ANSWER_READY} sys.stdin.readline(); sys.exit('a bug')"
    with GuardedReader(Options(), [sys.executable, "-c", dies]) as reader:
        for _ in range(2):
            result = reader.read(item(good))
            assert isinstance(result, Reject)
            assert result.reason == "crashed"
            assert "status 1: a bug" in result.detail
    killed = f"{ANSWER_READY} sys.stdin.readline(); import os; os.kill(os.getpid(), 11)"
    with GuardedReader(Options(), [sys.executable, "-c", killed]) as reader:
        result = reader.read(item(good))
        assert isinstance(result, Reject)
        assert (result.reason, "signal 11" in result.detail) == ("crashed", True)


def test_a_reader_killed_while_idle_costs_no_file(make_photo: MakePhoto) -> None:
    good = make_photo("good.jpg")
    with GuardedReader(Options()) as reader:
        expected = reader.read(item(good))
        assert reader._child is not None
        os.kill(reader._child.pid, signal.SIGKILL)
        reader._child.wait()
        assert reader.read(item(good)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        "nonsense",
        "{}",
        '{"reject": {"reason": "too_small"}}',
        '{"photo": {"windows": [99999999999]}}',
        '{"photo": {"windows": [-5, 2]}}',
        '{"photo": {"windows": 7, "photo": 1}}',
    ],
)
def test_an_answer_that_makes_no_sense_rejects_the_file(make_photo: MakePhoto, answer: str) -> None:
    says = f"{ANSWER_READY} sys.stdin.readline(); print({answer!r}, flush=True)"
    with GuardedReader(Options(), [sys.executable, "-c", says]) as reader:
        result = reader.read(item(make_photo("good.jpg")))
    assert isinstance(result, Reject)
    assert result.reason == "crashed"


def test_interrupting_ends_a_read_of_another_thread(tmp_path: Path, make_photo: MakePhoto) -> None:
    good, asked = make_photo("good.jpg"), tmp_path / "asked"
    sleeps = f"{ANSWER_READY} sys.stdin.readline(); open({str(asked)!r}, 'w'); time.sleep(600)"
    with GuardedReader(Options(), [sys.executable, "-c", sleeps]) as reader:
        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(reader.read(item(good))))
        thread.start()
        while not asked.exists():
            time.sleep(0.01)
        reader.interrupt()
        thread.join(30)
        assert [type(result) for result in results] == [Reject]


def test_a_reader_that_cannot_start_says_why(make_photo: MakePhoto) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such module')"]
    with (
        GuardedReader(Options(), command) as reader,
        pytest.raises(RuntimeError, match="no such module"),
    ):
        reader.read(item(make_photo("good.jpg")))


def test_what_libraries_print_does_not_get_in_between(tmp_path: Path) -> None:
    # libtiff prints a warning for an unknown tag; the protocol must not see it.
    path = tmp_path / "a.tif"
    exif = Image.Exif()
    exif[0x010F] = "Canon"
    exif[65001] = "unknown"
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(path, compression="tiff_lzw", exif=exif)
    with GuardedReader(Options()) as reader:
        assert isinstance(reader.read(item(path)), PreparedPhoto)
