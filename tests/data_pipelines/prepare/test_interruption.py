"""What was read is kept, nothing is half-written or twice: kill -9, Ctrl-C, a full disk."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data_pipelines.errors import UserError
from data_pipelines.prepare import shards
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.run import prepare
from data_pipelines.records import open_records

MakePhoto = Callable[..., Path]
NUM_PHOTOS = 24  # twelve parts
FRACTION = ["--validation-fraction", "0.25"]


@pytest.fixture
def photos(tmp_path: Path, make_photo: MakePhoto) -> Path:
    for i in range(NUM_PHOTOS):
        make_photo(f"photos/{i:02}.jpg", seed=i, time=f"2022:05:01 {i:02}:00:00", size=(300, 300))
    return tmp_path / "photos"


@pytest.fixture
def expected(photos: Path, tmp_path: Path) -> dict[str, Any]:
    prepare([photos], tmp_path / "expected", Options(validation_fraction=0.25))
    return content(tmp_path / "expected")


def content(out: Path) -> dict[str, Any]:
    """Everything that a run leaves: records in order, and all files of text."""
    records = open_records(out)
    found: dict[str, Any] = {
        split: [repr(raw) for raw in records.source(split)] for split in records.splits
    }
    for path in sorted(out.iterdir()):
        found[path.name] = path.read_text() if path.suffix in (".json", ".jsonl") else "shard"
    return found


def command(photos: Path, out: Path, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "exif_jax.cli", "prepare", str(photos), "--out", str(out)]
    return [*start, *FRACTION, *arguments]


def parts_done(out: Path) -> int:
    return len(list((out / "unfinished/parts").glob("*.rows")))


def wait_for(condition: Callable[[], bool], run: "subprocess.Popen[bytes] | None" = None) -> None:
    """Waits until something is so, as long as a process runs that is to make it so."""
    deadline = time.monotonic() + 120
    while not condition():
        assert run is None or run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Held:
    """Children that read two photos, one part, and then wait within the next until let go."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.environment = {**os.environ, "PYTHONPATH": str(folder)}
        (folder / "sitecustomize.py").write_text(
            "import pathlib, sys, time\n"
            f"folder = pathlib.Path({str(folder)!r})\n"
            "class Hold:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'data_pipelines.prepare.worker':\n"
            "            import data_pipelines.prepare.reader as reader\n"
            "            read, seen = reader.read_photo, []\n"
            "            def held(*args, **kwargs):\n"
            "                seen.append(1)\n"
            "                if len(seen) > 2:\n"
            "                    (folder / 'waiting').touch()\n"
            "                    while not (folder / 'go').exists():\n"
            "                        time.sleep(0.02)\n"
            "                return read(*args, **kwargs)\n"
            "            reader.read_photo = held\n"
            "sys.meta_path.insert(0, Hold())\n"
        )

    def wait(self, run: "subprocess.Popen[bytes]") -> None:
        """Returns when a child of a run is within its second part."""
        wait_for((self._folder / "waiting").exists, run)

    def let_go(self) -> None:
        (self._folder / "go").touch()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    held = Held(tmp_path / "held")
    yield held
    held.let_go()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_stopped_goes_on(
    photos: Path, tmp_path: Path, expected: dict[str, Any], held: Held, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        command(photos, out, "--workers", "1"), env=held.environment, stderr=subprocess.PIPE
    )
    held.wait(run)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    held.let_go()
    assert run.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    if number == signal.SIGINT:
        assert b"run the same command again" in errors
        assert b"Traceback" not in errors
    assert parts_done(out) == 1
    before = {path: path.stat().st_mtime_ns for path in out.glob("unfinished/parts/*.rows")}
    with pytest.raises(UserError, match="did not finish; run the same command again"):
        open_records(out)
    with pytest.raises(UserError, match=r"validation_fraction was 0\.25, now 0\.5"):
        prepare([photos], out, Options(validation_fraction=0.5))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    again = subprocess.run(command(photos, out), capture_output=True, check=True)
    assert b"24 photos of 24 files" in again.stdout
    assert content(out) == expected


def test_children_do_not_outlive_a_killed_run(photos: Path, tmp_path: Path, held: Held) -> None:
    run = subprocess.Popen(
        command(photos, tmp_path / "out", "--workers", "2"), env=held.environment
    )
    held.wait(run)
    tasks = Path(f"/proc/{run.pid}/task").glob("*/children")
    children = [int(pid) for path in tasks for pid in path.read_text().split()]
    assert len(children) == 2
    run.kill()
    run.wait()
    held.let_go()
    wait_for(lambda: not any(map(alive, children)))


def alive(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_run_killed_between_shards_keeps_the_finished_ones(
    photos: Path, tmp_path: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", shards.write_shard
    calls = []

    def dies(path: Path, records: Any) -> tuple[int, int]:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half a shard")
            raise KeyboardInterrupt
        return real(path, records)

    monkeypatch.setattr(shards, "write_shard", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare([photos], out, Options(validation_fraction=0.25))
    finished = list(out.glob("*array_record*"))
    assert len(finished) == 1
    before = finished[0].stat().st_mtime_ns
    monkeypatch.setattr(shards, "write_shard", real)
    prepare([photos], out, Options(validation_fraction=0.25))
    assert finished[0].stat().st_mtime_ns == before
    assert content(out) == expected


@pytest.mark.parametrize(("kilobytes", "all_read"), [(400, False), (1000, True)])
def test_a_full_disk_is_named_and_loses_nothing(
    photos: Path, tmp_path: Path, expected: dict[str, Any], kilobytes: int, all_read: bool
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    # Room for some of the parts, or for all of them but not for the shards.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        out = disk / "out"
        run = subprocess.run(command(photos, out), capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert run.stderr.count("error:") == 1
        assert "no space left" in run.stderr
        assert "run the same command again" in run.stderr
        assert "Traceback" not in run.stderr
        assert (parts_done(out) == 12) == all_read
        with pytest.raises(UserError, match="did not finish"):
            open_records(out)
        grow = ["mount", "-o", "remount,size=64m", str(disk)]
        subprocess.run(grow, check=True)
        subprocess.run(command(photos, out), capture_output=True, check=True)
        assert content(out) == expected
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_photos_that_come_later_are_not_passed_over(
    photos: Path, tmp_path: Path, make_photo: MakePhoto
) -> None:
    out = tmp_path / "out"
    prepare([photos], out)
    make_photo("photos/new.jpg", seed=99)
    with pytest.raises(UserError, match="the photos changed: 24 files then, 25 now"):
        prepare([photos], out)


def test_two_runs_do_not_write_one_output(photos: Path, tmp_path: Path, held: Held) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(command(photos, out), env=held.environment)
    try:
        held.wait(run)
        with pytest.raises(UserError, match="another `exif-jax prepare` is writing it"):
            prepare([photos], out, Options(validation_fraction=0.25))
    finally:
        run.kill()
        run.wait()


def test_what_is_left_at_the_very_end_is_tidied(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prepare([photos], out)
    (out / "unfinished/parts").mkdir(parents=True)
    assert prepare([photos], out) == report
    assert not (out / "unfinished").exists()
    assert json.loads((out / "prepare.json").read_text())["num_files"] == NUM_PHOTOS
