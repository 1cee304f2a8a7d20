"""Files and folders on disk and in object storage (gs://, s3://, ...) alike.

Paths are texts: local ones may hold names that are no valid text, and millions of them are quicker
without an object each. Only light libraries are imported, as worker processes use this module.
"""

import contextlib
import functools
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from etils import epath

from data_pipelines.errors import UserError

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
NOT_ENTERED: Final = frozenset({"__MACOSX", "@eaDir", ".thumbnails"})
"""Where programs of macOS, Synology and Android keep notes on photos, and small copies of them."""
_MAX_SUFFIX: Final = 12
# Limits of Linux, in bytes; no disk has files beyond them.
_MAX_PATH: Final = 4096
_MAX_NAME: Final = 255


def is_uri(path: str | os.PathLike[str]) -> bool:
    """Whether a path has a scheme, such as gs://."""
    return _URI.match(os.fspath(path)) is not None


@functools.cache
def set_up_clients() -> None:
    """Tells the libraries of object storage, before their first use, what we need of them.

    That listings show what other processes wrote, and that they tell of failures by exceptions
    alone. An emulator has no credentials, which they would look for at length.
    """
    os.environ.setdefault("EPATH_USE_TF", "false")
    # Else it asks another service, without limit on time, what kind of bucket each one is.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    from fsspec.config import conf  # only where there is object storage

    for scheme in ("gs", "s3"):
        conf.setdefault(scheme, {}).setdefault("use_listings_cache", False)
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        conf["gs"].setdefault("token", "anon")
    for name in ("gcsfs", "s3fs"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _any_path(path: str) -> epath.Path:
    if is_uri(path):
        set_up_clients()
    return epath.Path(path)


def remote_path(uri: str) -> Path:
    """A path in object storage: an `epath.Path`, which has what we use of a `Path`.

    Raises:
        UserError: its scheme is not supported.
    """
    try:
        return cast(Path, _any_path(uri))
    except KeyError as error:
        scheme = uri.partition("://")[0]
        raise UserError(
            f"{uri}: {scheme}:// is not supported; give a local path, gs:// or s3://"
        ) from error


def is_too_long(path: str) -> bool:
    """Whether a local path, or a name in it, is longer than any on a disk."""
    data = path.encode("utf-8", "surrogateescape")
    names = data.split(b"/")
    return not is_uri(path) and (len(data) >= _MAX_PATH or max(map(len, names)) > _MAX_NAME)


def expand_user(path: str) -> str:
    """Replaces ~ by the home directory, which the shell does not where `--out=` stands before."""
    return path if is_uri(path) else os.path.expanduser(path)  # noqa: PTH111  (~ alone stays a text)


def user_cache() -> Path:
    """The folder for what we keep of our own between commands."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path(expand_user("~/.cache"))) / "exif_jax"


def local_path(text: str) -> Path:
    """The path that a flag gives, as the `type` of one; see `expand_user`."""
    return Path(expand_user(text))


def suffix_of(path: str) -> str:
    """The last suffix, in lower case and with its dot."""
    return posixpath.splitext(path)[1].lower()


def kind_of(name: str) -> str:
    """What a file of no use is counted as: its extension, if that is short, else in words.

    macOS keeps what a foreign disk has no room for in files named as the photos, with "._" before.
    """
    if name.endswith("/"):  # see `walk`
        folder = name[:-1]
        return f"folder {folder}" if folder in NOT_ENTERED else "folder too deep"
    if name.startswith("._"):
        return "._*"
    suffix = suffix_of(name)
    if not suffix:
        return "no extension"
    return suffix if len(suffix) <= _MAX_SUFFIX and suffix[1:].isalnum() else "other"


def valid_text(name: str) -> str:
    """Makes a name valid text; disks and archives hold names in other encodings too."""
    return name.encode("utf-8", "backslashreplace").decode()


def check_path(path: str | os.PathLike[str]) -> None:
    """Raises a UserError for a path with bytes that are no UTF-8, which not every library opens."""
    name = os.fspath(path)
    if valid_text(name) != name:
        raise UserError(f"{name}: the name of this place is no valid UTF-8; give it another one")


def describe(error: Exception) -> str:
    """One line for messages and for the list of rejected files."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def cannot_read(error: Exception) -> str:
    """For messages: what a disk or a remote storage failed with, and the remedy."""
    if isinstance(error, ImportError):
        return (
            f"{describe(error)}; install what reads this storage "
            "(pip install 'exif-jax[gcs]' for gs://, 'exif-jax[s3]' for s3://)"
        )
    reason = getattr(error, "strerror", None) or describe(error)
    return f"cannot be read ({reason}); change its permissions or leave it out"


@contextlib.contextmanager
def refusing(path: str) -> Iterator[None]:
    """Turns failures of the disk or the remote storage into one `UserError`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every remote storage has its own errors
        raise UserError(f"{path}: {cannot_read(error)}") from error


def open_file(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Opens a file for reading."""
    return _any_path(path).open("rb")


def is_folder(path: str) -> bool:
    """Whether there is a folder."""
    if not is_uri(path):
        return os.path.isdir(path)  # noqa: PTH112  (faster, and allows impossible names)
    with refusing(path):
        return bool(_any_path(path).is_dir())


def exists(path: str) -> bool:
    """Whether there is a file or folder."""
    with refusing(path):
        return bool(_any_path(path).exists())


def is_link(path: str) -> bool:
    """Whether a path is a symbolic link; remote storage has none."""
    return not is_uri(path) and os.path.islink(path)  # noqa: PTH114  (see `is_folder`)


def parent_of(path: str) -> str:
    """The folder that holds a file; of remote storage at least the scheme, such as gs://."""
    folder = path.rpartition("/")[0]
    return f"{folder}/" if is_uri(path) and not is_uri(folder) else folder or "/"


def join(folder: str, name: str) -> str:
    """The path of a name in a folder."""
    return f"{folder}{'' if folder.endswith('/') else '/'}{name}"


def list_folder(folder: str) -> tuple[list[str], list[str]]:
    """Names of the folders (also links to folders) and of the files in a folder.

    Raises:
        UserError: it cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    with refusing(folder):
        levels = (
            _any_path(folder).walk(on_error=refuse)
            if is_uri(folder)
            else os.walk(folder, onerror=refuse)
        )
        # Only the first level: remote storages report no failure to list a deeper one.
        _, folders, files = next(iter(levels), ("", [], []))
    return [name.rstrip("/") for name in folders], [name for name in files if name]


def walk(top: str) -> Iterator[tuple[str, list[str]]]:
    """Yields every folder from `top` down with the names of its files; follows no links.

    Folders that are not entered (`NOT_ENTERED`, and those so deep that no path leads there) are
    among the files, with a "/" behind, so that they are counted.
    """
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        folders, files = list_folder(folder)
        paths = {name: join(folder, name) for name in folders}
        closed = {name for name, path in paths.items() if name in NOT_ENTERED or is_too_long(path)}
        yield folder, [*files, *(f"{name}/" for name in sorted(closed))]
        waiting += [
            path for name, path in paths.items() if name not in closed and not is_link(path)
        ]
