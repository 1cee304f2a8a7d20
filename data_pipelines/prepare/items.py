"""One file to read, and what the modules that list and read such files share."""

import contextlib
import dataclasses
import posixpath
import re
from typing import IO, Final

from etils import epath

_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One file to read. All fields survive JSON, also where a name is no valid text.

    Attributes:
      name: Unique, valid text, relative to the common base of the sources, with "/"; for members
        of archives such as "album.zip/2021/a.jpg".
      path: Absolute local path or URI of the file, or of the archive that holds it.
      member: Name inside the archive, as stored there; empty for plain files.
      offset: Of a tar's member its first data byte (-1: it is stored sparsely and cannot be read),
        of a zip's member its header; -1 for plain files.
      size: Bytes of an archive's member, uncompressed; -1 for plain files.
      problem: Why it cannot be read, and the remedy; empty if that is not known yet.
    """

    name: str
    path: str
    member: str = ""
    offset: int = -1
    size: int = -1
    problem: str = ""


def is_uri(path: str) -> bool:
    """Whether a path has a scheme, such as gs://."""
    return _URI.match(path) is not None


def open_file(path: str) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Opens a local or remote file for reading."""
    return epath.Path(path).open("rb")


def suffix_of(path: str) -> str:
    """The last suffix, in lower case and with its dot."""
    return posixpath.splitext(path)[1].lower()


def valid_text(name: str) -> str:
    """Makes a name valid text; disks and archives hold names in other encodings too."""
    return name.encode("utf-8", "backslashreplace").decode()


def describe(error: Exception) -> str:
    """One line for messages."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def cannot_read(error: Exception) -> str:
    """For messages: what a disk or a remote storage failed with, and the remedy."""
    if isinstance(error, ImportError):
        return (
            f"{describe(error)}; install what reads this storage "
            "(pip install gcsfs for gs://, s3fs for s3://)"
        )
    reason = getattr(error, "strerror", None) or describe(error)
    return f"cannot be read ({reason}); change its permissions or leave it out"
