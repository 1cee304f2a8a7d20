"""A run's folder in object storage, by way of a local folder that stands for it.

To an object nothing can be appended, and many libraries want files. So a run writes to a local
folder, its mirror, and `synchronise` brings to the storage what is new, at moments that the run
chooses: before it saves a checkpoint, and when something is done. What a killed process had not
brought there yet is what comes after these moments, which the continued run does again.

Objects are written in the order in which their files were: what says that something is done never
comes before it. Each appears whole or not at all.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from data_pipelines.errors import UserError
from data_pipelines.object_storage import (
    Stored,
    download,
    path_of,
    remove_object,
    stored_files,
    top_names,
    upload,
)
from data_pipelines.storage import check_path, is_uri, join

_PREFIX: Final = "exif_jax_run_"
_LOCK: Final = ".lock"


class Mirror:
    """A local folder that stands for one in object storage.

    Attributes:
        place: the folder in object storage.
        folder: the local one.
    """

    def __init__(self, place: str, folder: Path, leaves: frozenset[str]) -> None:
        """Makes the local folder; `pull` fills it.

        Args:
            place: URI of the folder.
            folder: local.
            leaves: folders in it that are not mirrored.
        """
        self.place, self.folder, self._leaves = place.rstrip("/"), folder, leaves
        self._written: dict[str, tuple[int, int]] = {}  # size and time of files, as stored
        self._stored: dict[str, Stored] = {}
        self._lock = threading.Lock()
        self.at = time.monotonic()  # of the last `push`
        folder.mkdir(parents=True)

    def pull(self) -> None:
        """Makes the local folder what is stored, where that changed since."""
        with self._lock:
            found = stored_files(self.place, lambda name: name not in self._leaves)
            for name, stored in found.items():
                if self._stored.get(name) != stored:
                    download(join(self.place, name), self.folder / name)
                    self._written[name] = _state(self.folder / name)
            for name in self._written.keys() - found.keys():
                (self.folder / name).unlink(missing_ok=True)
                del self._written[name]
            self._stored = found

    def push(self) -> None:
        """Makes what is stored the local folder, where that changed since."""
        with self._lock:
            now = {name: _state(self.folder / name) for name in self._names()}
            changed = [name for name, state in now.items() if self._written.get(name) != state]
            # Of what a clock cannot tell apart, descriptions and lists come last.
            for name in sorted(changed, key=lambda n: (now[n][1], ".json" in n, n)):
                upload(self.folder / name, join(self.place, name))
                self._written[name] = now[name]
            for name in self._written.keys() - now.keys():
                remove_object(join(self.place, name))
                del self._written[name]
            self.at = time.monotonic()

    def _names(self) -> Iterator[str]:
        """Files to keep; those with a dot before are on their way to another name."""
        for at, folders, files in os.walk(self.folder):
            below = Path(at).relative_to(self.folder)
            if below == Path():
                folders[:] = [name for name in folders if name not in self._leaves]
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield from (str(below / name) for name in files if not name.startswith("."))


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


_open: Final[list[Mirror]] = []


@contextlib.contextmanager
def mirrored(
    place: str, sign: str = "", beside: frozenset[str] = frozenset(), leaves: tuple[str, ...] = ()
) -> Iterator[Path]:
    """A folder to work in: itself if it is local, else one that stands for it while the block runs.

    Args:
        place: path or URI.
        sign: name of the file that tells a folder of ours from others, which are refused before
            anything of them is read.
        beside: names that may be there without it.
        leaves: folders in it that are not mirrored: their users go to `place_of` them.

    Raises:
        UserError: the storage cannot be reached, read or written.
    """
    if not is_uri(place):
        yield Path(place)
        return
    check_path(place)
    place = os.fspath(path_of(place))
    there = top_names(place)
    if sign and sign not in there and there - beside:
        raise UserError(f"{place} is not empty and holds no run: choose another --workdir")
    _remove_abandoned()
    scratch = Path(tempfile.mkdtemp(prefix=_PREFIX))
    lock = (scratch / "new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (scratch / "new").rename(scratch / _LOCK)  # which nobody else can lock from now on
    mirror = Mirror(place, scratch / (Path(place).name or "run"), frozenset(leaves))
    _open.append(mirror)
    try:
        mirror.pull()
        yield mirror.folder
        mirror.push()
    except BaseException as error:
        # What is known when a run stops; why it stops matters more than that this fails, too.
        with contextlib.suppress(Exception):
            mirror.push()
        if isinstance(error, UserError):
            raise UserError(shown(str(error))) from error
        raise
    finally:
        _open.remove(mirror)
        shutil.rmtree(scratch, ignore_errors=True)
        lock.close()


def synchronise(folder: Path, *, every: float = 0) -> None:
    """Brings to the storage what is new in a folder that stands for one there; else nothing.

    Args:
        folder: from `mirrored`.
        every: seconds that must have passed since the last time.

    Raises:
        UserError: the storage cannot be written.
    """
    mirror = _mirror_of(folder)
    if mirror is not None and time.monotonic() - mirror.at >= every:
        mirror.push()


def renew(folder: Path) -> None:
    """Takes in what another process has brought to the storage."""
    mirror = _mirror_of(folder)
    if mirror is not None:
        mirror.pull()


def place_of(path: Path) -> str:
    """Where what a path stands for really is."""
    mirror = _mirror_of(path)
    if mirror is None:
        return os.fspath(path)
    below = path.relative_to(mirror.folder).as_posix()
    return mirror.place if below == "." else join(mirror.place, below)


def shown(text: object) -> str:
    """A path, or a message with paths, in which mirrors are called by what they stand for."""
    told = str(text)
    for mirror in _open:
        told = told.replace(str(mirror.folder), mirror.place)
    return told


def _mirror_of(path: Path) -> Mirror | None:
    return next((m for m in _open if path == m.folder or m.folder in path.parents), None)


def _remove_abandoned() -> None:
    """Removes what killed processes left: the storage has all that was kept."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_LOCK}"):
        # It belongs to another user, or its process is alive or removes it itself.
        with contextlib.suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
