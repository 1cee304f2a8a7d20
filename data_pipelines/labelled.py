"""Photographs and generated images to tell apart, from labelled folders or a list of files."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from data_pipelines import storage
from data_pipelines.errors import UserError
from data_pipelines.images import is_image
from data_pipelines.labelled_lists import read_list
from data_pipelines.layouts import class_folders
from data_pipelines.object_storage import path_of
from data_pipelines.photo_sources import file_groups
from data_pipelines.sources import format_kinds
from data_pipelines.terminal import printable

_JPEG: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestSet:
    """Photographs and generated images that are scored together; usually one generator.

    Attributes:
        name: name of the folder; bytes that are no valid text become escapes.
        real: photographs, sorted.
        generated: generated images, sorted.
        groups: names of groups that were given for images, see `LabelledImage`.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    name: str
    real: tuple[Path, ...]
    generated: tuple[Path, ...]
    groups: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledImage:
    """One image for training.

    Attributes:
        path: the file.
        label: 0 for a photograph, 1 for a generated image.
        group: images of one group belong on the same side of a split.
    """

    path: Path
    label: int
    group: str


def find_test_sets(source: Path, layout: str = "") -> list[TestSet]:
    """Finds labelled images below a directory, or in a CSV list (see `labelled_lists`).

    Where folders lie side by side, in any case of letters, at any depth (0_real/1_fake, real/fake,
    nature/ai), every top folder that holds such pairs is one test set, in which all its pairs
    (categories, train and val) are merged; a directory that holds a pair itself is one test set.
    Other layouts are in the table `layouts.LAYOUTS`.

    Below a class folder everything is of that class. Links to folders are followed as far as to the
    class folders; hidden folders are not entered. What is no image by its name, and top folders
    without labelled images, are counted in the log.

    Args:
        source: the directory or list.
        layout: of the directory, see `layouts.class_folders`; found out if empty.

    Returns:
        Test sets sorted by name; none has an empty class.

    Raises:
        UserError: no labelled images, half a pair, a class without images, a layout that does not
            fit or leaves a choice, a bad list, or a folder that cannot be listed.
    """
    if source.is_dir():
        try:
            found = _in_folders(source, layout)
        except OSError as error:
            raise UserError(
                f"{error.filename}: cannot list this folder ({error.strerror})"
            ) from error
    elif source.is_file():
        found = _in_list(source)
    else:
        raise UserError(f"{source}: no such directory of labelled images, nor a CSV list of them")
    for test_set in found:
        _tell_of_formats(test_set)
    return found


def labelled_images(test_sets: Sequence[TestSet], *, bursts: bool = False) -> list[LabelledImage]:
    """Lists all images of some sets for training, photographs of each set first, each file once.

    A file is in the group that was given for it, else its own. With `bursts` the EXIF of these is
    read, and photos of one burst are a group, see `file_groups`.
    """
    labelled = {
        path: LabelledImage(path, label, f"given {group}" if group else "")
        for test_set in test_sets
        for label, paths in enumerate((test_set.real, test_set.generated))
        for path in paths
        for group in [test_set.groups.get(path, "")]
    }
    alone = [path for path, image in labelled.items() if not image.group]
    groups: Iterable[object] = file_groups(alone) if bursts else alone
    named = {path: str(group) for path, group in zip(alone, groups, strict=True)}
    return [replace(i, group=named.get(path, i.group)) for path, i in labelled.items()]


def _in_folders(directory: Path, layout: str) -> list[TestSet]:
    folders = class_folders(directory, layout)
    passed_over: Counter[str] = Counter()
    images: dict[Path, list[Path]] = {}
    for path in {folder.path: None for folder in folders}:
        images[path], others = _images_below(path)
        if not images[path]:
            told = f" ({format_kinds(others)})" if others else ""
            raise UserError(f"{path}: no images in this class folder{told}")
        passed_over += others
    if passed_over:
        _log.warning(
            "%s: passed over, as no images by their names: %s",
            *(printable(str(directory)), format_kinds(dict(passed_over.most_common()))),
        )

    def of_class(name: str, label: int) -> tuple[Path, ...]:
        own = [x.path for x in folders if (x.test_set, x.label) == (name, label)]
        return tuple(sorted({image for path in own for image in images[path]}))

    names = sorted({folder.test_set for folder in folders})
    return [TestSet(name, of_class(name, 0), of_class(name, 1)) for name in names]


def _images_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The images in a folder and below, and how many other files there are, by kind."""
    images: list[Path] = []
    others: Counter[str] = Counter()
    for at, names in storage.walk(str(folder)):
        images += [type(folder)(at, name) for name in names if is_image(name)]
        others.update(storage.kind_of(name) for name in names if not is_image(name))
    return images, others


def _tell_of_formats(test_set: TestSet) -> None:
    """Warns of classes that differ in the format of their files: one can be told by the other."""
    shares = [
        {kind: count / len(paths) for kind, count in Counter(map(_format, paths)).items()}
        for paths in (test_set.real, test_set.generated)
    ]
    alike = sum(min(share, shares[1].get(kind, 0.0)) for kind, share in shares[0].items())
    if alike < 0.5:
        _log.warning(
            "%s: photographs are mostly %s, generated images mostly %s: what tells these formats "
            "apart passes for a detection; compress both alike",
            *(printable(test_set.name), *(max(share, key=share.__getitem__) for share in shares)),
        )


def _format(path: Path) -> str:
    """The format by the name of a file."""
    suffix = storage.suffix_of(path.name)
    return "JPEG" if suffix in _JPEG else suffix.removeprefix(".").upper() or "without extension"


def _in_list(path: Path) -> list[TestSet]:
    images = read_list(path)
    remote = {i.path.parts[:3]: i.path for i in images if storage.is_uri(i.path)}
    for first in remote.values():
        path_of(first.parent)  # once for each bucket: asking for each image would take hours
    sets = []
    for name in sorted({image.test_set for image in images}):
        own = [image for image in images if image.test_set == name]
        real, generated = (
            tuple(sorted(i.path for i in own if i.label == label)) for label in (0, 1)
        )
        if not real or not generated:
            absent = "generated images" if real else "photographs"
            raise UserError(f"{path}: no {absent} in the test set {name[:100]!r}")
        sets.append(TestSet(name, real, generated, {i.path: i.group for i in own if i.group}))
    if not sets:
        raise UserError(f"{path}: no images in this list")
    return sets
