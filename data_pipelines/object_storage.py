"""Object storage (gs://, s3://): does it answer, what is there, and whole objects in and out.

`storage.py` reads files of any place; here is what only object storage needs: one clear error where
it cannot be reached or used, checksums of objects, and uploads.
"""

import base64
import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from data_pipelines.errors import UserError
from data_pipelines.storage import describe, is_uri, remote_path, set_up_clients

_ANSWER_SECONDS: Final = 10
_INSTALL: Final = {"gs": "exif-jax[gcs]", "s3": "exif-jax[s3]"}
_RIGHTS: Final = {
    "gs": "log in (gcloud auth application-default login), or give this account the role "
    "roles/storage.objectUser on the bucket",
    "s3": "set credentials (aws configure), or allow this account s3:ListBucket on the bucket, and "
    "s3:GetObject, s3:PutObject and s3:DeleteObject on what is in it",
}
# What the clients' errors say, by class or words, where this account may not do something.
_DENIED: Final = ("Forbidden", "PermissionError", "NoCredentials", "Unauthorized", "401", "403")
_MARKS: Final = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "GoogleAuthError")


def path_of(path: str | os.PathLike[str]) -> Path:
    """A path that a user gives: local, or in object storage, which is asked whether it answers.

    Returns:
        In object storage an `epath.Path`, which has what we use of a `Path`.

    Raises:
        UserError: the storage cannot be reached, or does not let us list what is there.
    """
    text = os.fspath(path)
    if not is_uri(text):
        return Path(text)
    scheme = text.partition("://")[0]
    if scheme not in _INSTALL:
        raise UserError(f"{text}: {scheme}:// is not supported; give a local path, gs:// or s3://")
    _reach(text)
    return remote_path(text)


@functools.cache
def _reach(uri: str) -> None:
    """Asks for one name below a place, once in a process."""
    with explained(uri, "reached"):
        from fsspec.asyn import sync

        files = filesystem(uri)
        bucket, _, prefix = _key(uri).partition("/")
        if uri.startswith("s3://"):
            options = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1}
            ask: Callable[[], Any] = functools.partial(files._call_s3, "list_objects_v2", **options)
        else:
            ask = functools.partial(
                files._call, "GET", "b/{}/o", bucket, prefix=prefix, maxResults=1
            )
        # Without the limit, clients try again for minutes.
        sync(files.loop, ask, timeout=_ANSWER_SECONDS)


@contextlib.contextmanager
def explained(uri: str, done: str) -> Iterator[None]:
    """Turns what the clients of object storage raise into one `UserError`.

    Args:
        uri: the place.
        done: what it cannot be: read, written.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # every client has its own
        raise UserError(f"{uri}: {_why(uri, error, done)}") from error


def _why(uri: str, error: Exception, done: str) -> str:
    scheme, _, rest = uri.partition("://")
    bucket = f"{scheme}://{rest.partition('/')[0]}"
    told = describe(error)
    if isinstance(error, ImportError):
        return f"needs pip install '{_INSTALL[scheme]}' ({told})"
    if isinstance(error, TimeoutError) or type(error).__name__ == "FSTimeoutError":
        return (
            f"no answer within {_ANSWER_SECONDS} seconds, so {bucket} cannot be {done}; check the "
            "network, and the name of the bucket"
        )
    if any(word in told for word in (*_DENIED, *_MARKS)):
        return f"{bucket} cannot be {done}: this account may not ({told}); {_RIGHTS[scheme]}"
    if isinstance(error, FileNotFoundError):
        return f"there is no bucket {bucket}, or it has not this object; check the name"
    return f"{bucket} cannot be {done} ({told}); check the network, then start again"


def filesystem(uri: str) -> Any:
    """The client for a place, as fsspec has it."""
    set_up_clients()
    from fsspec.core import url_to_fs

    return url_to_fs(uri)[0]


def _key(uri: str) -> str:
    """BUCKET/OBJECT."""
    return uri.partition("://")[2].rstrip("/")


@dataclass(frozen=True)
class Stored:
    """What object storage tells of an object.

    Attributes:
        size: bytes.
        version: changes with every write: its generation or ETag.
        md5: of gs://, 32 hexadecimal digits, or empty: of objects composed of parts none is known.
        crc32c: of gs://, of the bytes, big-endian, in base64.
    """

    size: int
    version: str
    md5: str = ""
    crc32c: str = ""

    @classmethod
    def of(cls, entry: dict[str, Any]) -> "Stored":
        """From an entry of a listing."""
        md5 = base64.b64decode(entry.get("md5Hash", "")).hex()
        version = str(entry.get("generation") or entry.get("ETag", "")).strip('"')
        return cls(int(entry["size"]), version, md5, str(entry.get("crc32c", "")))


def stored_files(uri: str, enters: Callable[[str], bool] = lambda name: True) -> dict[str, Stored]:
    """The objects below a place, by name relative to it; none if there is nothing.

    Args:
        uri: the place.
        enters: whether to list what is below a top folder.
    """
    files, top = filesystem(uri), _key(uri)
    with explained(uri, "listed"):
        found: list[dict[str, Any]] = []
        for entry in _entries(files, top):
            name = entry["name"].rstrip("/").removeprefix(f"{top}/")
            if entry["type"] != "directory":
                found.append(entry)
            elif enters(name):
                found += files.find(entry["name"].rstrip("/"), detail=True).values()
    named = {entry["name"].removeprefix(f"{top}/"): entry for entry in found}
    # A folder made by hand is an object whose name ends with a slash.
    return {n: Stored.of(e) for n, e in named.items() if n and n != top and not n.endswith("/")}


def top_names(uri: str) -> set[str]:
    """Names of the objects and folders right below a place."""
    files, top = filesystem(uri), _key(uri)
    with explained(uri, "listed"):
        names = {e["name"].rstrip("/").removeprefix(f"{top}/") for e in _entries(files, top)}
    return names - {"", top}


def _entries(files: Any, top: str) -> list[dict[str, Any]]:
    try:
        return list(files.ls(top, detail=True))
    except FileNotFoundError:
        return []


def upload(path: Path, uri: str) -> None:
    """Writes a local file to an object, which is replaced once all of it is there."""
    write_object(uri, path.read_bytes())


def write_object(uri: str, data: bytes) -> None:
    """Writes an object."""
    with explained(uri, "written"):
        filesystem(uri).pipe_file(_key(uri), data)


def read_object(uri: str, start: int = 0, end: int | None = None) -> bytes:
    """Bytes of an object."""
    with explained(uri, "read"):
        data: bytes = filesystem(uri).cat_file(_key(uri), start=start or None, end=end)
        return data


def download(uri: str, path: Path) -> None:
    """Writes an object to a local file, in whose place it comes when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(uri, "read"):
        filesystem(uri).get_file(_key(uri), str(temporary))
    temporary.replace(path)


def remove_object(uri: str) -> None:
    """Removes an object; one that is not there is none."""
    with explained(uri, "written"), contextlib.suppress(FileNotFoundError):
        filesystem(uri).rm_file(_key(uri))


def is_whole(path: Path, uri: str, stored: Stored) -> bool:
    """Whether a local file is this object: by its size, and a checksum if the storage has one."""
    if path.stat().st_size != stored.size:
        return False
    if uri.startswith("s3://"):
        return _has_etag(path, uri, stored.version)
    if stored.md5:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest() == stored.md5
    return not stored.crc32c or _crc32c(path) == stored.crc32c


def _has_etag(path: Path, uri: str, etag: str) -> bool:
    """Whether the ETag of an object is that of a file; of one encrypted by keys it says nothing.

    It is the MD5 of the bytes, or, of an object uploaded in N parts, that of the MD5s of these,
    with -N behind.
    """
    with explained(uri, "read"):
        files = filesystem(uri)
        bucket, _, key = _key(uri).partition("/")
        first = files.call_s3("head_object", Bucket=bucket, Key=key, PartNumber=1)
    if "kms" in first.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in first:
        return True
    digest, dash, count = etag.partition("-")
    size = max(1, first["ContentLength"])
    if dash and -(-path.stat().st_size // size) != int(count):
        return True  # parts of several sizes
    with path.open("rb") as file:
        if not dash:
            return hashlib.file_digest(file, "md5").hexdigest() == digest
        whole = hashlib.md5(usedforsecurity=False)
        while part := file.read(size):
            whole.update(hashlib.md5(part, usedforsecurity=False).digest())
    return whole.hexdigest() == digest


def _crc32c(path: Path) -> str:
    import google_crc32c  # comes with what reads gs://

    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            checksum.update(part)
    return base64.b64encode(checksum.digest()).decode()
