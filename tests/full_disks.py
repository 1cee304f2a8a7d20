"""A real full disk: a small file system in memory, where mounting is allowed."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A folder with so much room; skips the test where mounting is not allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError:
        pytest.skip("there is no command to mount a small file system")
    if done.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(
            ["umount", "--lazy", str(folder)], check=True
        )  # a failed test has files open


def grow(disk: Path) -> None:
    """Gives it 64 MB."""
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
