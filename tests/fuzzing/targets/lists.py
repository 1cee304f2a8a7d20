"""Lists of files: .txt and .lst, with patterns, archives, missing and impossible paths."""

import contextlib
import os
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.sources import find_files, read_item
from exif_jax.cli.detect import find_named
from tests.fuzzing.target import Case, Target, refused
from tests.fuzzing.texts import damaged, name, text

_LINES = (
    *(
        b"",
        b"# a comment",
        b"a.jpg",
        b"./a.jpg",
        b"sub/b.png",
        b"sub",
        b"*.jpg",
        b"**",
        b"**/*.png",
    ),
    *(b"[", b"[a-", b"sub/*", b"sub/**/b.png", b"~/a.jpg", b"~nobody/a.jpg", b"none.jpg", b"/"),
    *(b"list.txt", b"list.lst", b"a.zip", b"none.tar", b"/dev/null", b"x" * 300, b"y/" * 3000),
    *(b"y://", b"file:///a.jpg", b"x://a.jpg", b"x:///a/b.jpg", b"gs:/a", b"://", b"C:\\a.jpg"),
    *(b"y://a/\xff.jpg", b"z://", b"x+y://x", b"y://../x.jpg", b"a.jpg/b.jpg", b".", b".."),
)


def make(rng: Generator) -> Case:
    """Lines, and a list's name; also sources given by themselves."""
    lines = []
    for _ in range(int(rng.integers(1, 8))):
        match rng.integers(4):
            case 0:
                lines.append(name(rng))
            case 1:
                lines.append(text(rng).encode("utf-8", "surrogatepass"))
            case _:
                lines.append(_LINES[int(rng.integers(len(_LINES)))])
    data = (b"\n", b"\r\n", b"\r")[int(rng.choice([0, 0, 0, 1, 2]))].join(lines)
    if rng.integers(8) == 0:
        data = b"\xef\xbb\xbf" + data
    if rng.integers(10) == 0:
        data = data.decode("utf-8", "replace").encode("utf-16")
    if rng.integers(6) == 0:
        data = damaged(rng, data)
    return {("list.txt", "list.lst", "source")[int(rng.integers(3))]: data}


def run(case: Case, folder: Path) -> str:
    """Finds and reads what they name; nothing remote is reached."""
    (folder / "sub").mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    (folder / "sub" / "b.png").write_bytes(b"b")
    outcome = "empty"
    for file, data in case.items():
        data = _inside(data)
        source = str(folder / file)
        if file == "source":
            given = data.split(b"\n")[0].replace(b"\0", b"").decode("utf-8", "surrogateescape")
            source = given if "://" in given else f"{folder}/{given}"
        else:
            (folder / file).write_bytes(data)
        outcome = "refused"
        for find in (find_files, find_named):
            try:
                found = find([source]).items
            except UserError as error:
                refused(error, [source, os.path.normpath(source)])

                continue
            outcome = "found"
            for item in found:
                item.name.encode()
                with contextlib.suppress(ImageError):
                    read_item(item, max_bytes=2**20)
    return outcome


def _inside(data: bytes) -> bytes:
    """Without what would list all of this disk."""
    data = data.replace(b"..", b"._")
    lines = data.replace(b"\r", b"\n").split(b"\n")
    roots = (b"/", b"/.", b"//", b"~", b"~root", b"~/", b"/*", b"/**")
    return (
        data.replace(b"/", b"_").replace(b"~", b"_")
        if set(map(bytes.strip, lines)) & set(roots)
        else data
    )


TARGET = Target(make, run, cases=300)
