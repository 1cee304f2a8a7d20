"""Small files with metadata in every container, put together by hand where Pillow cannot."""

import io
import struct

from PIL import Image, features

from data_pipelines import heic
from data_pipelines.evidence import Evidence, read_evidence
from tests.fuzzing.seeds import camera_exif, crafted_photo, encode, jpeg_segment, png_chunk

SIDE = 64
PICTURE = crafted_photo(side=SIDE)
C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
CAN_WRITE = {"JPEG": True, "PNG": True, "WEBP": True, "AVIF": features.check("avif")} | {
    "HEIF": heic.register_opener()
}
FORMATS = tuple(name for name, can in CAN_WRITE.items() if can)
ISO_FORMATS = tuple(name for name in FORMATS if name in ("AVIF", "HEIF"))


def file_of(kind: str, **options: object) -> bytes:
    """A picture without metadata, unless `options` have some."""
    return saved(PICTURE, kind, **options)


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments: marker and body."""
    data = file_of("JPEG")
    return data[:2] + b"".join(jpeg_segment(*segment) for segment in segments) + data[2:]


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks before its pixels."""
    data = file_of("PNG")
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def webp_with(name: bytes, body: bytes) -> bytes:
    """A WebP with one more chunk."""
    data = file_of("WEBP")
    chunk = name + struct.pack("<L", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<L", len(data) - 8 + len(chunk)) + data[8:] + chunk


def text_png(key: str, text: str) -> bytes:
    """A PNG with one plain text."""
    return png_with((b"tEXt", key.encode("latin-1") + b"\0" + text.encode()))


def exif_of(fields: dict[int, object], camera: dict[int, object] | None = None) -> bytes:
    """An EXIF block of these fields."""
    exif = Image.Exif()
    exif.update(fields)
    if camera:
        exif.get_ifd(0x8769).update(camera)
    return exif.tobytes()


def user_comment(text: str) -> bytes:
    """As piexif, and so the web UIs, write the field."""
    return b"UNICODE\0" + text.encode("utf-16-be")


def xmp_of(*attributes: str, inside: str = "") -> bytes:
    """An XMP packet with these attributes and elements."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description rdf:about="" '
        f"{' '.join(attributes)}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


def with_xmp(kind: str, packet: bytes) -> bytes:
    """A picture with an XMP packet, as the format has it."""
    if kind == "PNG":
        return png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    return file_of(kind, xmp=packet)


def jumbf(size: int = 200, inside: bytes = b"") -> bytes:
    """The outermost box of a manifest store, with something that is no manifest in it."""
    description = b"c2pa" + bytes.fromhex("00110010800000aa00389b71") + b"\x03c2pa\0"
    boxes = struct.pack(">L", 8 + len(description)) + b"jumd" + description
    boxes += inside.ljust(size, b"\0")
    return struct.pack(">L", 8 + len(boxes)) + b"jumb" + boxes


def with_manifest(kind: str, store: bytes) -> bytes:
    """A picture with a C2PA manifest store, as the format has it."""
    if kind == "JPEG":
        parts = [store[8:][i : i + 60_000] for i in range(0, len(store) - 8, 60_000)]
        segments = (
            (0xEB, b"JP\0\1" + struct.pack(">L", number) + store[:8] + part)
            for number, part in enumerate(parts, 1)
        )
        return jpeg_with(*segments)
    if kind == "PNG":
        return png_with((b"caBX", store))
    if kind == "WEBP":
        return webp_with(b"C2PA", store)
    body = C2PA_BOX + bytes(4) + b"manifest\0" + bytes(8) + store
    return file_of(kind) + struct.pack(">L", 8 + len(body)) + b"uuid" + body


def camera_photo(kind: str = "JPEG") -> bytes:
    """A picture with the EXIF of a camera."""
    return encode(PICTURE, kind, exif=camera_exif())


def of_kind(data: bytes, kind: str) -> list[Evidence]:
    """The evidence of one kind in a file."""
    return [item for item in read_evidence("in memory", data) if item.kind == kind]


def the_only(data: bytes, kind: str) -> Evidence:
    """The one piece of evidence of a kind."""
    (item,) = of_kind(data, kind)
    return item


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    """An image as a file, exactly as Pillow writes it with these options."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
