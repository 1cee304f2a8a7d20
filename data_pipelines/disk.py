"""A disk that fails: what every library says of it, as one error that names the file."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from data_pipelines.errors import UserError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the errors of a disk that has no space left."""
_SHORT: Final = re.compile(r"\d+ requested and \d+ written")  # all that NumPy tells of a full disk
# As TensorStore and as Rust's libraries tell of an error of the system.
_NUMBER: Final = re.compile(r"os_error_code='(\d+)'|\(os error (\d+)\)")


def disk_error(error: BaseException) -> OSError | None:
    """The disk's own error in one that may be of a library; None if it is of something else."""
    if isinstance(error, OSError):
        if error.errno is None and _SHORT.search(str(error)):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return error
    text = "" if isinstance(error, UserError) else str(error)  # one of ours says all there is
    if found := _NUMBER.search(text):
        number = int(found[1] or found[2])
        return OSError(number, os.strerror(number))
    full = next((number for number in FULL if os.strerror(number) in text), None)
    return None if full is None else OSError(full, os.strerror(full))


def in_words(error: OSError) -> str:
    """The file, what is wrong, and the remedy."""
    if error.errno is None:
        return str(error)
    place = "standard output" if error.filename is None else os.fsdecode(error.filename)
    remedy = ""
    if error.errno in FULL:
        remedy = "; free some space and run the same command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        remedy = "; change its permissions, or give another place"
    return f"{place}: {os.strerror(error.errno)}{remedy}"


@contextmanager
def naming(path: str | os.PathLike[str], temporary: str | os.PathLike[str] = "") -> Iterator[None]:
    """Turns what libraries raise of a failing disk into an OSError that names the file.

    Python's own names one only where a file is opened, not where it is written.

    Args:
        path: to name, unless the error names another.
        temporary: file, or folder with all in it, in whose stead `path` is named.

    Raises:
        OSError: see above; other errors stay what they are.
    """
    try:
        yield
    except Exception as error:
        found = disk_error(error)
        if found is None or found.errno is None:
            raise
        named = "" if found.filename is None else os.fsdecode(found.filename)
        if named and not (os.fspath(temporary) and named.startswith(os.fspath(temporary))):
            raise
        raise OSError(found.errno, found.strerror, os.fspath(path)) from error
