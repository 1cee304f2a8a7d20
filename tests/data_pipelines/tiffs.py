"""TIFF containers by hand, as raw formats and ordinary photos use them."""

import struct
from typing import Any

import numpy as np
from PIL import Image

from tests.data_pipelines.jpegs import scene

Field = tuple[int, int, tuple[int, ...]]
"""Tag, type (1 byte, 2 text, 3 short, 4 long) and values."""
_FORMS = {1: "B", 2: "B", 3: "H", 4: "L", 13: "L", 16: "Q"}
CFA, LINEAR, RGB, GREY = 32803, 34892, 2, 1


def text(tag: int, value: str) -> Field:
    return tag, 2, tuple(value.encode() + b"\0")


def picture(
    image: Image.Image, *more: Field, photometric: int = RGB, compression: int = 1
) -> tuple[list[Field], bytes]:
    """The fields and pixels of a directory; the pixels' place is filled in by `tiff`."""
    pixels = np.asarray(image)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    fields: list[Field] = [
        (256, 4, (image.width,)),
        (257, 4, (image.height,)),
        (258, 3, (8,) * channels),
        (259, 3, (compression,)),
        (262, 3, (photometric,)),
        (277, 3, (channels,)),
        (278, 4, (image.height,)),
        (279, 4, (pixels.size,)),
    ]
    return [*fields, *more], pixels.tobytes()


def tiff(
    *chain: tuple[list[Field], bytes],
    subs: tuple[tuple[list[Field], bytes], ...] = (),
    order: str = "<",
    big: bool = False,
    magic: bytes = b"",
) -> bytes:
    """A file of directories that follow each other; `subs` are the first one's own."""
    offsets = "Q" if big else "L"
    start = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}H", 43 if big else 42)
    out = bytearray(start + (struct.pack(f"{order}HHQ", 8, 0, 0) if big else bytes(4)) + magic)
    out += bytes(len(out) % 2)
    places = [_write(out, *sub, order, offsets) for sub in subs]
    pointer = 8 if big else 4
    for index, (fields, pixels) in enumerate(chain):
        if subs and index == 0:
            fields = [*fields, (330, 16 if big else 4, tuple(places))]
        place = _write(out, fields, pixels, order, offsets)
        struct.pack_into(order + offsets, out, pointer, place)
        pointer = len(out) - struct.calcsize(f"={offsets}")
    return bytes(out)


def _write(out: bytearray, fields: list[Field], pixels: bytes, order: str, offsets: str) -> int:
    """Appends pixels, long values and a directory; returns where that begins."""
    fields = sorted([*fields, (273, 4, (len(out),))])
    out += pixels
    room, entries = struct.calcsize(f"={offsets}"), b""
    for tag, kind, values in fields:
        data = struct.pack(f"{order}{len(values)}{_FORMS[kind]}", *values)
        if len(data) > room:
            place = struct.pack(order + offsets, len(out))
            out += data + bytes(len(data) % 2)
            data = place
        entries += struct.pack(f"{order}HH{offsets}", tag, kind, len(values)) + data.ljust(
            room, b"\0"
        )
    out += bytes(len(out) % 2)
    place = len(out)
    out += struct.pack(order + ("Q" if room == 8 else "H"), len(fields)) + entries + bytes(room)
    return place


REDUCED: Field = (254, 4, (1,))
FULL: Field = (254, 4, (0,))
MAKE = text(271, "Canon")
_PREVIEW, _SENSOR = scene(300, 280), scene(600, 560).convert("L")
_PLAIN = picture(_PREVIEW, MAKE)
_RAW = picture(_SENSOR, FULL, photometric=CFA)


def _changed(data: bytes, start: bytes) -> bytes:
    return start + data[len(start) :]


RAW: dict[str, bytes] = {
    "NEF: a preview and the sensor below it": tiff(picture(_PREVIEW, MAKE, REDUCED), subs=(_RAW,)),
    "big-endian": tiff(picture(_PREVIEW, MAKE, REDUCED), subs=(_RAW,), order=">"),
    "a preview that is not called reduced": tiff(_PLAIN, subs=(_RAW,)),
    "BigTIFF": tiff(_PLAIN, subs=(_RAW,), big=True),
    "the sensor in the second directory": tiff(_PLAIN, _RAW),
    "the sensor in the third": tiff(_PLAIN, picture(_PREVIEW, REDUCED), _RAW),
    "DNG": tiff(picture(_PREVIEW, MAKE, (50706, 1, (1, 4, 0, 0)))),
    "linear DNG": tiff(_PLAIN, subs=(picture(_PREVIEW, photometric=LINEAR),)),
    "CR2": tiff(_PLAIN, magic=b"CR\x02\0\0\0\0\0"),
    "IIQ": tiff(_PLAIN, magic=b"IIII\x0fwaR"),
    "IIQ, big-endian": tiff(_PLAIN, order=">", magic=b"MMMMRaw\x0f"),
    "a compression of Sony's": tiff(_PLAIN, picture(_SENSOR, compression=32767, photometric=GREY)),
    "a compression of Nikon's": tiff(_PLAIN, subs=(picture(_SENSOR, compression=34713),)),
    "Pentax": tiff(picture(_PREVIEW, MAKE, compression=65535, photometric=CFA)),
    "reduced, by the older field": tiff(picture(_PREVIEW, MAKE, (255, 3, (2,)))),
    "reduced, and nothing else": tiff(picture(_PREVIEW, MAKE, REDUCED)),
    "a larger one below": tiff(_PLAIN, subs=(picture(scene(600, 560)),)),
    "RW2": _changed(tiff(_PLAIN), b"IIU\0"),
    "ORF": _changed(tiff(_PLAIN), b"IIRO"),
    "ORF, big-endian": _changed(tiff(_PLAIN, order=">"), b"MMOR"),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(900),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(900),
    "X3F": b"FOVb" + bytes(900),
}

_PAGES: dict[str, Any] = {"several pages": (_PLAIN, picture(scene(400, 300)), picture(_PREVIEW))}
PHOTOS: dict[str, bytes] = {
    "one page": tiff(_PLAIN),
    "one page, called full": tiff(picture(_PREVIEW, MAKE, FULL)),
    "one page, big-endian": tiff(_PLAIN, order=">"),
    "one page, BigTIFF": tiff(_PLAIN, big=True),
    "a page of several": tiff(picture(_PREVIEW, MAKE, (254, 4, (2,)))),
    "a larger page behind it": tiff(_PLAIN, picture(scene(600, 560))),
    "a thumbnail behind it": tiff(_PLAIN, picture(scene(64, 64), REDUCED)),
    "a pyramid below it": tiff(_PLAIN, subs=(picture(scene(150, 140), REDUCED),)),
    "grey": tiff(picture(scene(300, 280).convert("L"), MAKE, photometric=GREY)),
    "a directory that leads nowhere": tiff(picture(_PREVIEW, MAKE, (330, 4, (2**32 - 5,)))),
    "directories that lead to each other": tiff(picture(_PREVIEW, MAKE, (330, 4, (8, 8, 8)))),
    "pixels that begin like text": tiff(picture(_PREVIEW, MAKE), magic=b"My  Raw photo   "),
    **{name: tiff(*pages) for name, pages in _PAGES.items()},
}
