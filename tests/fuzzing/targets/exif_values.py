"""EXIF values of any type and size in an otherwise healthy file."""

import struct
from pathlib import Path

from numpy.random import Generator

from data_pipelines.evidence import read_evidence
from data_pipelines.exif import CAMERA_FIELDS, MAIN_FIELDS, capture_key, exif_of_image
from data_pipelines.images import open_image
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import PreparedPhoto, read_photo, to_row
from data_pipelines.tags import parse_tags
from tests.fuzzing.seeds import (
    CAMERA,
    EXTREMES,
    crafted_photo,
    directory,
    encode,
    tiff_block,
    with_exif,
)
from tests.fuzzing.target import Case, FoundError, Target
from tests.fuzzing.texts import dumped, text

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TIMES = (0x0132, 0x9003, 0x9004, 0x9290, 0x9291, 0x9010, 0x9011, 0x882A)
_WORDS = (
    *(b"2022:05:01 10:00:00", b"2022:13:41 25:61:61", b"0000:00:00 00:00:00", b"    :  :     :  :"),
    *(
        b"9999:12:31 23:59:60",
        b"+25:99",
        b"-00:00",
        b"999999999999",
        b"Canon",
        b"NIKON CORPORATION",
    ),
    *(b"Canon EOS 700D", b"\xff\xfe\x00", b"\xe3\x81", b"", b" " * 400, b"ASCII\0\0\0x"),
)
_PHOTO = encode(crafted_photo(side=256), "JPEG", quality=90)


def _value(rng: Generator, kind: int) -> tuple[int, bytes]:
    if kind in (2, 7) and rng.integers(3):
        word = _WORDS[int(rng.integers(len(_WORDS)))]
        if rng.integers(4) == 0:
            word = text(rng).encode("utf-8", "surrogatepass")[:2000]
        word += b"\0" * int(rng.integers(3))
        return len(word), word
    count = int(rng.choice([0, 1, 1, 1, 1, 2, 3, 40]))
    size = count * _SIZES[kind]
    if rng.integers(3) == 0:
        return count, rng.bytes(size)
    numbers = b"".join(struct.pack("<L", int(rng.choice(EXTREMES))) for _ in range(size // 4 + 1))
    return count, numbers[:size]


def make(rng: Generator) -> Case:
    """A directory of the camera and a main one, of fields that are read, each with any value."""
    block: dict[str, bytes] = {}
    for part, fields in (("main", MAIN_FIELDS), ("camera", CAMERA_FIELDS)):
        known = sorted(fields)
        for tag in rng.choice(known, int(rng.integers(1, len(known) + 1)), replace=False).tolist():
            kind = int(rng.choice(list(_SIZES)))
            if tag in _TIMES and rng.integers(2):
                kind = 2
            count, value = _value(rng, kind)
            block[f"{part} {tag} {kind} {count}"] = value
    return block


def _entries(case: Case, part: str) -> list[tuple[int, int, int, bytes]]:
    keys = (name.split() for name in case if name.startswith(part))
    found = [(int(t), int(k), int(n), case[f"{part} {t} {k} {n}"]) for _, t, k, n in keys]
    return sorted(found)


def run(case: Case, folder: Path) -> str:
    """Everything that is read of EXIF, and that it can be kept."""
    main = _entries(case, "main")
    start = 8 + len(directory([*main, (CAMERA, 4, 1, bytes(4))], 8))
    camera = directory(_entries(case, "camera"), start)
    block = tiff_block([*main, (CAMERA, 4, 1, struct.pack("<L", start))]) + camera
    data = with_exif(_PHOTO, block)
    image = open_image(data)
    exif = exif_of_image(image)
    values = parse_tags(exif.raw)
    parse_tags(exif.raw, focal_length="35mm")
    capture_key(exif, values)
    for evidence in read_evidence("x.jpg", data):
        if "\n" in evidence.text or "not be read" in evidence.text:
            raise FoundError(f"evidence: {evidence.text}")
        dumped(evidence.to_json())
    photo = read_photo(data, Options(reject=()))
    dumped(to_row(photo))
    return "a photo" if isinstance(photo, PreparedPhoto) else photo.reason


TARGET = Target(make, run, cases=300)
