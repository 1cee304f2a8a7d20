"""Folders of photographs and generated images, in the layouts that benchmarks come in."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_pipelines.errors import UserError
from data_pipelines.images import find_images
from data_pipelines.photo_sources import file_groups
from data_pipelines.storage import valid_text
from data_pipelines.terminal import printable

# (photographs, generated images): names of the two folders that stand side by side.
LAYOUTS = (("0_real", "1_fake"), ("real", "fake"), ("nature", "ai"))
_LABELS = {name: label for layout in LAYOUTS for label, name in enumerate(layout)}
_LAYOUTS_TEXT = ", ".join("/".join(layout) for layout in LAYOUTS)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestSet:
    """Photographs and generated images that are scored together; usually one generator.

    Attributes:
        name: name of the folder; bytes that are no valid text become escapes.
        real: photographs, sorted.
        generated: generated images, sorted.
    """

    __test__ = False  # not a test case, whatever its name suggests to pytest

    name: str
    real: tuple[Path, ...]
    generated: tuple[Path, ...]


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


def find_test_sets(directory: Path) -> list[TestSet]:
    """Finds the labelled images below a directory.

    A pair is two folders side by side named as in `LAYOUTS`, in any case of letters, at any depth.
    Every top folder of the directory that holds pairs is one test set, in which all its pairs
    (categories, train and val) are merged; a directory that holds a pair itself is one test set.
    Below a class folder everything is of that class. Links to folders are followed as far as to the
    class folders; hidden folders are not entered. Top folders without a pair are left out with a
    warning in the log.

    Returns:
        Test sets sorted by name; none has an empty class.

    Raises:
        UserError: not a directory, no pair in it, half a pair, a class folder without images, or
            a folder that cannot be listed.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of labelled images")
    try:
        return _find_test_sets(directory)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot list this folder ({error.strerror})") from error


def labelled_images(test_sets: Sequence[TestSet], *, bursts: bool = False) -> list[LabelledImage]:
    """Lists all images of some sets for training, photographs of each set first.

    Every file is its own group; with `bursts` the EXIF of all is read, and photos of one burst are
    a group, see `file_groups`.
    """
    labelled = [
        LabelledImage(path, label, str(path))
        for test_set in test_sets
        for label, paths in enumerate((test_set.real, test_set.generated))
        for path in paths
    ]
    if not bursts:
        return labelled
    groups = file_groups([image.path for image in labelled])
    return [replace(i, group=str(group)) for i, group in zip(labelled, groups, strict=True)]


def _find_test_sets(directory: Path) -> list[TestSet]:
    if _class_folders(directory):
        return [_read_set(directory, directory.resolve().name)]
    tops = sorted(
        top for top in directory.iterdir() if top.is_dir() and not top.name.startswith(".")
    )
    labelled = [top for top in tops if next(_parents(top), None)]
    if not labelled:
        raise UserError(
            f"{directory}: no labelled images found; expected, at any depth, a folder of "
            f"photographs beside one of generated images, named {_LAYOUTS_TEXT}"
        )
    for top in tops:
        if top not in labelled:
            name = printable(str(top))
            _log.warning("%s: left out, no folders named %s in it", name, _LAYOUTS_TEXT)
    return [_read_set(top, top.name) for top in labelled]


def _class_folders(parent: Path) -> list[Path]:
    return sorted(
        child for child in parent.iterdir() if child.name.lower() in _LABELS and child.is_dir()
    )


def _parents(top: Path) -> Iterator[Path]:
    """Folders at or below `top` that hold class folders, without looking into those."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise error

    for folder, children, _ in os.walk(top, onerror=refuse, followlinks=True):
        real_path = os.path.realpath(folder)
        if real_path in seen:  # a link back to a folder above
            children.clear()
            continue
        seen.add(real_path)
        if any(child.lower() in _LABELS for child in children):
            yield Path(folder)
        children[:] = sorted(
            child
            for child in children
            if child.lower() not in _LABELS and not child.startswith(".")
        )


def _read_set(top: Path, name: str) -> TestSet:
    images: tuple[list[Path], list[Path]] = ([], [])
    for parent in _parents(top):
        folders = _class_folders(parent)
        for layout in LAYOUTS:
            present = {folder.name.lower() for folder in folders} & set(layout)
            if len(present) == 1:
                missing = next(name for name in layout if name not in present)
                raise UserError(
                    f"{parent}: one class only: {present.pop()} has no {missing} beside it; "
                    "add that folder or take this one out"
                )
        for folder in folders:
            found = find_images([folder])
            if not found:
                raise UserError(f"{folder}: no images in this class folder")
            images[_LABELS[folder.name.lower()]].extend(found)
    real, generated = (tuple(sorted(paths)) for paths in images)
    return TestSet(valid_text(name), real, generated)
