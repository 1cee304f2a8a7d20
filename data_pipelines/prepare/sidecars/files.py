"""Opening sidecars: compressed or not, UTF-8 or UTF-16, JSON or lines of text."""

import bz2
import gzip
import itertools
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from data_pipelines.errors import UserError
from data_pipelines.prepare.sidecars.values import without_controls

JSON_SUFFIXES: Final = (".json", ".jsonl")
SUFFIXES: Final = (*JSON_SUFFIXES, ".txt", ".tsv")
_COMPRESSED: Final = {".gz": gzip.open, ".bz2": bz2.open}
_MAX_LINE: Final = 2**22  # characters
_MAX_DIGITS: Final = 300  # of an integer
_BLANK = re.compile(r"[ \t\r\n]*")

Pair = tuple[str | None, Any]
"""Key and value of a member of an object, or None and an element of a list or a line."""


def find_sidecars(directory: Path) -> list[Path]:
    """Lists the files below a directory that may be sidecars by their name, sorted."""
    return sorted(p for p in directory.rglob("*") if plain_suffix(p) in SUFFIXES and p.is_file())


def plain_suffix(path: Path) -> str:
    """Returns the suffix in lower case, without that of a compression."""
    return _uncompressed(path).suffix.lower()


def without_suffix(path: Path) -> str:
    """Returns the posix path without the suffixes of compression and format."""
    return _uncompressed(path).with_suffix("").as_posix()


def _uncompressed(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in _COMPRESSED else path


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Opens a sidecar; errors while it is read are the user's too.

    Raises:
        UserError: the file cannot be read or decompressed.
    """
    opener: Any = _COMPRESSED.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            # What Windows' shell writes when output is sent to a file.
            utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if utf16 else "utf-8-sig"
        with opener(path, "rt", encoding=encoding, errors="replace") as file:
            yield file
    except (OSError, EOFError, zlib.error, UnicodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); check its permissions, or get the file anew"
        ) from error


def read_lines(file: TextIO) -> Iterator[str]:
    """Yields the lines that are not blank; overlong ones come in pieces."""
    while line := file.readline(_MAX_LINE):
        if line.strip():
            yield line.rstrip("\r\n")


def looks_like_json(path: Path) -> bool:
    """Whether a file is JSON by its name, or starts like it."""
    if plain_suffix(path) in JSON_SUFFIXES:
        return True
    with open_text(path) as file:
        return file.read(1024).lstrip()[:1] in ("[", "{")


def read_json(path: Path) -> Iterator[Pair]:
    """Yields the elements of a list, the members of an object, or the lines of JSON lines.

    Elements are parsed one by one, so that only the text of a large file is in memory. A line that
    is not JSON gives None.

    Raises:
        UserError: the file is not JSON.
    """
    with open_text(path) as file:
        first = next(read_lines(file), "")
        second = next(read_lines(file), "")
        by_line = isinstance(_parse_line(first), dict) and second.lstrip()[:1] == "{"
        if by_line or plain_suffix(path) == ".jsonl":
            for line in itertools.chain(filter(None, (first, second)), read_lines(file)):
                yield None, _parse_line(line)
            return
    with open_text(path) as file:
        text = file.read()
    try:
        yield from _members(text)
    except (ValueError, RecursionError) as error:
        nested = isinstance(error, RecursionError)
        reason = "nested too deeply" if nested else without_controls(str(error))
        raise UserError(
            f"{path}: not readable as JSON ({reason}); write or download the file anew"
        ) from error


def _members(text: str) -> Iterator[Pair]:
    """Yields what a list or an object holds; see `read_json`.

    Raises:
        ValueError: `text` is not JSON.
        RecursionError: it is nested too deeply.
    """
    position = _skip(text, 0)
    opening = text[position : position + 1]
    if opening not in ("[", "{"):
        raise ValueError("it starts with neither [ nor {")
    closing = "]" if opening == "[" else "}"
    position = _skip(text, position + 1)
    empty = text[position : position + 1] == closing
    while not empty:
        key = None
        if opening == "{":
            key, position = _DECODER.raw_decode(text, position)
            position = _expect(text, position, ":")
            if not isinstance(key, str):
                raise ValueError(f"a key is not a text at character {position}")
        value, position = _DECODER.raw_decode(text, position)
        yield key, value
        position = _skip(text, position)
        if text[position : position + 1] == closing:
            break
        position = _expect(text, position, ",")
    if _skip(text, position + 1) != len(text):
        raise ValueError(f"text after the end at character {position + 1}")


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _expect(text: str, position: int, character: str) -> int:
    position = _skip(text, position)
    if text[position : position + 1] != character:
        raise ValueError(f"no {character!r} at character {position}")
    return _skip(text, position + 1)


def _parse_line(line: str) -> Any:
    try:
        return _DECODER.decode(line)
    except (ValueError, RecursionError):
        return None


def _integer(digits: str) -> int | None:
    """Python refuses, and takes long for, integers of thousands of digits."""
    return int(digits) if len(digits) <= _MAX_DIGITS else None


_DECODER: Final = json.JSONDecoder(parse_int=_integer)
