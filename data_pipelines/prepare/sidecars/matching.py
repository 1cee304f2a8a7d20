"""Finding the photo that an entry is about. Names are indexed once; each look-up is O(1)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_MIN_ID_DIGITS: Final = 5
"""Shorter numbers within a name are taken for a camera's counter, not for an id."""
_MAX_KEY: Final = 4096  # longer paths do not exist
_AMBIGUOUS: Final = ""


def strip_extension(path: str) -> str:
    """Returns a posix path without the last extension of its file name."""
    stem, dot, extension = path.rpartition(".")
    return stem if dot and "/" not in extension and stem and not stem.endswith("/") else path


class NameIndex:
    """The names of the photos, by all that may stand for them."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = _SuffixIndex((name, name) for name in names)
        self._stems = _SuffixIndex((strip_extension(name), name) for name in names)
        self._ids: dict[str, str] = {}
        for name in names:
            for number in _ids(name):
                _add(self._ids, number, name)

    def by_path(self, key: str) -> str | None:
        """Returns the photo with the longest common path suffix, base name or stem, if only one."""
        if len(key) > _MAX_KEY:
            return None
        path = "/".join(p for p in key.replace("\\", "/").split("/") if p not in ("", "."))
        return (
            self._names.find(path)
            or self._stems.find(path)
            or self._stems.find(strip_extension(path))
        )

    def by_id(self, key: str) -> str | None:
        """Returns the photo whose file is named by a number, as Flickr names files, if only one."""
        return self._ids.get(key) or None


class _SuffixIndex:
    """Paths by every sequence of their last components that may be needed to tell them apart."""

    def __init__(self, paths: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._suffixes: dict[str, str] = {}
        for path, name in paths:
            _add(self._exact, path, name)
            _add(self._bases, path.rpartition("/")[2], name)
        for path, name in self._exact.items():
            # Unique base names, nearly all of them mostly, need no longer suffix.
            if self._bases[path.rpartition("/")[2]] == _AMBIGUOUS:
                for suffix in _suffixes(path):
                    _add(self._suffixes, suffix, name)

    def find(self, path: str) -> str | None:
        if path in self._exact:
            return self._exact[path] or None
        base = self._bases.get(path.rpartition("/")[2])
        if base is None or base != _AMBIGUOUS:
            return base
        known = (self._suffixes[suffix] for suffix in _suffixes(path) if suffix in self._suffixes)
        return next(known, None) or None


def _add(index: dict[str, str], key: str, name: str) -> None:
    index[key] = name if index.get(key, name) == name else _AMBIGUOUS


def _suffixes(path: str) -> Iterator[str]:
    """Yields a path without its first, its first two, ... components; the whole first."""
    while True:
        yield path
        _, slash, path = path.partition("/")
        if not slash:
            return


_SIZE = re.compile(r"_[a-z0-9]{1,2}$")
_ID = re.compile(rf"[0-9]{{{_MIN_ID_DIGITS},}}")


def _ids(name: str) -> set[str]:
    """Returns the numbers that may be the id of a photo, from names as Flickr gives them.

    These are "ID", "ID_SECRET_SIZE" and "TITLE_ID_SIZE", where the size may be missing.
    """
    stem = strip_extension(name.rpartition("/")[2])
    parts = {
        stem.partition("_")[0],
        stem.rpartition("_")[2],
        _SIZE.sub("", stem).rpartition("_")[2],
    }
    ids = {part for part in parts if _ID.fullmatch(part)}
    return ids | {stem} if stem.isascii() and stem.isdigit() else ids
