"""Telling raw files of cameras, whatever they are called: what decoders show of them is a preview.

Most raw formats (DNG, NEF, CR2, ARW, PEF, SRW, 3FR, ...) are TIFF containers. A TIFF reader takes
their first directory for the photo, which is a preview, mostly of reduced size; the sensor's values
lie in another one. Other formats have a beginning of their own.

Numbers are those of TIFF 6.0, TIFF/EP (ISO 12234-2) and the DNG specification.
"""

import itertools
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

_BEGINNINGS: Final = {
    b"IIRO": "Olympus ORF",
    b"IIRS": "Olympus ORF",
    b"MMOR": "Olympus ORF",
    b"IIU\0": "Panasonic RW2",
    b"FUJIFILMCCD-RAW": "Fujifilm RAF",
    b"FOVb": "Sigma X3F",
    b"\0MRM": "Minolta MRW",
    b"II\x1a\0\0\0HEAPCCDR": "Canon CRW",
}
"""First bytes of raw formats -> their name."""
_CR2: Final = b"CR\x02"  # at 8, in a TIFF file
_CR3: Final = b"ftypcrx "  # at 4

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE = 254, 255
_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 256, 257, 259, 262
_SUB_DIRECTORIES, _DNG_VERSION = 330, 50706
_TAGS: Final = frozenset(
    {_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC}
    | {_SUB_DIRECTORIES, _DNG_VERSION}
)
_SENSOR: Final = {32803: "values of a colour filter array", 34892: "linear values of the sensor"}
"""Photometric interpretations that no picture for people has."""
# Sony, packed, Samsung, Nikon, lossy DNG, Kodak DCR, Pentax
_RAW_COMPRESSIONS: Final = frozenset({32767, 32769, 32770, 34713, 34892, 65000, 65535})
_FORMATS: Final = {1: "B", 3: "H", 4: "L", 13: "L", 16: "Q", 18: "Q"}
"""Codes of TIFF's whole numbers -> those of `struct`."""
_MAX_DIRECTORIES: Final = 64
"""More are not looked at, in all; no raw file has as many."""
_MAX_ENTRIES: Final = 2**12
_MAX_VALUES: Final = 16


class _Layout(NamedTuple):
    """How a TIFF file writes numbers: byte order, and whether offsets have eight bytes."""

    order: str
    is_big: bool


Directory = dict[int, tuple[int, ...]]


def raw_file(data: bytes) -> str:
    """Returns what tells that a file is a camera's raw file, "" if nothing does; never raises."""
    for beginning, name in _BEGINNINGS.items():
        if data.startswith(beginning):
            return name
    if data[4:12] == _CR3:
        return "Canon CR3"
    layout = _layout_of(data)
    if layout is None:
        return ""
    if data[8:11] == _CR2:
        return "Canon CR2"
    if data[8:12] in (b"IIII", b"MMMM") and b"waR" in (data[13:16], data[14:11:-1]):
        return "Phase One IIQ"
    return _told_by_directories(data, layout)


def _told_by_directories(data: bytes, layout: _Layout) -> str:
    """What the directories of a TIFF file tell, the first of which is what decoders show."""
    seen: set[int] = set()
    chain = list(_chain(data, layout, seen))
    below = [list(_below(data, layout, directory, seen)) for directory in chain]
    for directory in itertools.chain(chain, *below):
        if _DNG_VERSION in directory:
            return "DNG"
        photometric = _number(directory, _PHOTOMETRIC)
        if photometric in _SENSOR:
            return f"a TIFF file with {_SENSOR[photometric]}"
        if _number(directory, _COMPRESSION) in _RAW_COMPRESSIONS:
            return "a TIFF file with a raw format's compression"
    for first, subs in zip(chain[:1], below[:1], strict=True):
        if _number(first, _NEW_SUBFILE_TYPE) & 1 or _number(first, _SUBFILE_TYPE) == 2:
            return "a TIFF file whose first picture is a reduced one"
        if any(_area(sub) > _area(first) for sub in subs):
            return "a TIFF file whose first picture has a larger one below it"
    return ""


def _layout_of(data: bytes) -> _Layout | None:
    """As Pillow reads the header, also where its number stands in the other order."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    kinds = {b"*\0": False, b"\0*": False, b"+\0": True, b"\0+": True}
    if order is None or data[2:4] not in kinds:
        return None
    return _Layout(order, kinds[data[2:4]])


def _chain(data: bytes, layout: _Layout, seen: set[int]) -> Iterator[Directory]:
    """Yields the directories that follow each other from the header on."""
    position, kind = (8, "Q") if layout.is_big else (4, "L")
    while len(seen) < _MAX_DIRECTORIES:
        offset = next(iter(_unpack(data, layout.order + kind, position)), 0)
        if not offset or offset in seen:
            return
        seen.add(offset)
        directory, position = _read(data, layout, offset)
        yield directory


def _below(
    data: bytes, layout: _Layout, directory: Directory, seen: set[int]
) -> Iterator[Directory]:
    """Yields the directories that one names as its own, and those of these."""
    waiting = list(directory.get(_SUB_DIRECTORIES, ()))
    while waiting and len(seen) < _MAX_DIRECTORIES:
        offset = waiting.pop()
        if offset not in seen:
            seen.add(offset)
            found, _ = _read(data, layout, offset)
            waiting += found.get(_SUB_DIRECTORIES, ())
            yield found


def _read(data: bytes, layout: _Layout, offset: int) -> tuple[Directory, int]:
    """The wanted fields of a directory, and where the offset of the next one stands."""
    counts, entry = ("Q", "HHQ") if layout.is_big else ("H", "HHL")
    number = next(iter(_unpack(data, layout.order + counts, offset)), 0)
    start = offset + struct.calcsize(f"={counts}")
    size = struct.calcsize(f"={entry}") + (8 if layout.is_big else 4)
    directory: Directory = {}
    for i in range(min(number, _MAX_ENTRIES)):
        fields = _unpack(data, layout.order + entry, start + i * size)
        if not fields:
            break
        if fields[0] in _TAGS:
            place = start + i * size + struct.calcsize(f"={entry}")
            directory[fields[0]] = _values(data, layout, fields[1], fields[2], place)
    return directory, start + number * size


def _values(data: bytes, layout: _Layout, kind: int, count: int, place: int) -> tuple[int, ...]:
    """The first values of a field, which stand in its entry if there is room."""
    form = _FORMATS.get(kind)
    if form is None:
        return ()
    room = 8 if layout.is_big else 4
    if count * struct.calcsize(f"={form}") > room:
        place = next(iter(_unpack(data, layout.order + ("Q" if room == 8 else "L"), place)), 0)
    return _unpack(data, f"{layout.order}{min(count, _MAX_VALUES)}{form}", place)


def _unpack(data: bytes, form: str, place: int) -> tuple[int, ...]:
    """Numbers in the file; none where they lie outside."""
    return struct.unpack_from(form, data, place) if _is_inside(data, form, place) else ()


def _is_inside(data: bytes, form: str, place: int) -> bool:
    return place + struct.calcsize(form) <= len(data)


def _number(directory: Directory, tag: int) -> int:
    return next(iter(directory.get(tag, ())), 0)


def _area(directory: Directory) -> int:
    return _number(directory, _WIDTH) * _number(directory, _HEIGHT)
