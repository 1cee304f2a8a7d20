"""Reading sidecars of every kind and giving each photo its entry."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from data_pipelines.errors import UserError
from data_pipelines.prepare.sidecars import exiftool, flickr, sdaie, yfcc100m
from data_pipelines.prepare.sidecars.entries import MAX_EXAMPLES, Entry, SidecarFile, Sidecars
from data_pipelines.prepare.sidecars.files import (
    JSON_SUFFIXES,
    SUFFIXES,
    Pair,
    find_sidecars,
    looks_like_json,
    open_text,
    plain_suffix,
    read_json,
    read_lines,
    without_suffix,
)
from data_pipelines.prepare.sidecars.matching import NameIndex
from data_pipelines.prepare.sidecars.values import without_controls

_KNOWN: Final = (
    "output of exiftool -json, responses of Flickr's photos.getExif as JSON, the EXIF list of "
    "YFCC100M, and SDAIE's exif_tags.json"
)
_MAX_HEAD: Final = 1000
"""The kind of a file is told by so many of its first entries, of which some may be empty."""
_SINGLE_KEYS: Final = frozenset({"SourceFile", "photo", "stat", "exif"})
"""An object with one of these is one entry, any other holds an entry for each of its keys."""


class _Format(Protocol):
    """What the module of a format offers."""

    BY_ID: bool
    """Whether keys are ids by which Flickr names files, not names."""

    def recognises(self, value: Any) -> bool:
        """Whether a value is an entry of this format."""

    def key_of(self, key: str | None, value: Any) -> str | None:
        """Returns what names the photo of an entry, "" if nothing does, None if malformed."""

    def read(self, value: Any) -> Entry:
        """Reads a well-formed entry; most of a large sidecar names no photo and is never read."""


_JSON_FORMATS: Final[dict[str, _Format]] = {"exiftool": exiftool, "flickr": flickr, "sdaie": sdaie}
_TEXT_FORMATS: Final[dict[str, _Format]] = {"yfcc100m": yfcc100m}


def load_sidecars(paths: Sequence[str | os.PathLike[str]], names: Sequence[str]) -> Sidecars:
    """Reads what sidecars say of photos.

    The kind of each file is told from its content. An entry is matched by the longest common path
    suffix, the base name, the name without extension, or, if it is by Flickr id, by that id in the
    name. What matches several photos matches none. Where several entries are of one photo, each
    fills in what those before it left out. Only matched entries are kept in memory.

    Args:
        paths: files, or directories to search for them recursively. Files of a directory that are
            of no known kind are skipped and listed.
        names: names of the photos, relative posix paths.

    Raises:
        UserError: a path is missing, unreadable, of no known kind or about none of the photos;
            label vectors are mixed with other sidecars, or do not fit the table of tags.
    """
    collector = _Collector(names)
    for path in map(Path, paths):
        if path.is_dir():
            files = find_sidecars(path)
            if not files:
                raise UserError(
                    f"{path}: no sidecar in this directory (looked for {', '.join(SUFFIXES)}, "
                    "also .gz and .bz2, recursively); give the file itself"
                )
        elif path.exists():
            files = [path]
        else:
            raise UserError(f"{path}: no such file or directory; check the path of the sidecar")
        collector.add(path, files)
    return collector.result()


class _Collector:
    """Gathers the entries of matched photos and counts the others."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._index = NameIndex(names)
        self._found = Sidecars()

    def add(self, path: Path, files: Sequence[Path]) -> None:
        """Reads the files of one path that the user gave."""
        before, keys_before = len(self._found.files), len(self._found.unmatched)
        for file in files:
            opened = _recognise(file, given=files == [path])
            if opened is None:
                self._found.skipped.append(str(file))
            else:
                self._read(file, *opened)
        read = self._found.files[before:]
        if not read:
            raise UserError(f"{path}: none of its files is of a known kind; known are {_KNOWN}")
        if not any(file.num_matched for file in read):
            keys = self._found.unmatched[keys_before:]
            raise UserError(
                f"{path}: none of its {sum(file.num_entries for file in read)} entries"
                f"{_such_as(keys)} is about one of the {len(self._names)} photos"
                f"{_such_as(self._names)}; give the photos under the names that the sidecar has"
            )

    def _read(self, path: Path, kind: str, format: _Format, pairs: Iterator[Pair]) -> None:
        num_entries = num_matched = 0
        first, second = next(pairs, None), next(pairs, None)
        # The only entry of a file may be named by that: IMG_1.json, IMG_1.jpg.json.
        own_key = without_suffix(path) if second is None and kind != "sdaie" else None
        head = [pair for pair in (first, second) if pair is not None]
        find = self._index.by_id if format.BY_ID else self._index.by_path
        for key, value in itertools.chain(head, pairs):
            num_entries += 1
            named = format.key_of(key, value)
            if named is None:
                continue
            photo = find(named) or (self._index.by_path(own_key) if own_key else None)
            if photo is None:
                self._found.num_unmatched += 1
                if len(self._found.unmatched) < MAX_EXAMPLES:
                    self._found.unmatched.append(without_controls(named))
                continue
            num_matched += 1
            try:
                self._keep(photo, format.read(value))
            except UserError as error:
                raise UserError(f"{path}: {without_controls(photo)}: {error}") from error
        self._found.files.append(SidecarFile(str(path), kind, num_entries, num_matched))

    def _keep(self, photo: str, entry: Entry) -> None:
        known = self._found.entries.get(photo)
        if known is not None:
            coded = known.coded if known.coded is not None else entry.coded
            entry = Entry({**entry.raw, **known.raw}, coded)
        self._found.entries[photo] = entry

    def result(self) -> Sidecars:
        """Returns what was gathered.

        Raises:
            UserError: label vectors are mixed with other sidecars.
        """
        coded = [file.path for file in self._found.files if file.kind == "sdaie"]
        others = [file.path for file in self._found.files if file.kind != "sdaie"]
        if coded and others:
            raise UserError(
                f"{coded[0]} holds label vectors and {others[0]} EXIF values, which do not mix: "
                "the names of the classes are not known; give one kind of sidecar"
            )
        return self._found


def _recognise(path: Path, given: bool) -> tuple[str, _Format, Iterator[Pair]] | None:
    """Returns the kind and format of a file and all its pairs.

    A file that was not given itself, but lies in a given directory, may be anything: None then.

    Raises:
        UserError: the file cannot be read, or was given and is of no known kind.
    """
    try:
        is_json = looks_like_json(path)
        head, pairs = _head(read_json(path) if is_json else _read_text(path))
    except UserError:
        if given or plain_suffix(path) in JSON_SUFFIXES:
            raise
        return None
    values = [value for _, value in head]
    formats = _JSON_FORMATS if is_json else _TEXT_FORMATS
    for value, (kind, format) in itertools.product(values, formats.items()):
        if format.recognises(value):
            return kind, format, itertools.chain(head, pairs)
    if given:
        raise UserError(f"{path}: not a known kind of metadata; known are {_KNOWN}")
    return None


def _head(pairs: Iterator[Pair]) -> tuple[list[Pair], Iterator[Pair]]:
    """Returns the first pairs and the others; an object that is one entry is one pair."""
    head = list(itertools.islice(pairs, _MAX_HEAD))
    if any(key in _SINGLE_KEYS for key, _ in head):
        return [(None, {str(key): value for key, value in (*head, *pairs)})], iter(())
    return head, pairs


def _read_text(path: Path) -> Iterator[Pair]:
    with open_text(path) as file:
        for line in read_lines(file):
            yield None, line


def _such_as(keys: Iterable[str]) -> str:
    shown = [repr(without_controls(key)) for key in itertools.islice(filter(None, keys), 2)]
    return f" (such as {', '.join(shown)})" if shown else ""
