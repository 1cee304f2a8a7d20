"""Trees of labelled folders: half pairs, empty classes, links in circles, files in odd places."""

import os
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.labelled import find_test_sets, labelled_images
from tests.fuzzing.seeds import crafted_photo, encode
from tests.fuzzing.target import Case, Target, refused
from tests.fuzzing.texts import name

_FOLDERS = (b"0_real", b"1_fake", b"Real", b"fake", b"nature", b"AI", b"0_REAL", b"a", b".hidden")
_LINK = b"link to "
_PHOTO = encode(crafted_photo(side=64), "JPEG")


def make(rng: Generator) -> Case:
    """Paths to photos, to texts, to nothing (folders) or to links."""
    tree: Case = {}
    if rng.integers(2):  # so that there is something to find
        tree = {"a/0_real/a.jpg": _PHOTO, "a/1_fake/b.jpg": _PHOTO}
    for _ in range(int(rng.integers(1, 9))):
        parts = [
            name(rng) if rng.integers(6) == 0 else _FOLDERS[int(rng.integers(len(_FOLDERS)))]
            for _ in range(int(rng.integers(1, 4)))
        ]
        content = (_PHOTO, _PHOTO, b"", b"text", _LINK + b"..", _LINK + b".", _LINK + b"none")
        leaf = name(rng, b".jpg") if rng.integers(3) else b""  # none: a folder
        path = os.fsdecode(b"/".join([*parts, leaf]))
        tree[path] = content[int(rng.integers(len(content)))]
    return tree


def put(tree: Case, folder: Path) -> None:
    """Makes the tree, as far as a disk takes it."""
    for path, content in tree.items():
        try:
            target = folder / path
            if path.endswith("/") and not content.startswith(_LINK):
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if content.startswith(_LINK):
                target.symlink_to(os.fsdecode(content.removeprefix(_LINK)))
            else:
                target.write_bytes(content)
        except OSError:  # a file where a folder is, and so on
            continue


def run(case: Case, folder: Path) -> str:
    """Finds the test sets and their images, with what EXIF says of bursts."""
    tree = folder / "tree"  # links lead up to the folder above it
    tree.mkdir()
    put(case, tree)
    try:
        sets = find_test_sets(tree)
        for test_set in sets:
            test_set.name.encode()
        labelled_images(sets, bursts=True)
    except UserError as error:
        refused(error, [*map(str, tree.rglob("*")), *(x.name for x in tree.rglob("*"))])
        return "refused"
    return f"{min(len(sets), 2)} sets{' or more' * (len(sets) > 1)}"


TARGET = Target(make, run, cases=300)
