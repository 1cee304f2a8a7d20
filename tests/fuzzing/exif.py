"""EXIF that lies: cycles, absurd counts, wrong types and places, in any format, changed in place.

The mutations work on the first TIFF structure of a file: EXIF in JPEG, PNG, WebP, HEIC and AVIF, or
a TIFF image itself.
"""

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.random import Generator

from tests.fuzzing.seeds import EXTREMES, PNG_STARTS, with_checksums

Mutation = Callable[[Generator, bytes], bytes]

_POINTERS = (0x8769, 0x8825, 0xA005)  # camera, place, interoperability directories
_MOST_ENTRIES = 200  # a directory with more is none
_TIFF_STARTS = (b"II*\0", b"MM\0*")


class Fields(NamedTuple):
    """Where things are in EXIF, in bytes from the start of the file.

    Attributes:
        order: "<" or ">".
        base: of the TIFF header, from which its offsets count.
        directories: starts.
        entries: starts of the 12-byte fields.
        links: places of the offsets of the following directories.
    """

    order: str
    base: int
    directories: list[int]
    entries: list[int]
    links: list[int]

    def unpack(self, kind: str, data: bytes | bytearray, at: int) -> Any:
        return struct.unpack_from(self.order + kind, data, at)

    def put(self, out: bytearray, kind: str, at: int, value: int) -> None:
        if at + struct.calcsize(f"={kind}") <= len(out):
            struct.pack_into(self.order + kind, out, at, value)

    def some(self, rng: Generator) -> list[int]:
        """One to all of the entries."""
        count = int(rng.choice([1, 1, 2, 4, len(self.entries)]))
        return [int(entry) for entry in rng.choice(self.entries, count)]

    def directory(self, rng: Generator) -> int:
        """The offset of one of the directories."""
        return self.directories[int(rng.integers(len(self.directories)))] - self.base


def find_fields(data: bytes) -> Fields:
    """Finds the first TIFF structure in a file of any format."""
    base = min((at for s in _TIFF_STARTS if (at := data.find(s)) >= 0), default=len(data))
    order = "<" if data[base : base + 1] == b"I" else ">"
    fields = Fields(order, base, [], [], [])
    pending = [int.from_bytes(data[base + 4 : base + 8], "little" if order == "<" else "big")]
    while pending and len(fields.directories) < 8:
        start = base + pending.pop()
        if start + 2 > len(data) or start in fields.directories:
            continue
        (count,) = fields.unpack("H", data, start)
        end = start + 2 + 12 * count
        if count > _MOST_ENTRIES or end + 4 > len(data):
            continue
        fields.directories.append(start)
        fields.entries.extend(range(start + 2, end, 12))
        fields.links.append(end)
        for entry in range(start + 2, end, 12):
            tag, _, _, value = fields.unpack("HHLL", data, entry)
            if tag in _POINTERS:
                pending.append(value)
        pending.extend(fields.unpack("L", data, end))
    return fields


def cycle(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Directories that lead to themselves or to each other."""
    for link in fields.links:
        fields.put(out, "L", link, fields.directory(rng))


def pointer_cycle(rng: Generator, out: bytearray, fields: Fields) -> None:
    """The camera's directory is the main one; other fields are turned into pointers as well."""
    chosen = set(fields.some(rng)) if rng.integers(2) else set()
    for entry in fields.entries:
        (tag,) = fields.unpack("H", out, entry)
        if tag in _POINTERS or entry in chosen:
            pointers = [tag] if tag in _POINTERS else _POINTERS
            fields.put(out, "H", entry, int(rng.choice(pointers)))
            fields.put(out, "H", entry + 2, int(rng.choice([4, 4, 13, 3])))
            fields.put(out, "L", entry + 4, 1)
            fields.put(out, "L", entry + 8, fields.directory(rng))


def absurd_count(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Fields of billions of elements of any type, whose size overflows 32 bits."""
    for entry in fields.some(rng):
        if rng.integers(2):
            fields.put(out, "H", entry + 2, int(rng.integers(1, 14)))
        fields.put(out, "L", entry + 4, int(rng.choice(EXTREMES)))


def wrong_type(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Fields of another type, or of one that does not exist."""
    for entry in fields.some(rng):
        fields.put(out, "H", entry + 2, int(rng.choice([*range(18), 255, 65_535])))


def wrong_offset(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Fields whose values are elsewhere, or nowhere; TIFF strips among them."""
    for entry in fields.some(rng):
        fields.put(out, "L", entry + 8, int(rng.choice([*EXTREMES, int(rng.integers(2**16))])))


def duplicated(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Fields that are there twice, and others gone."""
    for entry in fields.some(rng):
        source = fields.entries[int(rng.integers(len(fields.entries)))]
        out[entry : entry + 12] = out[source : source + 12]


def wrong_tag(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Values of wanted tags that belong to others."""
    tags = (0x010F, 0x0110, 0x829A, 0x829D, 0x8827, 0x9003, 0x9209, 0x920A, 0xA300, 0xA405)
    for entry in fields.some(rng):
        fields.put(out, "H", entry, int(rng.choice(tags)))


def number_of_fields(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Directories that count their fields wrong."""
    for start in fields.directories:
        fields.put(out, "H", start, int(rng.choice([0, 1, 99, 32_767, 65_535])))


def rationals(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Fractions that are huge, negative, or divided by zero."""
    for entry in fields.entries:
        _, kind, _, value = fields.unpack("HHLL", out, entry)
        if kind in (5, 10):
            if rng.integers(2):
                fields.put(out, "H", entry + 2, 15 - kind)  # signed and unsigned change places
            for part in (0, 4):
                fields.put(out, "L", fields.base + value + part, int(rng.choice(EXTREMES)))


def endless_text(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Texts without end, of bytes that are no text."""
    for entry in fields.entries:
        _, kind, count, value = fields.unpack("HHLL", out, entry)
        if kind == 2:
            at = fields.base + value if count > 4 else entry + 8
            size = max(0, min(count, len(out) - at, 4096))
            out[at : at + size] = (rng.bytes(size), b"\xff" * size, b" " * size)[rng.integers(3)]
            if rng.integers(2):
                fields.put(out, "L", entry + 4, int(rng.integers(1, 2**16)))


def noise(rng: Generator, out: bytearray, fields: Fields) -> None:
    """Bytes of the fields changed."""
    for entry in fields.some(rng):
        out[entry + int(rng.integers(12))] = int(rng.integers(256))


def _in_place(change: Callable[[Generator, bytearray, Fields], None]) -> Mutation:
    """Makes a mutation of what changes EXIF in place; PNG checksums stay right."""

    def mutate(rng: Generator, data: bytes) -> bytes:
        fields = find_fields(data)
        if not fields.entries:
            return data[: len(data) // 2]  # nothing to change: any damage will do
        out = bytearray(data)
        change(rng, out, fields)
        changed = bytes(out[: len(data)])
        return with_checksums(changed) if data.startswith(PNG_STARTS) else changed

    return mutate


MUTATIONS: dict[str, Mutation] = {
    change.__name__: _in_place(change)
    for change in (
        *(cycle, pointer_cycle, absurd_count, wrong_type, wrong_offset, duplicated),
        *(wrong_tag, number_of_fields, rationals, endless_text, noise),
    )
}
"""All of them by name."""
