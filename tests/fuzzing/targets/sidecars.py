"""Sidecars: EXIF beside the photos, in all formats, with values and bytes changed."""

import bz2
import gzip
from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from data_pipelines.prepare.sidecars import load_sidecars
from data_pipelines.tags import parse_tags
from tests.fuzzing.target import Case, FoundError, Target, refused
from tests.fuzzing.texts import changed, damaged, dumped, text

_VALUES = {"Make": "Canon", "Model": "EOS 5D", "FNumber": 2.8, "ExposureTime": "1/60"}
_VALUES |= {"ISO": 100, "Flash": "Off, Did not fire", "FocalLength": "50.0 mm", "ApertureValue": 2}
_VALUES |= {"DateTimeOriginal": "2022:05:01 10:00:00", "OffsetTime": "+02:00", "MeteringMode": 5}
_FIELDS = [
    {"tagspace": "ExifIFD", "tag": name, "raw": {"_content": value}, "clean": {"_content": "x"}}
    for name, value in _VALUES.items()
]
_ROW = {f"c{i}": i for i in range(3)} | dict.fromkeys("abcdefghijklmn", 0)
_SAMPLES = (
    [{"SourceFile": "photos/IMG_1.jpg", **_VALUES}, {"SourceFile": "2.jpg", "EXIF": _VALUES}],
    [{"SourceFile": "IMG_1.jpg", **{k: {"id": 1, "val": v} for k, v in _VALUES.items()}}],
    {"photo": {"id": "12345678", "exif": _FIELDS}, "stat": "ok"},
    {"12345678": _FIELDS, "87654321": {"exif": _FIELDS}},
    {"photos/IMG_1.jpg": list(range(17)), "87654321_s.jpg": _ROW},
)
_LINES = "12345678\tExif+SubIFD.Focal+Length:50.0+mm,Exif+IFD0.Make:Canon,Exif.ISO:100,%41%zz:%"
NAMES = ("photos/IMG_1.jpg", "photos/12345678_abc_o.jpg", "87654321_s.jpg", "a/2.jpg", "b/2.jpg")


def make(rng: Generator) -> Case:
    """One or two files of known kinds, changed, compressed or not."""
    files: Case = {}
    for index in range(int(rng.choice([1, 1, 1, 2]))):
        suffix = ".json"
        if rng.integers(6) == 0:
            line = _LINES.replace("50.0", text(rng)) if rng.integers(2) else _LINES
            data, suffix = line.encode("utf-8", "surrogatepass") * int(rng.integers(1, 3)), ".txt"
        else:
            value = _SAMPLES[int(rng.integers(len(_SAMPLES)))]
            value = changed(rng, value) if rng.integers(8) else value
            if isinstance(value, list) and rng.integers(4) == 0:
                data, suffix = b"\n".join(map(dumped, value)), ".jsonl"
            else:
                data = dumped(value)
        if rng.integers(4) == 0:
            data = damaged(rng, data)
        if rng.integers(8) == 0:
            data = data.decode("utf-8", "replace").encode("utf-16")
        if rng.integers(6) == 0:
            compress, more = ((gzip.compress, ".gz"), (bz2.compress, ".bz2"))[int(rng.integers(2))]
            data, suffix = compress(data), suffix + more
            data = damaged(rng, data) if rng.integers(3) == 0 else data
        files[f"{('IMG_1', 'all')[int(rng.integers(2))]}{index}{suffix}"] = data
    return files


def run(case: Case, folder: Path) -> str:
    """Reads them, as a folder or each by its name; what is kept is used and written."""
    for name, data in case.items():
        (folder / name).write_bytes(data)
    outcome = "refused"
    for given in ([folder], [folder / name for name in case]):
        try:
            known = load_sidecars(given, NAMES)
        except UserError as error:
            refused(error)
            continue
        outcome = "read"
        for entry in known.entries.values():
            parse_tags(entry.raw)
            dumped({"raw": entry.raw, "coded": entry.coded})
        for key in known.unmatched:
            if not key.isprintable():
                raise FoundError(f"a key: {key!r}")
    return outcome


TARGET = Target(make, run, cases=500)
