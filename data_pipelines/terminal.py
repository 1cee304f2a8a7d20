"""What people see on a terminal and in tables: names of files and cameras come from anyone.

A name must not steer a terminal or a spreadsheet, nor forge a line. So every text that holds one is
shown by what is here: printed by `say`, logged through a `LogFormatter`, put into a CSV as `cell`.
"""

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import IO, Final

_FORMULA: Final = tuple("=+-@＝＋－＠")  # noqa: RUF001  (what spreadsheets compute begins so)


def printable(text: str) -> str:
    """Returns a text in which control, direction and other invisible characters are spelled out.

    So are newlines, and the bytes of a name that are no valid text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(*lines: str, file: IO[str] | None = None) -> None:
    """Prints lines, each of which stays one line; on standard output by default."""
    print(*map(printable, lines), sep="\n", file=file, flush=True)


def cell(value: object) -> object:
    """A value as a cell of a CSV: printable, and no formula, which a spreadsheet would compute.

    A text that would be one gets an apostrophe in front; numbers, also as texts, stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class LogFormatter(logging.Formatter):
    """Messages as single lines, whatever is in them."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        record.message = printable(record.message)
        return super().formatMessage(record)


@contextlib.contextmanager
def any_encoding() -> Iterator[None]:
    """Standard output and error take every character: what they cannot show is spelled out.

    They may be ASCII or Latin-1, or refuse what is no valid text.
    """
    streams = [(s, s.errors) for s in (sys.stdout, sys.stderr) if hasattr(s, "reconfigure")]
    for stream, _ in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in streams:
            with contextlib.suppress(ValueError, OSError):  # it is closed, or cannot be written
                stream.reconfigure(errors=errors)
