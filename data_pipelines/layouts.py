"""How labelled images lie on people's disks: a table from folders to test sets and classes.

A layout is known by name, and found out where none is named. One's own is a `Layout` registered
in a plugin (`LAYOUTS.register`), or no layout at all: a CSV list, see `labelled_lists`. What the
public benchmarks look like, and where that is written: docs/labelled.md.
"""

import fnmatch
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from data_pipelines.errors import UserError
from data_pipelines.registry import Registry
from data_pipelines.storage import NOT_ENTERED, is_uri, list_folder, valid_text
from data_pipelines.terminal import printable

PAIRS: Final = (("0_real", "1_fake"), ("real", "fake"), ("nature", "ai"))
"""(photographs, generated images): names of two folders that stand side by side."""
_LABELS: Final = {name: label for pair in PAIRS for label, name in enumerate(pair)}
_PAIRS_TEXT: Final = ", ".join("/".join(pair) for pair in PAIRS)
_SPLITS: Final = "train|training|val|valid|validation|test"
_PARTS: Final = frozenset([*_SPLITS.split("|"), "train2017", "val2017"])

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassFolder:
    """A folder of which all images, at any depth, are of one class.

    Attributes:
        path: the folder.
        test_set: name of the test set that it belongs to, which may hold a "/".
        label: 0 for photographs, 1 for generated images.
    """

    path: Path
    test_set: str
    label: int


@dataclass(frozen=True)
class Layout:
    """One way that labelled folders lie.

    Attributes:
        find: a directory -> its class folders, every test set with both classes; none if nothing in
            it lies so. Raises UserError where a part is missing.
        signs: patterns of folders below the directory, see `matching`; where there is a folder for
            each, it is recognised. Without signs a layout is used only where it is named.
    """

    find: Callable[[Path], list[ClassFolder]]
    signs: tuple[str, ...] = ()


def class_folders(directory: Path, name: str = "") -> list[ClassFolder]:
    """Finds the folders of photographs and of generated images below a directory.

    Top folders without any are left out with a warning in the log, and so is a test set that joins
    several splits.

    Args:
        directory: to look in.
        name: of the layout; empty: the one that is recognised by its signs, else `pairs`. With
            ":PART" behind it, only class folders with a folder of this name on the way to them,
            such as "pairs:val".

    Raises:
        UserError: the layout is unknown, does not fit or leaves a choice.
        OSError: a folder cannot be listed.
    """
    name, _, part = name.partition(":")
    name = name or _recognised(directory)
    found = LAYOUTS[name].find(directory)
    if not found:
        raise UserError(
            f"{directory}: no labelled images found in the layout {name}; {_remedy(directory)}"
        )
    used = _tops(directory, [at.path for at in found])
    for top in sorted(set(_folders(directory)) - used):
        path = printable(str(directory / top))
        _log.warning("%s: left out, no labelled images in it in the layout %s", path, name)
    if part:
        found = [at for at in found if part in at.path.relative_to(directory).parts]
    _check_parts(directory, found, part)
    _log.info("%s: labelled images in the layout %s", printable(str(directory)), name)
    return found


def _check_parts(directory: Path, found: Sequence[ClassFolder], part: str) -> None:
    """Refuses test sets that the chosen part leaves one class of; tells of those with many parts.

    Raises:
        UserError: nothing is left, or half of a test set.
    """
    sets: dict[str, list[ClassFolder]] = {}
    for folder in found:
        sets.setdefault(folder.test_set, []).append(folder)
    if part and (not found or any(len({x.label for x in both}) < 2 for both in sets.values())):
        raise UserError(
            f"{directory}: no folder {part!r} has labelled images of both classes; name another "
            "part in config.data.layout, or none"
        )
    for name, folders in sets.items():
        parts = {p for x in folders for p in x.path.relative_to(directory).parts[1:]}
        splits = sorted(p for p in parts if p.lower() in _PARTS)
        if len(splits) > 1:
            _log.warning(
                "%s: one test set of %s; --config.data.layout=NAME:%s takes one of them",
                *(printable(name), " and ".join(splits), splits[-1]),
            )


def matching(directory: Path, pattern: str, name: str = "") -> Iterator[tuple[str, Path]]:
    """Yields folders below a directory that a pattern matches, each with the name it gives.

    Between slashes, a pattern has shell patterns separated by "|", in any case of letters; what the
    part in braces matches is the name: "synthbuster/{dalle2|dalle3}", "{*}/1_fake".
    """
    here, _, below = pattern.partition("/")
    choices = here.strip("{}").lower().split("|")
    for child in sorted(_folders(directory)):
        if any(fnmatch.fnmatchcase(child.lower(), choice) for choice in choices):
            found = child if here.startswith("{") else name
            path = directory / child
            yield from matching(path, below, found) if below else [(found, path)]


def apart(*pairings: tuple[str, str]) -> Callable[[Path], list[ClassFolder]]:
    """A `Layout.find` for photographs and generated images in folders of their own.

    Args:
        pairings: patterns (of photographs, of generated images with the test set's name in braces).
            What an earlier pairing took is not taken again. Other top folders, that have pairs of
            classes themselves, are test sets as ever.
    """

    def find(directory: Path) -> list[ClassFolder]:
        found: list[ClassFolder] = []
        alone: dict[Path, str] = {}
        taken: set[Path] = set()
        for photographs, generated in pairings:
            photos = [path for _, path in matching(directory, photographs) if _is_single(path)]
            taken.update(photos)
            for name, path in matching(directory, generated):
                if path in taken or not _is_single(path):
                    continue
                taken.add(path)
                if photos:
                    labelled = [(path, 1), *((photo, 0) for photo in photos)]
                    found += [ClassFolder(at, valid_text(name), label) for at, label in labelled]
                else:
                    alone[path] = photographs
        for path, photographs in alone.items() if found else ():
            raise UserError(
                f"{path}: no photographs to compare these with; expected them below {directory}, "
                f"in {photographs}"
            )
        others = set(_folders(directory)) - _tops(directory, taken) if found else set()
        for top in sorted(others):
            found += _pairs_of(directory / top, top)
        return found

    return find


def _is_single(folder: Path) -> bool:
    """Whether a folder can be of one class: none of a pair is in it, nor its partner beside it."""
    partners = dict([*PAIRS, *((fake, real) for real, fake in PAIRS)])
    beside = {name.lower() for name in _class_names(folder.parent)}
    return not _class_names(folder) and partners.get(folder.name.lower()) not in beside


def _tops(directory: Path, paths: Iterable[Path]) -> set[str]:
    """Names of the top folders that paths below a directory lead through."""
    return {path.relative_to(directory).parts[0] for path in paths}


def _pairs(directory: Path) -> list[ClassFolder]:
    """Pairs side by side, at any depth; every top folder that holds some is one test set."""
    if _class_names(directory):
        return _pairs_of(directory, directory.resolve().name)
    found: list[ClassFolder] = []
    for top in sorted(_folders(directory)):
        path = directory / top
        if name := _apart_in(path):
            inside = LAYOUTS[name].find(path)
            top = valid_text(top)
            found += [ClassFolder(x.path, f"{top}/{x.test_set}", x.label) for x in inside]
        else:
            found += _pairs_of(path, top)
    return found


def _splits(directory: Path) -> list[ClassFolder]:
    """Pairs below folders of splits: every top folder of each split is one test set."""
    found: list[ClassFolder] = []
    for split, path in matching(directory, "{" + _SPLITS + "}"):
        if _class_names(path):
            found += _pairs_of(path, split)
        else:
            found += [ClassFolder(x.path, f"{split}/{x.test_set}", x.label) for x in _pairs(path)]
    return found


def _pairs_of(top: Path, name: str) -> list[ClassFolder]:
    found = []
    for parent in _parents(top):
        names = _class_names(parent)
        for pair in PAIRS:
            present = {name.lower() for name in names} & set(pair)
            if len(present) == 1:
                missing = next(name for name in pair if name not in present)
                raise UserError(
                    f"{parent}: one class only: {present.pop()} has no {missing} beside it; "
                    f"add that folder or take this one out; {_remedy(parent)}"
                )
        found += [
            ClassFolder(parent / child, valid_text(name), _LABELS[child.lower()]) for child in names
        ]
    return found


def _parents(top: Path) -> Iterator[Path]:
    """Folders at or below `top` that hold class folders, without looking into those."""
    seen = set()

    def refuse(error: OSError) -> None:
        raise error

    levels = os.walk(top, onerror=refuse, followlinks=True)
    for folder, children, _ in _remote_levels(top) if is_uri(top) else levels:
        real_path = os.path.realpath(folder)
        if real_path in seen:  # a link back to a folder above
            children.clear()
            continue
        seen.add(real_path)
        if any(child.lower() in _LABELS for child in children):
            yield type(top)(folder)
        children[:] = sorted(
            child for child in children if child.lower() not in _LABELS and _is_shown(child)
        )


def _remote_levels(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, without files: the caller takes out of the folders those not to enter."""
    children = _folders(top)
    yield str(top), children, []
    for child in children:
        yield from _remote_levels(top / child)


def _class_names(parent: Path) -> list[str]:
    return sorted(name for name in _folders(parent) if name.lower() in _LABELS)


def _folders(directory: Path) -> list[str]:
    """Names of the folders in a folder, also of links to some, without hidden ones."""
    if is_uri(directory):
        return [name for name in list_folder(str(directory))[0] if _is_shown(name)]
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if _is_shown(entry.name) and entry.is_dir()]


def _is_shown(name: str) -> bool:
    """Whether a folder is entered: not hidden, nor one of notes and small copies."""
    return not name.startswith(".") and name not in NOT_ENTERED


# Which layout


def _recognised(directory: Path) -> str:
    """The name of the layout whose signs are there; `pairs` if no layout's are.

    Raises:
        UserError: there are signs of several that differ.
    """
    names = [name for name in LAYOUTS.names() if _has_signs(directory, LAYOUTS[name])]
    if len({LAYOUTS[name].find for name in names}) > 1:
        raise UserError(
            f"{directory}: could be laid out as {' and as '.join(names)}; choose one by "
            "--config.data.layout=..."
        )
    return next((name for name in names if LAYOUTS[name].find(directory)), "pairs")


def _has_signs(directory: Path, layout: Layout) -> bool:
    return bool(layout.signs) and all(
        next(matching(directory, sign), None) for sign in layout.signs
    )


def _apart_in(top: Path) -> str:
    """The layout of a top folder whose classes have different parents, or empty."""
    name = "" if _class_names(top) else _recognised(top)
    return name if name in _APART else ""


def _remedy(directory: Path) -> str:
    if any(directory.glob("*.parquet")) or any(directory.glob("*/*.parquet")):
        return "write the images that Parquet files hold out as files first, see docs/labelled.md"
    return (
        f"known are pairs of folders side by side ({_PAIRS_TEXT}) at any depth, and the layouts "
        f"{', '.join(LAYOUTS.names())} (--config.data.layout=...); a CSV list with the columns "
        "path,label does for anything else"
    )


# The table

_SYNTHBUSTER: Final = (
    "dalle2|dalle3|firefly|glide|midjourney-v5|stable-diffusion-1-3|stable-diffusion-1-4|"
    "stable-diffusion-2|stable-diffusion-xl"
)
_RAISE: Final = "real_raise_1k|raise|raise-1k|raise_1k|raise1k"
_APART: Final = {
    "universal_fake_detect": Layout(
        apart(("imagenet/0_real", "{guided}/1_fake"), ("laion/0_real", "{*}/1_fake")),
        ("laion/0_real", "ldm_*|glide_*|dalle/1_fake"),
    ),
    "drct_2m": Layout(
        apart(
            ("mscoco/val2017", "drct-2m/{*}/val2017"), ("mscoco/train2017", "drct-2m/{*}/train2017")
        ),
        ("mscoco/*2017", "drct-2m/*/*2017"),
    ),
    # All photographs stand against each generator. No signs: a folder may have been forgotten, too.
    "community_forensics": Layout(apart(("*/real", "{*}/fake"))),
    "synthbuster": Layout(
        apart(
            (_RAISE, f"{{{_SYNTHBUSTER}}}"),
            (_RAISE, f"synthbuster/{{{_SYNTHBUSTER}}}"),
        ),
        (_RAISE, f"{_SYNTHBUSTER}|synthbuster"),
    ),
}
LAYOUTS: Registry[Layout] = Registry(
    "layout of labelled folders",
    {
        "pairs": Layout(_pairs),
        "splits": Layout(_splits),
        "genimage": Layout(_pairs, ("*/val/nature",)),
        "forensynths": Layout(_splits, ("test/progan", "test/stylegan2", "test/whichfaceisreal")),
        "wildrf": Layout(_splits, ("test/reddit", "test/twitter", "test/facebook")),
        "aigibench": Layout(_splits, ("test/communityai", "test/socialrf")),
        **_APART,
    },
)
