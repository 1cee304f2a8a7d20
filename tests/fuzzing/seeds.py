"""Healthy photos in all formats, to be damaged, and the parts that files are made of."""

import functools
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image, features

from data_pipelines import heic

Entry = tuple[int, int, int, bytes]
"""A field of a TIFF directory: tag, type, count, and its value, however long."""

JPEG_STARTS = b"\xff\xd8"
PNG_STARTS = b"\x89PNG\r\n\x1a\n"
EXIF_STARTS = b"Exif\0\0"
CAMERA = 0x8769
"""Tag of the pointer to the camera's directory."""
EXTREMES = (0, 1, 2, 0x7F, 0x80, 0xFFFF, 0x10000, 0x20000001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Lengths, counts and offsets that programs get wrong."""


# Healthy photos


def camera_exif(*, camera: bool = True) -> bytes:
    """Returns an EXIF block as of a plain camera, starting with "Exif".

    Args:
        camera: with the camera's own directory, which libtiff cannot write.
    """
    exif = Image.Exif()
    exif.update({0x010F: "Canon", 0x0110: "Canon EOS 700D"})
    if camera:
        values = {
            **{0x829A: (1, 60), 0x829D: (28, 10), 0x8827: 200, 0x9003: "2022:05:01 10:00:00"},
            **{0x9204: (0, 1), 0x9207: 5, 0x9209: 16, 0x920A: (50, 1), 0xA402: 0, 0xA403: 0},
        }
        exif.get_ifd(CAMERA).update(values)
    return exif.tobytes()


def crafted_photo(seed: int = 0, side: int = 320) -> Image.Image:
    """Returns a smooth scene with noise, RGB."""
    rng = np.random.default_rng(seed)
    scene = np.linspace(40, 200, side)[None, :, None]
    pixels = scene + rng.normal(0, 9, (side, side, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Returns an image as a file, with camera EXIF unless `options` say otherwise."""
    file = io.BytesIO()
    image.save(file, kind, **{"exif": camera_exif(), **options})
    return file.getvalue()


@functools.cache
def crafted_seeds(side: int = 320) -> tuple[bytes, ...]:
    """Returns photos in all formats that can be written here."""
    photo = crafted_photo(side=side)
    grey = photo.convert("L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    plain = {"exif": camera_exif(camera=False)}
    seeds = [
        encode(photo, "JPEG", quality=90),
        encode(photo, "JPEG", quality=85, subsampling=0, restart_marker_blocks=4),
        encode(photo, "JPEG", progressive=True),
        encode(photo.convert("CMYK"), "JPEG"),
        encode(grey, "JPEG"),
        encode(grey, "JPEG", progressive=True),
        encode(photo, "PNG"),
        encode(photo.quantize(64), "PNG"),
        encode(wide, "PNG"),
        encode(photo, "WEBP"),
        encode(photo, "WEBP", lossless=True),
        encode(photo, "TIFF"),
        *(encode(photo, "TIFF", compression=f"tiff_{c}", **plain) for c in ("lzw", "deflate")),
        encode(photo, "TIFF", compression="jpeg", **plain),
        encode(wide, "TIFF"),
        encode(photo, "GIF"),
        encode(photo, "BMP"),
    ]
    if features.check("avif"):
        seeds.append(encode(photo, "AVIF", speed=10))
    if heic.register_opener():
        seeds.append(encode(photo, heic.FORMAT))
    return tuple(seeds)


# Parts of files


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Returns a chunk with the right checksum."""
    checksum = zlib.crc32(name + body)
    return struct.pack(">L", len(body)) + name + body + struct.pack(">L", checksum)


def png(
    width: int,
    height: int,
    data: bytes,
    *more: tuple[bytes, bytes],
    depth: int = 8,
    colours: int = 2,
) -> bytes:
    """Returns a PNG, RGB unless stated, with any compressed data, camera EXIF and other chunks."""
    header = struct.pack(">LLBBBBB", width, height, depth, colours, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"eXIf", camera_exif()[6:]),
        *more,
        (b"IDAT", data),
        (b"IEND", b""),
    ]
    return PNG_STARTS + b"".join(png_chunk(*chunk) for chunk in chunks)


def deflated_zeros(size: int) -> bytes:
    """Returns a zlib stream of `size` zeros, rounded up to mebibytes, without making them."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    blocks = -(-size // 2**20)
    adler = (blocks * 2**20 % 65521) << 16 | 1
    return b"\x78\xda" + block * blocks + deflate.flush() + struct.pack(">L", adler)


def directory(entries: Sequence[Entry], start: int, following: int = 0) -> bytes:
    """Returns a little-endian TIFF directory for offset `start`, and then what it points to."""
    values_at = start + 2 + 12 * len(entries) + 4
    rows, values = bytearray(), bytearray()
    for tag, kind, count, value in entries:
        rows += struct.pack("<HHL", tag, kind, count)
        if len(value) <= 4:
            rows += value.ljust(4, b"\0")
        else:
            rows += struct.pack("<L", values_at + len(values))
            values += value + bytes(len(value) % 2)
    return struct.pack("<H", len(entries)) + rows + struct.pack("<L", following) + values


def tiff_block(*directories: Sequence[Entry]) -> bytes:
    """Returns a TIFF of directories that follow each other."""
    block = b"II*\0" + struct.pack("<L", 8)
    for i, entries in enumerate(directories):
        start = len(block)
        end = start + len(directory(entries, start))
        block += directory(entries, start, end if i + 1 < len(directories) else 0)
    return block


def segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and end of a JPEG's segments up to the first scan's header."""
    position = 2
    while position + 4 <= len(jpeg) and jpeg[position] == 0xFF:
        end = position + 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
        yield jpeg[position + 1], position, end
        if jpeg[position + 1] == 0xDA:
            return
        position = end


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """Returns a segment of up to 65,533 bytes."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_exif(jpeg: bytes, tiff: bytes) -> bytes:
    """Replaces a JPEG's EXIF by another, in as many segments as it takes."""
    parts = (tiff[i : i + 65_000] for i in range(0, len(tiff), 65_000))
    exif = b"".join(jpeg_segment(0xE1, EXIF_STARTS + part) for part in parts)
    old = [(start, end) for marker, start, end in segments(jpeg) if marker == 0xE1]
    for start, end in reversed(old):
        jpeg = jpeg[:start] + jpeg[end:]
    return JPEG_STARTS + exif + jpeg[2:]


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Lets a JPEG's header state another size."""
    for marker, start, _ in segments(jpeg):
        if marker in (0xC0, 0xC1, 0xC2):
            return jpeg[: start + 5] + struct.pack(">HH", height, width) + jpeg[start + 9 :]
    return jpeg


def png_chunks(data: bytes) -> list[tuple[int, int]]:
    """Start and length of the body of every chunk."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((at + 8, length))
        at += 12 + length
    return chunks


def with_checksums(data: bytes) -> bytes:
    """Repairs the checksums of a PNG."""
    out = bytearray(data)
    for start, length in png_chunks(data):
        end = start + length
        if end + 4 <= len(data):
            out[end : end + 4] = struct.pack(">L", zlib.crc32(out[start - 4 : end]))
    return bytes(out)
