"""Records in object storage, copied once to a local folder that all processes of a host share.

Reading one record at random from an object takes a request each; from a disk it does not. A copy is
checked by size and checksum when it arrives, and known by size and time from then on. A killed
process leaves the whole files, and the part of the one that was on its way, from which the next
goes on.
"""

import dataclasses
import fcntl
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from data_pipelines.disk import naming
from data_pipelines.errors import UserError
from data_pipelines.files import read_json, reading, write_json
from data_pipelines.object_storage import Stored, is_whole, path_of, read_object, stored_files
from data_pipelines.records import PREPARE_FILE, check_records
from data_pipelines.storage import is_uri, join, user_cache

_LIST: Final = ".staged.json"
_CHUNK: Final = 16 << 20  # bytes asked for at once, of each of so many files
_THREADS: Final = 4
_PROGRESS_SECONDS: Final = 2
_log = logging.getLogger(__name__)


def staged(source: str, cache: str = "") -> Path:
    """The folder to read records or photos from.

    Args:
        source: a folder. Local ones, and what is in object storage but no records, stay as they
            are; of records there is the local copy, made or completed if need be.
        cache: folder of the copies; by default one of the user's cache.

    Raises:
        UserError: the storage cannot be reached or read, its records are not finished, or a copy
            is not what is stored.
    """
    if not is_uri(source):
        return Path(source)
    place = path_of(source)
    uri = str(place)
    # Records are the files of one folder; runs may keep descriptions in another beside them.
    wanted = stored_files(uri, enters=lambda name: False)
    if PREPARE_FILE not in wanted:
        return place
    check_records(place)
    name = f"{place.name}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"
    folder = (Path(cache) if cache else user_cache() / "records") / name
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder, uri):
        _complete(folder, uri, wanted)
    return folder


@contextmanager
def _alone(folder: Path, uri: str) -> Iterator[None]:
    """Lets one process of a host copy, while the others wait; a dead one lets go."""
    with naming(folder), (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("%s: waits for another process that copies it to %s", uri, folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _complete(folder: Path, uri: str, wanted: Mapping[str, Stored]) -> None:
    """Copies what the folder has not yet; removes what the storage has no more."""
    known = _known(folder)
    for name in known.keys() - wanted.keys():
        (folder / name).unlink(missing_ok=True)
    rows = {
        name: known[name]
        for name, stored in wanted.items()
        if name in known and known[name] == _row(folder, name, stored)
    }
    missing = {name: stored for name, stored in wanted.items() if name not in rows}
    if not missing and rows == known:
        return
    need = sum(stored.size for stored in missing.values())
    space = shutil.disk_usage(folder).free
    if need > space:
        raise UserError(
            f"{folder}: {need / 2**30:.3g} GiB of {uri} do not fit into the {space / 2**30:.3g} "
            "GiB that are free; free some space, or give another folder as --config.data.cache"
        )
    with (
        tqdm(
            total=need,
            desc=f"copying {uri}",
            unit="B",
            unit_scale=True,
            delay=_PROGRESS_SECONDS,
            disable=None,
        ) as progress,
        ThreadPoolExecutor(_THREADS) as pool,
    ):
        copies = [
            (name, pool.submit(_copy, folder / name, join(uri, name), stored, progress))
            for name, stored in missing.items()
        ]
        try:
            for name, copy in copies:
                copy.result()
                rows[name] = _row(folder, name, missing[name])
                write_json(folder / _LIST, rows)
        finally:
            pool.shutdown(cancel_futures=True)
    write_json(folder / _LIST, rows)


def _known(folder: Path) -> dict[str, Any]:
    """What the copied files were, and are if nobody touched them: see `_row`."""
    path = folder / _LIST
    if not path.exists():
        return {}
    with reading(path, "delete this folder: it is copied again"):
        return {str(name): dict(row) for name, row in read_json(path).items()}


def _row(folder: Path, name: str, stored: Stored) -> dict[str, Any] | None:
    """An object, with size and time of its copy; None if there is no copy."""
    try:
        found = (folder / name).stat()
    except FileNotFoundError:
        return None
    return {**dataclasses.asdict(stored), "bytes": found.st_size, "time": found.st_mtime_ns}


def _copy(path: Path, uri: str, stored: Stored, progress: tqdm) -> None:
    """Copies an object, from where an earlier process left it; twice if the first is not whole.

    Raises:
        UserError: the storage cannot be read, or gives what it does not have.
    """
    if path.exists() and is_whole(path, uri, stored):  # its process was killed before it noted it
        progress.update(stored.size)
        return
    version = hashlib.sha256(repr(stored).encode()).hexdigest()[:12]
    part = path.with_name(f".{path.name}.{version}.part")
    for _ in range(2):
        _fetch(part, uri, stored.size, progress)
        if is_whole(part, uri, stored):
            part.replace(path)
            return
        part.unlink()
    raise UserError(
        f"{uri}: what arrives has not the checksum that the storage tells, twice; it may be "
        "written right now: wait until that is done, or run `exif-jax prepare` again"
    )


def _fetch(part: Path, uri: str, size: int, progress: tqdm) -> None:
    with naming(part), part.open("ab") as file:
        at = file.tell()
        progress.update(at)
        while at < size:
            data = read_object(uri, at, min(at + _CHUNK, size))
            if not data:
                return  # it is shorter by now
            file.write(data)
            at += len(data)
            progress.update(len(data))
        file.flush()
        os.fsync(file.fileno())
