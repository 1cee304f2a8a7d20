"""Files on disk: written atomically, read with one clear error."""

import csv
import glob
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etils import epath

from data_pipelines.disk import naming
from data_pipelines.errors import UserError
from data_pipelines.storage import describe
from data_pipelines.terminal import cell


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """A local file to write, which takes the place of `path` once the block ends well.

    So that is, at any moment, either the old file or the new one. It may be an `epath.Path` of
    object storage, where a file appears when its upload is complete.
    """
    if "://" in os.fspath(path):
        with naming(path), tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            yield temporary
            epath.Path(temporary).copy(path, overwrite=True)
        return
    temporary = Path(path).with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with naming(path, temporary):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file atomically, see `replacing_file`."""
    with replacing_file(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes a file of one JSON object a line atomically."""
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def append_bytes(path: Path, data: bytes) -> None:
    """Appends to a file, which is made if need be: all of it or, if the disk fails, nothing."""
    with naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        before = os.fstat(descriptor).st_size
        try:
            while data:  # a disk that is all but full takes a part
                data = data[os.write(descriptor, data) :]
        except OSError:
            os.ftruncate(descriptor, before)
            raise
        finally:
            os.close(descriptor)


def append_text(path: Path, text: str) -> None:
    """Appends a text to a file, see `append_bytes`."""
    append_bytes(path, text.encode())


def write_csv(path: Path, header: Iterable[str], lines: Iterable[Iterable[object]]) -> None:
    """Writes a CSV file atomically; None is an empty field, for texts see `terminal.cell`."""
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(cell, header))
        writer.writerows(map(cell, line) for line in lines)


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing") from error
    except (OSError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


@contextmanager
def reading(path: str | os.PathLike[str], remedy: str) -> Iterator[None]:
    """Turns what the content of a damaged file of ours leads to into one error that names it.

    Args:
        path: the file.
        remedy: what to do about it.

    Raises:
        UserError: see above; a disk that fails raises what it raises.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{os.fspath(path)}: damaged ({describe(error)}); {remedy}") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Reads a file of one JSON object a line, if it exists.

    A last line that a crash cut short is left out.

    Raises:
        UserError: another line is none.
    """
    # Bytes that are no text are no JSON either, which the line is then refused for.
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    texts = text.splitlines()
    lines = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict):
                raise ValueError(f"{type(line).__name__} instead of an object")
            lines.append(line)
        except (RecursionError, ValueError) as error:
            if number < len(texts):
                raise UserError(f"{path}: line {number} is not JSON ({error})") from error
    return lines


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """An empty directory to fill, which takes the place of `path` once the block ends well.

    What an earlier writer of the same directory left half-made when it was killed is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".tmp", ".old"):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{suffix}"):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        with naming(path, temporary):
            yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
