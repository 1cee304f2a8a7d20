"""Which data a run computes with: enough to tell other data apart, and to say what differs.

A fingerprint costs as much as the list of files and the directories of indices; no image and no
record is read. What changes no number is not in it: where the data are, and when they were copied.
"""

import dataclasses
import itertools
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.errors import UserError
from data_pipelines.object_storage import stored_files
from data_pipelines.records import PREPARE_FILE, Records, index_path, open_records
from data_pipelines.storage import is_uri
from data_pipelines.terminal import printable

_MOST_DIFFERENCES: Final = 12
_MOST_CLASSES: Final = 3
_KIND: Final = "data"


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Facts about data; all of it is plain JSON.

    Values and digests that only one of two fingerprints has say nothing: another version made it.

    Attributes:
        values: numbers and texts by name, such as of windows in a split.
        classes: names of the classes of each tag, in the order of their numbers.
        files: size in bytes (None: not there) of every file by its name, for each kind of files.
        digests: of what is too large to keep, by what it is.
    """

    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    classes: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    files: Mapping[str, Mapping[str, int | None]] = dataclasses.field(default_factory=dict)
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as plain dicts, for a JSON file."""
        return vars(self).copy()

    @classmethod
    def from_json(cls, obj: object) -> "Fingerprint":
        """Reads what `to_json` gave.

        Raises:
            UserError: `obj` is no fingerprint.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        try:
            parts = {name: dict(obj.get(name, {})) for name in names}  # type: ignore[attr-defined]
            kinds = {"classes": list, "files": dict}
            if any(not isinstance(x, kinds[n]) for n in kinds for x in parts[n].values()):
                raise ValueError("its entries have other types")
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"no fingerprint of data ({error})") from error
        return cls(**parts)


def fingerprint_of_records(records: Records) -> Fingerprint:
    """Of prepared records: classes, windows and shards, and columns of the indices."""
    values: dict[str, Any] = {_KIND: "prepared records"}
    files: dict[str, dict[str, int | None]] = {}
    digests: dict[str, str] = {}
    for name, split in tfds.builder_from_directory(records.directory).info.splits.items():
        values[f"{name} windows"] = split.num_examples
        values[f"bytes of {name} windows"] = split.num_bytes
        files[f"{name} shards"] = {path.name: _size(path) for path in split.filepaths}
        for column, digest in _columns(index_path(records.directory, name)).items():
            digests[f"{column} of {name} windows"] = digest
    classes = {target.name: list(target.classes) for target in records.targets}
    return Fingerprint(values, classes, files, digests)


def fingerprint_of_files(root: Path, files: Mapping[str, Iterable[Path]]) -> Fingerprint:
    """Of image files: names and sizes.

    Args:
        root: directory that names are relative to, or a file in it.
        files: by kind, in words such as "photographs".
    """
    folder = f"{root if root.is_dir() else root.parent}/"  # texts: millions take seconds
    # In object storage a listing tells thousands of sizes at once.
    stored = stored_files(folder.rstrip("/")) if is_uri(folder) else {}

    def size(name: str, path: Path) -> int | None:
        return stored[name].size if name in stored else _size(path)

    sizes = {
        kind: {
            name: size(name, path)
            for path in paths
            for name in [os.fspath(path).removeprefix(folder)]
        }
        for kind, paths in files.items()
    }
    return Fingerprint({_KIND: "image files"}, files=sizes)


def fingerprint_of_photos(directory: Path, paths: Iterable[str]) -> Fingerprint:
    """Of what `open_photos` found in a directory: records, or files with these paths."""
    if (directory / PREPARE_FILE).is_file():
        return fingerprint_of_records(open_records(directory))
    return fingerprint_of_files(directory, {"photographs": map(type(directory), paths)})


def differences(then: Fingerprint, now: Fingerprint) -> list[str]:
    """What differs, in words, the most telling first; empty if it is the same data."""
    found = [
        f"{name}: {_shown(then.values[name])} then, {_shown(value)} now"
        for name, value in now.values.items()
        if then.values.get(name, value) != value
    ]
    kind = now.values.get(_KIND)
    if then.values.get(_KIND, kind) == kind:  # nothing is alike in data of another kind
        found += [*_of_classes(then.classes, now.classes), *_of_files(then.files, now.files)]
    found += [
        f"other {name}"
        for name, digest in now.digests.items()
        if then.digests.get(name, digest) != digest
    ]
    more = len(found) - _MOST_DIFFERENCES
    told = [printable(text) for text in found[:_MOST_DIFFERENCES]]
    return [*told, f"{more} more differences"] if more > 0 else told


def _shown(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def _of_classes(then: Mapping[str, list[str]], now: Mapping[str, list[str]]) -> Iterable[str]:
    for tag in dict.fromkeys([*then, *now]):
        if tag not in then or tag not in now:
            yield f"the tag {tag} is {'new' if tag in now else 'gone'}"
            continue
        old, new = then[tag], now[tag]
        if len(old) != len(new):
            yield f"{tag} had {len(old)} classes, has {len(new)} now"
        changed = [
            f"class {number} of {tag} was {a}, is {b} now"
            for number, (a, b) in enumerate(zip(old, new, strict=False))
            if a != b
        ]
        yield from changed[:_MOST_CLASSES]
        if len(changed) > _MOST_CLASSES:
            yield f"{len(changed) - _MOST_CLASSES} more classes of {tag} are others"


def _of_files(
    then: Mapping[str, Mapping[str, int | None]], now: Mapping[str, Mapping[str, int | None]]
) -> Iterable[str]:
    for kind in dict.fromkeys([*then, *now]):
        old, new = then.get(kind, {}), now.get(kind, {})
        if old == new:
            continue
        both = old.keys() & new.keys()
        groups = {
            "gone": old.keys() - both,
            "new": new.keys() - both,
            "of another size": {name for name in both if old[name] != new[name]},
        }
        told = [
            f"{len(names):,} {'is' if len(names) == 1 else 'are'} {what}, e.g. {min(names)}"
            for what, names in groups.items()
            if names
        ]
        yield f"{len(old):,} {kind} then, {len(new):,} now: {', '.join(told)}"


def _size(path: os.PathLike[str]) -> int | None:
    try:
        if is_uri(path):
            return int(epath.Path(path).stat().length)
        return os.stat(path).st_size  # noqa: PTH116  (of a text, without another object)
    except OSError:
        return None


def _columns(index: Path) -> dict[str, str]:
    """Checksums of the columns of an index, which its zip directory holds.

    Records of earlier versions have no index, and a damaged one is told of by who reads it.
    """
    try:
        with index.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = [(x.filename, f"{x.CRC:08x} {x.file_size}") for x in archive.infolist()]
    except (OSError, zipfile.BadZipFile):
        return {}

    def column(member: tuple[str, str]) -> str:  # a column of texts is in two members
        return member[0].removesuffix(".npy").removesuffix("/words").removeprefix("tags/")

    grouped = itertools.groupby(sorted(members, key=lambda m: (column(m), m)), column)
    return {name: " ".join(checksum for _, checksum in group) for name, group in grouped}
