"""Small files that ask for much: images whose headers lie, data that inflate, endless structures.

Each function makes one kind, given random numbers for what it leaves open. Where it matters the
files carry plausible EXIF, as a file without it is rejected before its pixels are looked at.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from PIL import Image

from tests.fuzzing.seeds import (
    CAMERA,
    EXIF_STARTS,
    JPEG_STARTS,
    Entry,
    crafted_seeds,
    deflated_zeros,
    directory,
    encode,
    jpeg_segment,
    png,
    tiff_block,
    with_exif,
    with_size,
)

_MAKER_NOTE = 0x927C
_TEXT, _SHORT, _LONG, _UNDEFINED = 2, 3, 4, 7


def _size(rng: Generator, low: int, high: int) -> int:
    """Returns a number between the limits, small and large ones alike."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


# PNG


def png_size(rng: Generator) -> bytes:
    """A PNG of billions of pixels and no data."""
    return png(_size(rng, 40_000, 2**31), _size(rng, 40_000, 2**31), zlib.compress(b""))


def png_zeros(rng: Generator) -> bytes:
    """A PNG of allowed size that really inflates to hundreds of megabytes."""
    side = int(rng.integers(8_000, 12_200))
    # Bits of a channel, code of the colours, channels.
    kinds = ((8, 2, 3), (8, 2, 3), (16, 0, 1), (8, 6, 4), (16, 6, 4), (8, 4, 2))
    depth, colours, channels = kinds[int(rng.integers(len(kinds)))]
    size = (side * channels * depth // 8 + 1) * side
    return png(side, side, deflated_zeros(size), depth=depth, colours=colours)


def png_endless(rng: Generator) -> bytes:
    """A small PNG with data for gigabytes."""
    return png(256, 256, deflated_zeros(_size(rng, 2**26, 2**33)))


def png_text(rng: Generator) -> bytes:
    """A small PNG with text, a colour profile or a palette that inflates to gigabytes."""
    bomb = deflated_zeros(_size(rng, 2**26, 2**33))
    kinds = ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"))
    name, start = kinds[rng.integers(len(kinds))]
    rows = zlib.compress(b"".join(b"\0" + rng.bytes(768) for _ in range(256)))
    return png(256, 256, rows, *[(name, start + bomb)] * int(rng.integers(1, 4)))


# TIFF


def _tiff_image(
    width: int, height: int, compression: int, strips: Sequence[tuple[int, int]], rows: int
) -> list[Entry]:
    offsets = b"".join(struct.pack("<L", offset) for offset, _ in strips)
    sizes = b"".join(struct.pack("<L", size) for _, size in strips)
    return [
        (256, _LONG, 1, struct.pack("<L", width)),
        (257, _LONG, 1, struct.pack("<L", height)),
        (258, _SHORT, 3, struct.pack("<HHH", 8, 8, 8)),
        (259, _SHORT, 1, struct.pack("<H", compression)),
        (262, _SHORT, 1, struct.pack("<H", 2)),
        (271, _TEXT, 6, b"Canon\0"),
        (273, _LONG, len(strips), offsets),
        (277, _SHORT, 1, struct.pack("<H", 3)),
        (278, _LONG, 1, struct.pack("<L", rows)),
        (279, _LONG, len(strips), sizes),
    ]


def tiff_size(rng: Generator) -> bytes:
    """A TIFF of too many pixels, or of nearly so many, with no data."""
    side = _size(rng, 11_000, 2**31)
    compression = int(rng.choice([1, 5, 8, 7, 32773, 50000]))
    return tiff_block(_tiff_image(side, side, compression, [(8, 2**32 - 1)], side))


def _lzw_zeros(width: int, rows: int) -> bytes:
    file = encode(Image.new("RGB", (width, rows)), "TIFF", compression="tiff_lzw", exif=b"")
    with Image.open(io.BytesIO(file)) as image:
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        return file[tags[273][0] : tags[273][0] + tags[279][0]]


def tiff_shared_strips(rng: Generator) -> bytes:
    """A TIFF of allowed size whose strips are all one and the same: a bomb of the LZW age."""
    side, rows = int(rng.integers(6_000, 12_200)), 16
    compression = int(rng.choice([1, 5, 8]))
    zeros = bytes(3 * side * rows)
    data = {1: zeros, 5: _lzw_zeros(side, rows), 8: zlib.compress(zeros)}[compression]
    strips = -(-side // rows)
    at = len(tiff_block(_tiff_image(side, side, compression, [(0, 0)] * strips, rows)))
    entries = _tiff_image(side, side, compression, [(at, len(data))] * strips, rows)
    return tiff_block(entries) + data


def tiff_many_strips(rng: Generator) -> bytes:
    """A TIFF of 65,000 rows, each a strip of its own somewhere in the file."""
    count = int(rng.integers(20_000, 65_500))
    places = rng.integers(8, 2**20, (count, 2)).tolist()
    compression = int(rng.choice([1, 5, 8, 32773]))
    return tiff_block(_tiff_image(300, count, compression, places, 1)) + rng.bytes(2**18)


def tiff_pages(rng: Generator) -> bytes:
    """A TIFF of thousands of pages."""
    page = _tiff_image(256, 256, 1, [(8, 3 * 2**16)], 256)
    return b"".join([tiff_block(*[page] * int(rng.integers(100, 1000))), rng.bytes(3 * 2**16)])


# JPEG


def jpeg_size(rng: Generator) -> bytes:
    """A JPEG of 4 gigapixels with a scan for 0.1 megapixels."""
    side = int(rng.integers(13_000, 65_501))
    return with_size(crafted_seeds()[rng.integers(5)], side, side)


def jpeg_allowed_size(rng: Generator) -> bytes:
    """A JPEG of just about the allowed size with a scan for 0.1 megapixels."""
    side = int(rng.integers(6_000, 12_200))
    return with_size(crafted_seeds()[rng.integers(5)], side, side)


def jpeg_scans(rng: Generator) -> bytes:
    """A progressive JPEG of a large size, colour or grey, with hundreds of scans."""
    jpeg = crafted_seeds()[2 if rng.integers(2) else 5]
    # The last scan, with the tables in front of it, can be repeated.
    last = jpeg.rfind(b"\xff\xda")
    side = _size(rng, 512, 8_000)
    return with_size(jpeg[:last] + jpeg[last:-2] * _size(rng, 50, 2_000) + jpeg[-2:], side, side)


def jpeg_segments(rng: Generator) -> bytes:
    """A photo with thousands of application segments and comments."""
    markers = rng.integers(0xE0, 0xF0, _size(rng, 1_000, 50_000)).tolist()
    bodies = (
        EXIF_STARTS,
        b"",
        b"Adobe\0d",
        b"MPF\0",
        b"ICC_PROFILE\0\1\1",
        b"http://ns.adobe.com/",
    )
    body = bodies[rng.integers(len(bodies))] + rng.bytes(int(rng.integers(40)))
    return JPEG_STARTS + b"".join(jpeg_segment(m, body) for m in markers) + crafted_seeds()[0][2:]


def jpeg_restarts(rng: Generator) -> bytes:
    """A photo whose scan is full of restart markers and fill bytes."""
    jpeg = crafted_seeds()[int(rng.integers(3))]
    at = int(rng.integers(len(jpeg) // 2, len(jpeg)))
    return (
        jpeg[:at] + (b"\xff" * 99 + bytes((0xD0 + at % 8,))) * _size(rng, 100, 99_999) + jpeg[at:]
    )


def mpo_index(rng: Generator) -> bytes:
    """A photo with a multi-picture index that counts wrong or points anywhere."""
    count = int(rng.choice([0, 1, 2, 9, 65_535, 2**32 - 1]))
    pictures = b"".join(rng.bytes(16) for _ in range(min(count, 999)))
    index = [
        (0xB000, _UNDEFINED, 4, b"0100"),
        (0xB001, _LONG, 1, struct.pack("<L", count)),
        (0xB002, _UNDEFINED, int(rng.choice([len(pictures), 16, 2**32 - 1])), pictures),
    ]
    jpeg, keep = crafted_seeds()[0], int(rng.integers(0, 4))
    block = b"MPF\0" + tiff_block(index[:keep] or [(1, 99, 2**32 - 1, b"")])
    return JPEG_STARTS + jpeg_segment(0xE2, block) + jpeg[2:] + jpeg * min(count, 2)


# EXIF


def _healthy_fields() -> list[Entry]:
    return [(0x010F, _TEXT, 6, b"Canon\0"), (0x0110, _TEXT, 4, b"D90\0")]


def exif_many_entries(rng: Generator) -> bytes:
    """EXIF with tens of thousands of fields, some of them the same."""
    count = int(rng.integers(1_000, 60_000))
    tags = rng.integers(2**16, size=count) if rng.integers(2) else np.full(count, 0x829A)
    entries = [(int(tag), _SHORT, 1, b"\1\0") for tag in tags]
    return with_exif(crafted_seeds()[0], tiff_block(_healthy_fields() + entries))


def exif_chain(rng: Generator) -> bytes:
    """EXIF of thousands of directories that follow each other."""
    chain = [_healthy_fields()] * _size(rng, 3, 10_000)
    return with_exif(crafted_seeds()[0], tiff_block(*chain))


def exif_nested(rng: Generator) -> bytes:
    """EXIF with EXIF in its maker note, and so on."""
    block = tiff_block(_healthy_fields())
    for _ in range(int(rng.integers(1, 500))):
        note = EXIF_STARTS + block
        camera = [(_MAKER_NOTE, _UNDEFINED, len(note), note)]
        at = len(tiff_block([*_healthy_fields(), (CAMERA, _LONG, 1, bytes(4))]))
        main = [*_healthy_fields(), (CAMERA, _LONG, 1, struct.pack("<L", at))]
        block = tiff_block(main) + directory(camera, at)
    return with_exif(crafted_seeds()[0], block)


def exif_megabytes(rng: Generator) -> bytes:
    """A photo with more than a megabyte of EXIF."""
    note = rng.bytes(int(rng.integers(2**20, 2**23)))
    entries = [*_healthy_fields(), (_MAKER_NOTE, _UNDEFINED, len(note), note)]
    return with_exif(crafted_seeds()[0], tiff_block(entries))


# Other formats


def gif_frames(rng: Generator) -> bytes:
    """An animation of thousands of frames, or one with a canvas of 4 gigapixels."""
    gif = crafted_seeds()[16]
    start = gif.find(b",\0\0\0\0")  # the image descriptor
    side = int(rng.choice([256, 320, 12_000, 65_535]))
    head = gif[:6] + struct.pack("<HH", side, side) + gif[10:start]
    return head + gif[start:-1] * int(rng.integers(1, 100)) + b"\0,\xff\xff" * 999 + gif[-1:]


def webp_frames(rng: Generator) -> bytes:
    """An animation of hundreds of frames, or one whose canvas is of another size."""
    frames = [Image.new("RGB", (256, 256), (i % 256, 0, 0)) for i in range(_size(rng, 2, 300))]
    webp = encode(frames[0], "WEBP", save_all=True, append_images=frames[1:], method=0)
    at = webp.find(b"VP8X") + 12
    size = [int(v).to_bytes(3, "little") for v in rng.choice([255, 12_000, 2**24 - 1], 2)]
    return webp if rng.integers(2) else webp[:at] + b"".join(size) + webp[at + 6 :]


def bmp_size(rng: Generator) -> bytes:
    """A bitmap of absurd size, depth, compression or number of colours."""
    bmp = bytearray(crafted_seeds()[17])
    sizes = (-(2**31), 2**31 - 1, 65_535, 12_200, -12_200, 0)
    bmp[18:26] = struct.pack("<ll", *(int(v) for v in rng.choice(sizes, 2)))
    bmp[28:34] = struct.pack("<HL", int(rng.choice([1, 4, 8, 24, 32])), int(rng.integers(4)))
    bmp[46:50] = struct.pack("<L", int(rng.choice([0, 256, 2**32 - 1])))
    return bytes(bmp)


def polyglot(rng: Generator) -> bytes:
    """A file that is a ZIP archive, a script or a PDF as well as a photo."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in (("a.jpg", crafted_seeds()[0]), ("zeros", bytes(2**20))):
            archive.writestr(zipfile.ZipInfo(name), body, zipfile.ZIP_DEFLATED)  # without the time
    first = rng.integers(4)
    seed = crafted_seeds()[rng.integers(len(crafted_seeds()))]
    parts = (
        seed + file.getvalue(),
        file.getvalue() + seed,
        b"%PDF-1.7\n" + seed,
        b"#!/bin/sh\n" + seed,
    )
    return parts[first]


# No images


def empty(rng: Generator) -> bytes:
    """No bytes."""
    return b""


def text(rng: Generator) -> bytes:
    """Text, HTML or JSON."""
    words = (
        b"hello ",
        b"<html><img src=a.jpg></html>\n",
        b'{"a": [1, 2, ',
        "\u00e4\ufeff".encode(),
    )
    return words[rng.integers(len(words))] * int(rng.integers(1, 1000))


def random_bytes(rng: Generator) -> bytes:
    """Noise."""
    return rng.bytes(int(rng.integers(1, 100_000)))


def pickled(rng: Generator) -> bytes:
    """A pickle that would run a command if it were loaded."""
    return b"cos\nsystem\n(S'true'\ntR." + rng.bytes(9)


def beginning(rng: Generator) -> bytes:
    """The first bytes of a format and nothing else, or noise."""
    seeds = crafted_seeds()
    start = seeds[rng.integers(len(seeds))][: int(rng.integers(2, 40))]
    return start + rng.bytes(int(rng.choice([0, 10, 1000])))


BOMBS: dict[str, Callable[[Generator], bytes]] = {
    make.__name__: make
    for make in (
        *(png_size, png_zeros, png_endless, png_text),
        *(tiff_size, tiff_shared_strips, tiff_many_strips, tiff_pages),
        *(jpeg_size, jpeg_allowed_size, jpeg_scans, jpeg_segments, jpeg_restarts, mpo_index),
        *(exif_many_entries, exif_chain, exif_nested, exif_megabytes),
        *(gif_frames, webp_frames, bmp_size, polyglot),
        *(empty, text, random_bytes, pickled, beginning),
    )
}
"""All of them by name."""
