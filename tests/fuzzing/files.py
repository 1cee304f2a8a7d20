"""Hostile files, grown from real ones: flipped, cut, spliced, with lengths and links that lie.

`hostile_files` makes any number of them, the same for the same seed, of all `KINDS`.
"""

import functools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from tests.fuzzing.bombs import BOMBS
from tests.fuzzing.exif import MUTATIONS, Mutation, find_fields
from tests.fuzzing.seeds import EXTREMES, crafted_seeds, png_chunks, segments, with_checksums

# Any format


def _place(rng: Generator, data: bytes) -> int:
    """Returns a position, half of the time in the first kilobyte, where the headers are."""
    return int(rng.integers(min(len(data), 1024 if rng.integers(2) else 2**62) or 1))


def flipped_bits(rng: Generator, data: bytes) -> bytes:
    """One to a hundred bits flipped."""
    out = bytearray(data)
    for _ in range(int(np.exp(rng.uniform(0, np.log(100))))):
        out[_place(rng, data)] ^= 1 << int(rng.integers(8))
    return bytes(out)


def edited(rng: Generator, data: bytes) -> bytes:
    """One to eight runs of bytes overwritten, put in, taken out or repeated."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        at, size = _place(rng, out), int(rng.choice([1, 2, 4, 64, 1000]))
        new = (rng.bytes(size), bytes(size), b"\xff" * size)[rng.integers(3)]
        match rng.integers(4):
            case 0:
                out[at : at + size] = new
            case 1:
                out[at:at] = new
            case 2:
                del out[at : at + size]
            case _:
                out[at:at] = out[at : at + size] * int(rng.integers(1, 200))
    return bytes(out)


def truncated(rng: Generator, data: bytes) -> bytes:
    """Cut short anywhere."""
    return data[: _place(rng, data)]


# Lengths


def _put(data: bytes, at: int, kind: str, value: int) -> bytes:
    return data[:at] + struct.pack(kind, value) + data[at + struct.calcsize(kind) :]


def jpeg_length(rng: Generator, data: bytes) -> bytes:
    """A segment of a JPEG with another length."""
    starts = [start for _, start, _ in segments(data)]
    if not starts:
        return data
    length = int(rng.choice([0, 1, 2, 3, 8, 65_535, int(rng.integers(65_536))]))
    return _put(data, int(rng.choice(starts)) + 2, ">H", length)


def png_length(rng: Generator, data: bytes) -> bytes:
    """A chunk of a PNG with another length, with the checksums repaired or not."""
    start, length = png_chunks(data)[int(rng.integers(len(png_chunks(data))))]
    new = int(rng.choice([*EXTREMES, max(0, length - 1), length + 1]))
    data = _put(data, start - 8, ">L", new)
    return with_checksums(data) if rng.integers(2) else data


def png_field(rng: Generator, data: bytes) -> bytes:
    """Bytes of a PNG's chunks changed, with right checksums."""
    out, chunks = bytearray(data), png_chunks(data)
    for _ in range(int(rng.integers(1, 5))):
        start, length = chunks[int(rng.integers(len(chunks)))]
        if length:
            out[start + int(rng.integers(min(length, 64)))] = int(rng.integers(256))
    return with_checksums(bytes(out))


def riff_length(rng: Generator, data: bytes) -> bytes:
    """A chunk of a WebP file with another length."""
    sizes, at = [4], 12
    while at + 8 <= len(data):
        sizes.append(at + 4)
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return _put(data, int(rng.choice(sizes)), "<L", int(rng.choice(EXTREMES)))


def _boxes(data: bytes, start: int, end: int) -> Iterator[int]:
    """Yields the places of the sizes of an ISO media file's boxes, also of those within boxes."""
    while start + 8 <= end:
        size, name = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        yield start
        if name in (b"meta", b"iprp", b"ipco", b"iinf", b"iref"):
            header = {b"meta": 12, b"iinf": 14, b"iref": 12}.get(name, 8)
            yield from _boxes(data, start + header, min(end, start + size))
        start += max(size, 8)


def box_size(rng: Generator, data: bytes) -> bytes:
    """A box of a HEIC or AVIF file with another size."""
    at = int(rng.choice(list(_boxes(data, 0, len(data)))))
    return _put(data, at, ">L", int(rng.choice([*EXTREMES, int(rng.integers(2**12))])))


def box_content(rng: Generator, data: bytes) -> bytes:
    """Numbers in the boxes of a HEIC or AVIF file changed: sizes, offsets, references."""
    out = bytearray(data)
    end = max(64, data.find(b"mdat"))
    for _ in range(int(rng.choice([1, 1, 2, 8]))):
        at = int(rng.integers(8, end))
        out[at : at + 4] = struct.pack(">L", int(rng.choice(EXTREMES)))[: int(rng.integers(1, 5))]
    return bytes(out[: len(data)])


# All kinds


class _Kind(NamedTuple):
    """How often a kind is made, of which seeds, and how.

    Attributes:
        rounds: in so many of `_ROUNDS` rounds one is made.
        family: of the seed, see `_families`.
        mutate: seed -> hostile file; None: the beginning of one and the end of another.
    """

    rounds: int
    family: str
    mutate: Mutation | None


_ROUNDS = 12


def _bomb(make: Callable[[Generator], bytes]) -> _Kind:
    return _Kind(1, "any", lambda rng, seed: make(rng))


_KINDS: Mapping[str, _Kind] = {
    "flipped_bits": _Kind(12, "any", flipped_bits),
    "edited": _Kind(12, "any", edited),
    "truncated": _Kind(12, "any", truncated),
    "spliced": _Kind(12, "any", None),
    "jpeg_edited": _Kind(12, "jpeg", edited),
    "jpeg_length": _Kind(12, "jpeg", jpeg_length),
    "png_length": _Kind(6, "png", png_length),
    "png_field": _Kind(6, "png", png_field),
    "riff_length": _Kind(4, "riff", riff_length),
    "box_size": _Kind(6, "box", box_size),
    "box_content": _Kind(6, "box", box_content),
    "box_cut": _Kind(4, "box", truncated),
    "box_flipped": _Kind(6, "box", flipped_bits),
    "tiff_offset": _Kind(6, "tiff", MUTATIONS["wrong_offset"]),
    "tiff_count": _Kind(4, "tiff", MUTATIONS["absurd_count"]),
    **{f"exif_{name}": _Kind(8, "exif", mutate) for name, mutate in MUTATIONS.items()},
    **{name: _bomb(make) for name, make in BOMBS.items()},
}
KINDS = tuple(_KINDS)
"""Names of all kinds."""

EXPECTED: Mapping[str, frozenset[str]] = {
    **{kind: frozenset({"too_many_pixels"}) for kind in ("png_size", "jpeg_size")},
    "png_zeros": frozenset({"too_many_pixels", "no_usable_window", "out_of_memory", "timed_out"}),
    "exif_megabytes": frozenset({"exif_too_large"}),
    "empty": frozenset({"empty_file"}),
    **{kind: frozenset({"not_an_image"}) for kind in ("text", "pickled", "random_bytes")},
}
"""Reasons for which files of some kinds are rejected, all of them."""


def _families(data: bytes) -> Iterator[str]:
    """Yields what a seed can be used for."""
    starts = {b"\xff\xd8": "jpeg", b"\x89PNG": "png", b"II*\0": "tiff", b"RIFF": "riff"}
    yield from (family for start, family in starts.items() if data.startswith(start))
    if data[4:8] == b"ftyp":
        yield "box"
    if find_fields(data).entries:
        yield "exif"
    if not data.startswith(b"\xff\xd8"):
        yield "other"


def _by_family(seeds: Sequence[bytes]) -> dict[str, list[bytes]]:
    """Sorts the seeds by what they can be used for; where there are none, crafted ones serve."""
    sorted_seeds: dict[str, list[bytes]] = {}
    for group in (seeds, crafted_seeds()):
        missing = {"other", *(kind.family for kind in _KINDS.values())} - sorted_seeds.keys()
        for data in group:
            for family in missing.intersection(_families(data)):
                sorted_seeds.setdefault(family, []).append(data)
    return sorted_seeds


def hostile_files(seeds: Sequence[bytes], count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Makes hostile files; the first `len(KINDS)` of them are one of each kind.

    Args:
        seeds: healthy files of any format.
        count: files to make.
        seed: of all random choices.

    Yields:
        Kind, one of `KINDS`, and the file.
    """
    families = _by_family(seeds)
    rounds = [[n for n, kind in _KINDS.items() if kind.rounds > i] for i in range(_ROUNDS)]
    schedule = [name for names in rounds for name in names]
    for number in range(count):
        name = schedule[number % len(schedule)]
        yield name, _make(np.random.default_rng([seed, number]), name, families)


def hostile_file(rng: Generator, kind: str) -> bytes:
    """Makes one of `KINDS`, of a crafted photo."""
    return _make(rng, kind, _crafted_by_family())


@functools.cache
def _crafted_by_family() -> dict[str, list[bytes]]:
    return _by_family(crafted_seeds(side=256))


def _make(rng: Generator, name: str, families: Mapping[str, list[bytes]]) -> bytes:
    kind = _KINDS[name]
    family = kind.family
    if family == "any":  # half of them JPEG, however many the seeds of other formats are
        family = ("jpeg", "other")[int(rng.integers(2))]
    # HEIC and AVIF cannot be written everywhere; then other photos take their places.
    candidates = families.get(family, families["other"])
    chosen, other = (candidates[int(i)] for i in rng.integers(len(candidates), size=2))
    if kind.mutate is None:
        return truncated(rng, chosen) + other[_place(rng, other) :]
    return kind.mutate(rng, chosen)
