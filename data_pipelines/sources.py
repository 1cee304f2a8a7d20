"""From what a user has to the list of files to read: folders, files, patterns, lists, archives.

Paths with a scheme, such as gs://bucket/folder, are read by `etils.epath`. Only light libraries are
imported, as worker processes use this module.
"""

import dataclasses
import fnmatch
import functools
import itertools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from etils import epath
from tqdm import tqdm

from data_pipelines import storage
from data_pipelines.archives import is_archive, list_archive, read_member
from data_pipelines.errors import UserError
from data_pipelines.images import EXTENSIONS, ImageError, check_size, is_image, read_bytes
from data_pipelines.items import Item
from data_pipelines.storage import (
    expand_user,
    is_link,
    is_uri,
    join,
    list_folder,
    parent_of,
    suffix_of,
)

_LISTS: Final = (".txt", ".lst")
_MAGIC: Final = re.compile(r"[*?\[]")
_MOST_KINDS: Final = 20


class _Given(NamedTuple):
    """A path that a source stands for.

    Attributes:
        path: absolute.
        is_folder: whether it is searched with all below it.
        by_name: whether a pattern that asks for no extension found it: its own name decides.
    """

    path: str
    is_folder: bool = False
    by_name: bool = False


@dataclasses.dataclass(frozen=True)
class Found:
    """What sources hold.

    Attributes:
        items: the files to read, sorted by name. A file that several sources hold is there once.
        passed_over: how many files of folders, archives and patterns are of no use by their names,
            by kind (`storage.kind_of`), the most frequent first.
    """

    items: list[Item]
    passed_over: Mapping[str, int]


def find_files(
    sources: Sequence[str | os.PathLike[str]], *, extensions: frozenset[str] = EXTENSIONS
) -> Found:
    """Lists the files to read.

    Directories are searched with all below them, by extension; links to directories are not
    followed, macOS resource forks are left out. A file that is given itself is taken whatever it is
    called. A pattern (*, ?, [], ** for any depth) takes what has an image's extension, or the
    extension the pattern ends with. A list (.txt, .lst) has one of these a line, relative to its
    folder; blank lines and lines that start with # are ignored.

    A file that is listed but missing, or has a name that no disk can hold, and a bad archive that
    was found in a directory, become items that cannot be read, so that they are counted.

    Raises:
        UserError: a source does not exist, cannot be read or is damaged, or there is no image.
    """
    if not sources:
        raise UserError("no images given; name a directory, file, pattern, list or archive")
    with tqdm(desc="listing files", unit="file", disable=None, leave=False) as progress:
        paths = [_absolute(os.fspath(source)) for source in sources]
        given = [entry for path in paths for entry in _expand(path, extensions)]
        base = _bases({at.path if at.is_folder else parent_of(at.path) for at in given})
        items: list[Item] = []
        files, passed_over = _collect(given, extensions, progress)
        for path, is_given in files:
            name = _relative(path, base)
            if not is_archive(path) or storage.is_too_long(path):
                items.append(Item(storage.valid_text(name), path))
                continue
            try:
                members, others = list_archive(path, name, extensions)
            except ImageError as error:
                if is_given:
                    raise UserError(f"{path}: {error}") from error
                items.append(Item(storage.valid_text(name), path, problem=str(error)))
            else:
                items += members
                passed_over += others
    counts = dict(sorted(passed_over.items(), key=lambda item: (-item[1], item[0])))
    if not items:
        names = [str(source) for source in sources]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        told = f"; passed over: {format_kinds(counts)}" if counts else ""
        raise UserError(
            f"no images found in {', '.join(names[:5])}{more}: no file with an image's extension "
            f"({' '.join(sorted(extensions))}){told}; check the path"
        )
    return Found(_with_unique_names(items), counts)


def format_kinds(counts: Mapping[str, int]) -> str:
    """Files that were passed over, in words: "12 .cr2, 3 .mov, 1 no extension"."""
    shown = [f"{count:,} {kind}" for kind, count in list(counts.items())[:_MOST_KINDS]]
    rest = sum(list(counts.values())[_MOST_KINDS:])
    return ", ".join([*shown, *([f"{rest:,} of other kinds"] if rest else [])])


def is_source(source: str) -> bool:
    """Whether `find_files` can look into a source; if not, it is the name of a missing file."""
    path = _absolute(source)
    is_file = not _MAGIC.search(path) and not is_archive(path) and suffix_of(path) not in _LISTS
    return not is_file or storage.exists(path)


def read_item(item: Item, *, max_bytes: int) -> bytes:
    """Reads one file whole; of an archive only its bytes, and never much more than `max_bytes`.

    Raises:
        ImageError: "unreadable", "empty_file" or "too_many_bytes".
    """
    if item.problem:
        raise ImageError("unreadable", item.problem)
    if not item.member:
        return read_bytes(item.path, max_bytes=max_bytes)
    if item.size > max_bytes:
        raise ImageError("too_many_bytes", f"more than {max_bytes:,} bytes")
    try:
        data = read_member(item)
    except ImageError:
        raise
    except Exception as error:  # damaged archives and remote storage raise almost anything
        raise ImageError("unreadable", storage.describe(error)) from error
    check_size(data, max_bytes)
    return data


def _absolute(source: str, folder: str = "") -> str:
    """Makes a source absolute; what is relative is so to `folder`, or to the working directory."""
    path = source if is_uri(source) else os.path.join(folder, expand_user(source))  # noqa: PTH118
    if not is_uri(path):
        return os.path.abspath(path)  # noqa: PTH100
    scheme, _, rest = path.partition("://")
    path = f"{scheme}://{posixpath.normpath('/' + rest).lstrip('/')}"
    try:
        return os.fspath(epath.Path(path))
    except KeyError as error:
        raise UserError(
            f"{source[:200]}: {scheme[:40]}:// is not supported; give a local path, gs://, s3://, "
            "az:// or hf://"
        ) from error


# Sources to files


def _expand(path: str, extensions: frozenset[str], line: str = "") -> Iterator[_Given]:
    """Yields the paths that a source, made absolute, stands for.

    If it is from a list, `line` is the file and line.
    """
    suffix = suffix_of(path)
    where = f"{line}: {path}" if line else path
    is_pattern = _MAGIC.search(path) is not None
    if line and storage.is_too_long(path):
        yield _Given(path)  # as any file that is listed and missing, even if it looks like more
    elif line and is_uri(path) and suffix in extensions and not is_pattern:
        yield _Given(path)  # long lists of remote images: asking for each would take hours
    elif storage.is_folder(path):
        yield _Given(path, is_folder=True)
    elif is_pattern and not storage.exists(path):
        matches = list(_glob(path))
        if not matches:
            raise UserError(f"{where}: no file matches this pattern; check it")
        chosen_by_suffix = bool(suffix) and not _MAGIC.search(suffix)
        for match, is_folder in matches:
            if not is_folder and chosen_by_suffix and suffix in _LISTS:
                yield from _expand(match, extensions, line)
            else:
                yield _Given(match, is_folder, by_name=not chosen_by_suffix)
    elif suffix in _LISTS:
        if line:
            raise UserError(f"{where}: a list cannot name another list; give both as sources")
        yield from _expand_list(path, extensions)
    elif (line and not is_archive(path)) or storage.exists(path):
        yield _Given(path)
    else:
        raise UserError(f"{where}: no such file or directory; check the path")


def _expand_list(path: str, extensions: frozenset[str]) -> Iterator[_Given]:
    """Yields what the lines of a list file stand for."""
    if not storage.exists(path):
        raise UserError(f"{path}: no such file or directory; check the path")
    with storage.refusing(path), storage.open_file(path) as file:
        text = file.read().decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise UserError(f"{path}: not a text file; a list has one path a line")
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            absolute = _absolute(entry, parent_of(path))
            yield from _expand(absolute, extensions, f"{path}, line {number}")


def _glob(pattern: str) -> Iterator[tuple[str, bool]]:
    """Yields what a pattern matches, each with whether it is a folder."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if _MAGIC.search(part))
    root = "/".join(parts[:first]) or "/"
    if storage.is_folder(root):
        yield from _match(root, parts[first:])


def _match(folder: str, parts: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yields what matches in a folder; `parts` are the pattern's parts between slashes."""
    part, rest = parts[0], parts[1:]
    if part == "**" and not rest:
        yield folder, True  # folders are searched with all below them
        return
    if part == "**":
        yield from _match(folder, rest)
        for name in _matching(list_folder(folder)[0], "*"):
            if not is_link(join(folder, name)):
                yield from _match(join(folder, name), parts)
        return
    folders, files = list_folder(folder)
    for name in _matching(folders, part):
        path = join(folder, name)
        yield from _match(path, rest) if rest else [(path, True)]
    for name in [] if rest else _matching(files, part):
        yield join(folder, name), False


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    """As in a shell, hidden names match only a pattern that starts with a dot itself."""
    if not pattern.startswith("."):
        names = (name for name in names if not name.startswith("."))
    return [name for name in names if fnmatch.fnmatchcase(name, pattern)]


def _is_searched(name: str, extensions: frozenset[str]) -> bool:
    """Whether a file in a searched folder is taken: an image or archive by its extension."""
    return is_image(name, extensions) or (is_archive(name) and not name.startswith("._"))


def _collect(
    given: Iterable[_Given], extensions: frozenset[str], progress: tqdm
) -> tuple[Iterable[tuple[str, bool]], Counter[str]]:
    """Lists the files that are given and in given folders, each once and whether given itself.

    The second counts, by kind, what is not taken because of its name.
    """
    # Resolving every file would be slow: only folders and links are.
    resolve = functools.cache(lambda folder: folder if is_uri(folder) else os.path.realpath(folder))
    files: dict[str, tuple[str, bool]] = {}
    passed_over: dict[str, str] = {}
    for path, is_folder, by_name in given:
        alone = [(parent_of(path), [posixpath.basename(path)])]
        folders = storage.walk(path) if is_folder else alone
        for folder, names in folders:
            real = resolve(folder)
            for name in names:
                file = join(folder, name)
                key = os.path.realpath(file) if is_link(file) else join(real, name)
                if (is_folder or by_name) and not _is_searched(name, extensions):
                    passed_over[key] = storage.kind_of(name)
                    continue
                other, is_given = files.get(key, (file, False))
                shortest = min(file, other, key=lambda path: (len(path), path))
                files[key] = shortest, is_given or not is_folder
            progress.update(len(names))
    return files.values(), Counter(kind for key, kind in passed_over.items() if key not in files)


# Names


def _split(path: str) -> tuple[str, str]:
    """Splits "gs://bucket/a" into "gs" and "/bucket/a"; local paths have no scheme."""
    scheme, separator, rest = path.partition("://")
    return (scheme, "/" + rest) if separator else ("", path)


def _bases(folders: Iterable[str]) -> dict[str, str]:
    """The common folder of the local sources, and of the sources of each remote scheme."""
    by_scheme: dict[str, list[str]] = {}
    for scheme, folder in map(_split, folders):
        by_scheme.setdefault(scheme, []).append(folder)
    return {scheme: os.path.commonpath(paths) for scheme, paths in by_scheme.items()}


def _relative(path: str, bases: dict[str, str]) -> str:
    """Name relative to the base; where storages are mixed, remote names start with the scheme."""
    scheme, local = _split(path)
    name = local[len(bases[scheme]) :].lstrip("/")
    return f"{scheme}/{name}" if scheme and len(bases) > 1 else name


def _with_unique_names(items: Iterable[Item]) -> list[Item]:
    """Sorts by name; of equal names the second gets #2, and so on."""
    items = sorted(items, key=lambda item: (item.name, item.path, item.offset, item.member))
    taken = {item.name for item in items}
    count = 1
    for i, (last, item) in enumerate(itertools.pairwise(list(items)), 1):
        count = count + 1 if item.name == last.name else 1
        if count > 1:
            while (name := f"{item.name}#{count}") in taken:
                count += 1
            taken.add(name)
            items[i] = dataclasses.replace(item, name=name)
    return sorted(items, key=lambda item: item.name)
