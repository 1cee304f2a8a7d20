"""CSV lists of labelled images: columns, cells and bytes of any kind."""

import csv
import io
import os
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.labelled import find_test_sets, labelled_images
from tests.fuzzing.seeds import crafted_photo, encode
from tests.fuzzing.target import Case, Target, refused
from tests.fuzzing.texts import damaged, name, text

_HEADERS = ("path,label", "label,path", "Path , LABEL,test_set,group", "path,label,x", "path", "")
_LABELS = ("0", "1", "0", "1", " 1 ", "2", "-1", "real", "", "1.0", "true", "１")  # noqa: RUF001
_PATHS = ("a.jpg", "b.jpg", "./a.jpg", "sub/../a.jpg", "none.jpg", "", "~/x.jpg", "~nobody/x", ".")
_PATHS += ("x" * 5000, "a\0.jpg", "x://b/x.jpg", "/dev/null", "a.jpg/b.jpg", '"', "a,b.jpg")
_PHOTO = encode(crafted_photo(side=64), "JPEG")


def make(rng: Generator) -> Case:
    """A header and rows, mostly well-formed."""
    header = _HEADERS[int(rng.choice([0, 0, 0, 1, 2, 3, 4, 5]))]
    file = io.StringIO()
    delimiter = (",", ";", "\t")[rng.integers(3)]
    writer = csv.writer(
        file, delimiter=delimiter, lineterminator=("\n", "\r\n", "\r")[rng.integers(3)]
    )
    writer.writerow(header.split(","))
    if rng.integers(4):  # so that a good list becomes of it, if nothing else is wrong
        header = _HEADERS[0]
        file = io.StringIO("path,label,test_set\na.jpg,0\nb.jpg,1\n")
        file.seek(0, io.SEEK_END)
        writer = csv.writer(file, lineterminator="\n")
    for _ in range(int(rng.integers(1, 8))):
        path = _PATHS[int(rng.integers(len(_PATHS)))] if rng.integers(3) else f"{len(_PATHS)}.jpg"
        if rng.integers(6) == 0:
            path = os.fsdecode(name(rng))
        row = [path, _LABELS[int(rng.integers(len(_LABELS)))]]
        row = row[::-1] if header.startswith("label") else row
        row += [text(rng) for _ in range(int(rng.integers(4)) if rng.integers(3) == 0 else 0)]
        try:
            writer.writerow(row)
        except csv.Error:
            continue
    data = file.getvalue().encode("utf-8", "surrogatepass")
    if rng.integers(4) == 0:
        data = damaged(rng, data)
    if rng.integers(10) == 0:
        data = data.decode("utf-8", "replace").encode("utf-16")
    return {"list.csv": data}


def run(case: Case, folder: Path) -> str:
    """Finds the test sets and their images, with what EXIF says of bursts."""
    for file in ("a.jpg", "b.jpg"):
        (folder / file).write_bytes(_PHOTO)
    data = case.get("list.csv", b"")
    (folder / "list.csv").write_bytes(data)
    try:
        sets = find_test_sets(folder / "list.csv")
        for test_set in sets:
            test_set.name.encode()
        labelled_images(sets, bursts=True)
    except UserError as error:
        refused(error, [data.decode("utf-8", "surrogateescape"), "\n"])
        return "refused"
    return "read"


TARGET = Target(make, run, cases=300)
