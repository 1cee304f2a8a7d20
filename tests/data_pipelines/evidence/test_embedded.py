import struct
import time
import tracemalloc
import zlib

import pytest

from data_pipelines.evidence.containers import container_of, pieces_of
from data_pipelines.evidence.embedded import MAX_MANIFEST, MAX_TEXTS, MAX_XMP, read_embedded
from data_pipelines.evidence.texts import MAX_TEXT
from tests.data_pipelines.evidence.crafted import (
    file_of,
    jpeg_with,
    jumbf,
    png_with,
    webp_with,
    with_manifest,
    with_xmp,
    xmp_of,
)
from tests.fuzzing.seeds import deflated_zeros, png_chunk

PNG_STARTS = b"\x89PNG\r\n\x1a\n"


def read_quickly(data):
    """Reads without Pillow, in little time however large the file is."""
    start = time.monotonic()
    found = read_embedded(data, None)
    assert time.monotonic() - start < 5
    assert sum(len(text.text) for text in found.texts) <= MAX_TEXTS
    return found


def read_bounded(data, mebibytes=16):
    """The same in little memory."""
    tracemalloc.start()
    try:
        found = read_quickly(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes * 2**20
    return found


def test_containers_are_told_by_their_first_bytes():
    kinds = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "GIF": "", "TIFF": ""}
    assert {kind: container_of(file_of(kind)) for kind in kinds} == kinds
    assert container_of(b"") == container_of(b"\0\0\0") == ""


def test_pieces_end_where_pixels_begin_and_where_the_file_ends():
    png = [name for name, _ in pieces_of(file_of("PNG"))]
    assert (png[0], png[-1]) == (b"IHDR", b"IDAT")
    jpeg = dict(pieces_of(jpeg_with((0xFE, b"hello"))))
    assert bytes(jpeg[b"\xfe"]) == b"hello"
    cut = PNG_STARTS + struct.pack(">L", 2**31) + b"tEXt" + b"a\0b"
    assert [(name, bytes(body)) for name, body in pieces_of(cut)] == [(b"tEXt", b"a\0b")]


def test_a_text_of_100_megabytes_is_read_in_part():
    data = png_with((b"tEXt", b"parameters\0" + b"x" * 100_000_000))
    found = read_bounded(data, mebibytes=8)
    assert len(found.texts[0].text) == MAX_TEXT
    assert found.notes == ["a PNG text of 100,000,011 bytes was read in part"]


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
def test_a_compressed_gigabyte_is_read_in_part(name):
    header = b"parameters\0" + (b"\0" if name == b"zTXt" else b"\1\0\0\0")
    found = read_bounded(png_with((name, header + deflated_zeros(2**30))))
    assert len(found.texts[0].text) == MAX_TEXT
    assert found.notes == ["a compressed PNG text was read in part"]


def test_many_bombs_take_no_longer():
    bomb = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(MAX_TEXT)))
    found = read_bounded(PNG_STARTS + bomb * 20_000)
    assert "texts beyond the limits were left unread" in found.notes


def test_many_small_pieces_take_no_longer():
    read_quickly(PNG_STARTS + png_chunk(b"aaaa", b"") * 100_000)
    read_quickly(PNG_STARTS + png_chunk(b"tEXt", b"a\0b") * 100_000)
    read_quickly(b"\xff\xd8" + b"\xff" * 2_000_000)
    read_quickly(b"\xff\xd8" + b"\xff\xfe\x00\x02" * 500_000)
    read_quickly(b"\xff\xd8" + (b"\xff\xed\xff\xff" + b"\x1c\x02\x6e\0\0" * 13_106 + b"abc") * 300)
    read_quickly(webp_with(b"XMP ", b"")[:12] + b"XMP \0\0\0\0" * 100_000)
    read_quickly(b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 100_000)


def test_damaged_compression_is_said():
    found = read_bounded(png_with((b"zTXt", b"parameters\0\0nonsense")))
    assert found.notes == ["a compressed PNG text is damaged"]


def test_large_xmp_is_read_in_part():
    padding = b" " * (2 * MAX_XMP)
    packet = xmp_of('xmp:CreatorTool="Draw Things"') + padding
    found = read_bounded(with_xmp("WEBP", packet))
    assert [text.text for text in found.texts] == ["Draw Things"]
    assert found.notes == [f"only {MAX_XMP:,} bytes of XMP were read"]


def test_xmp_in_more_than_one_jpeg_segment():
    first = b"http://ns.adobe.com/xap/1.0/\0" + xmp_of('xmp:CreatorTool="A"')
    more = b"http://ns.adobe.com/xmp/extension/\0" + b"f" * 32 + bytes(8) + xmp_of('dc:source="B"')
    found = read_bounded(jpeg_with((0xE1, first), (0xE1, more)))
    assert [(text.key, text.text) for text in found.texts] == [
        ("CreatorTool", "A"),
        ("source", "B"),
    ]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_manifest_is_put_together(kind):
    store = jumbf(200_000, b"one".ljust(100_000, b"-") + b"two")
    found = read_bounded(with_manifest(kind, store))
    assert bytes(found.manifest) == store
    assert found.manifest_bytes == len(store)


def test_other_boxes_in_jpeg_segments_are_no_manifest():
    other = jumbf().replace(b"c2pa", b"json")
    assert not read_bounded(with_manifest("JPEG", other)).manifest
    assert not read_bounded(jpeg_with((0xEB, b"HDR_RI ver=11"))).manifest


def test_a_huge_manifest_is_not_kept():
    data = with_manifest("PNG", jumbf(100_000_000))
    found = read_bounded(data, mebibytes=MAX_MANIFEST / 2**20 + 8)
    assert len(found.manifest) == MAX_MANIFEST
    assert found.manifest_bytes > 100_000_000
