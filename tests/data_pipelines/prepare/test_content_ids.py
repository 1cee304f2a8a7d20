import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, features

from data_pipelines import heic
from data_pipelines.images import ImageError, decode_image, open_image
from data_pipelines.prepare.content_ids import content_id

MakePhoto = Callable[..., Path]
EXIF = piexif.dump({"0th": {piexif.ImageIFD.Make: "Other"}})


def id_of(data: bytes) -> int:
    return content_id(data, open_image(data))


def scene(seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Noise with soft edges, of a size that is no multiple of the coding blocks."""
    pixels = np.random.default_rng(seed).integers(0, 256, (37, 51, 3), np.uint8)
    return Image.fromarray(pixels).resize((203, 117)).convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def segments(data: bytes) -> list[bytes]:
    """The segments of a JPEG file before its first scan, then the rest."""
    pieces, position = [], 2
    while data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        pieces.append(data[position:end])
        position = end
    return [*pieces, data[position:]]


JPEGS = {
    "baseline": saved(scene(), "JPEG", quality=90),
    "progressive": saved(scene(), "JPEG", quality=90, progressive=True),
    "grey": saved(scene(mode="L"), "JPEG"),
    "CMYK": saved(scene(mode="CMYK"), "JPEG"),
    "restarts": saved(scene(), "JPEG", restart_marker_blocks=2),
}


@pytest.mark.parametrize("data", JPEGS.values(), ids=JPEGS)
def test_what_stands_around_the_image_in_a_jpeg_file_makes_no_difference(data: bytes) -> None:
    video = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40
    *head, rest = segments(data)
    copies = {
        "exif": saved_with_exif(data),
        "comment": b"\xff\xd8\xff\xfe\0\x05abc" + data[2:],
        "many profiles": b"\xff\xd8" + b"\xff\xe2\0\x04\xff\xd9" * 99 + data[2:],
        "no header": b"\xff\xd8" + b"".join(p for p in head if not 0xE0 <= p[1] < 0xED) + rest,
        "fill": b"\xff\xd8" + b"".join(b"\xff" * 5 + p for p in head) + b"\xff\xff" + rest,
        "fill at the end": data[:-2] + b"\xff\xff\xff\xff\xd9",
        "video": data + video,
        "zeros": data + bytes(4096),
        "second picture": data + JPEGS["grey"],
        "trailer": data + b"SEFT" + b"\xff\xd8\xff",
    }
    pixels = decode_image(data)
    for what, copy in copies.items():
        np.testing.assert_array_equal(decode_image(copy), pixels, what)
        assert id_of(copy) == id_of(data), what


def saved_with_exif(data: bytes) -> bytes:
    file = io.BytesIO()
    piexif.insert(EXIF, data, file)
    return file.getvalue()


def test_metadata_between_scans_and_fill_before_restarts_make_no_difference() -> None:
    data = JPEGS["progressive"]
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    assert id_of(data[:second] + b"\xff\xfe\0\x05abc" + data[second:]) == id_of(data)
    data = JPEGS["restarts"]
    filled = data.replace(b"\xff\xd1", b"\xff\xff\xff\xd1")
    assert filled != data
    np.testing.assert_array_equal(decode_image(filled), decode_image(data))
    assert id_of(filled) == id_of(data)


def test_ids_of_plain_jpeg_files_stay_as_they_were() -> None:
    """The digest of all but metadata, up to the end: so earlier versions named photos."""
    for data in JPEGS.values():
        kept = b"".join(p for p in segments(data) if not 0xE0 <= p[1] <= 0xEF)
        expected = int.from_bytes(hashlib.sha256(kept).digest()[:8], "big") >> 1
        assert id_of(data) == expected


def test_every_coded_byte_of_a_jpeg_file_makes_a_difference() -> None:
    data = JPEGS["baseline"]
    image, found = open_image(data), set()
    start = data.index(b"\xff\xdb")
    for position in range(start + 4, len(data) - 2, 97):
        if data[position - 1] != 0xFF and data[position] < 0xFE:
            changed = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
            found.add(content_id(changed, image))
    assert len(found) > 20
    assert content_id(data, image) not in found
    assert len({id_of(data) for data in JPEGS.values()}) == len(JPEGS)


def lossless() -> dict[str, bytes]:
    """One image in all formats that keep its pixels, with and without metadata."""
    image, text = scene(), PngImagePlugin.PngInfo()
    text.add_text("Comment", "a text")
    files = {
        "png": saved(image, "PNG"),
        "png, exif": saved(image, "PNG", exif=EXIF),
        "png, text": saved(image, "PNG", pnginfo=text),
        "png, other compression": saved(image, "PNG", compress_level=1),
        "tiff": saved(image, "TIFF"),
        "tiff, compressed": saved(image, "TIFF", compression="tiff_lzw", software="x"),
        "bmp": saved(image, "BMP"),
        "webp": saved(image, "WEBP", lossless=True),
        "webp, exif": saved(image, "WEBP", lossless=True, exif=EXIF),
    }
    return {**files, "trailer": files["png"] + b"more"}


def test_copies_of_other_formats_have_the_same_pixels() -> None:
    assert len({id_of(data) for data in lossless().values()}) == 1
    others = [saved(scene(seed), "PNG") for seed in range(1, 5)]
    assert len({id_of(data) for data in [*others, lossless()["png"]]}) == 5
    line = np.zeros((2, 6, 3), np.uint8)
    assert id_of(saved(Image.fromarray(line), "PNG")) != id_of(
        saved(Image.fromarray(line.reshape(6, 2, 3)), "PNG")
    )


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", heic.FORMAT])
def test_lossy_copies_with_other_metadata(kind: str) -> None:
    if kind == heic.FORMAT and not heic.register_opener():
        pytest.skip("pillow-heif is optional and not installed")
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    files = [saved(scene(seed), kind, quality=80, **more) for seed, more in (
        (0, {}), (0, {"exif": EXIF}), (1, {}),
    )]  # fmt: skip
    assert files[0] != files[1]
    assert id_of(files[0]) == id_of(files[1]) != id_of(files[2])


def test_a_file_that_ends_early_has_no_id() -> None:
    with pytest.raises(ImageError, match=r".") as caught:
        id_of(lossless()["png"][:-4000])
    assert caught.value.reason == "undecodable"


@given(st.binary(max_size=200), st.integers(0, 200))
def test_the_id_of_any_bytes_fits_a_record(data: bytes, keep: int) -> None:
    image = open_image(JPEGS["baseline"])
    assert 0 <= content_id(b"\xff\xd8" + data, image) < 2**63
    assert 0 <= content_id(JPEGS["baseline"][: 2 + keep] + data, image) < 2**63
