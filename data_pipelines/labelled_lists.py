"""CSV lists of labelled images: path, label and, if wanted, test set and group."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_pipelines import storage
from data_pipelines.errors import UserError
from data_pipelines.storage import valid_text
from data_pipelines.terminal import printable

_NEEDED: Final = ("path", "label")
_COLUMNS: Final = (*_NEEDED, "test_set", "group")
_LABELS: Final = {"0": 0, "1": 1}
_MOST_SHOWN: Final = 80  # characters of a first line, which may be of any file


@dataclass(frozen=True)
class ListedImage:
    """One line of a list.

    Attributes:
        path: of the file; relative ones are so to the list's folder.
        label: 0 for a photograph, 1 for a generated image.
        test_set: its name; that of the list where the line has none.
        group: images of one group belong on the same side of a split; empty if not said.
    """

    path: Path
    label: int
    test_set: str
    group: str


def read_list(path: Path) -> list[ListedImage]:
    """Reads a CSV list, whose first line names its columns, in any order; others are ignored.

    Files are not looked at: those that are missing are counted when they are read. A line that says
    the same as one before counts once.

    Raises:
        UserError: it cannot be read, has not the columns, a line has no path or another label than
            0 and 1, or an image has two labels or two groups.
    """
    with storage.refusing(str(path)):
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    images: dict[tuple[Path, str], ListedImage] = {}
    labels: dict[Path, tuple[int, str]] = {}
    for number, image in _images(path, text):
        facts = (image.label, image.group)
        if labels.setdefault(image.path, facts) != facts:
            raise UserError(
                f"{path}, line {number}: {image.path} has another label or group on a line before; "
                "leave one out"
            )
        images[image.path, image.test_set] = image
    return list(images.values())


def _images(path: Path, text: str) -> Iterator[tuple[int, ListedImage]]:
    """Yields the images of a list's text, each with the number of its line."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in _NEEDED if name not in header]
        if missing:
            found = printable(", ".join(header))[:_MOST_SHOWN] or "an empty file"
            raise UserError(
                f"{path}: a list of labelled images has the columns path,label (0 photo, 1 "
                f"generated) and, if wanted, test_set,group in its first line; {missing[0]} is "
                f"missing in {found}"
            )
        for row in reader:
            if any(map(str.strip, row)):
                cells = dict(zip(header, map(str.strip, row), strict=False))
                yield reader.line_num, _image(path, reader.line_num, cells)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: no CSV ({error})") from error


def _image(path: Path, number: int, cells: dict[str, str]) -> ListedImage:
    name, label, test_set, group = (cells.get(column, "") for column in _COLUMNS)
    if not name or "\0" in name:
        raise UserError(f"{path}, line {number}: no path of an image")
    if label not in _LABELS:
        raise UserError(
            f"{path}, line {number}: label {label!r}; write 0 for a photo, 1 for a generated image"
        )
    try:
        file = _file(path.parent, storage.expand_user(name))
    except UserError as error:
        raise UserError(f"{path}, line {number}: {error}") from error
    return ListedImage(file, _LABELS[label], valid_text(test_set or path.stem), group)


def _file(folder: Path, name: str) -> Path:
    """A file that a list in a folder names; both may be in object storage."""
    return storage.remote_path(name) if storage.is_uri(name) else folder / name
