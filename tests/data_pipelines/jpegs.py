"""JPEG files of many codings, whole, cut and padded: for the tests of those who read them."""

import io
from typing import Any

import numpy as np
import piexif
from PIL import Image

END = b"\xff\xd9"


def scene(width: int = 320, height: int = 288, seed: int = 0) -> Image.Image:
    """A smooth scene with noise."""
    noise = np.random.default_rng(seed).normal(0, 9, (height, width, 3))
    ramp = np.linspace(40, 200, width)[None, :, None]
    return Image.fromarray(np.clip(ramp + noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image | None = None, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    (image or scene()).save(file, kind, **options)
    return file.getvalue()


CODINGS: dict[str, bytes] = {
    "baseline": jpeg(quality=90),
    "progressive": jpeg(progressive=True),
    "optimised": jpeg(optimize=True),
    "restarts": jpeg(restart_marker_rows=1),
    "4:4:4": jpeg(subsampling=0),
    "grey": jpeg(scene().convert("L")),
    "CMYK": jpeg(scene().convert("CMYK")),
}

_JUNK = b"The next file on the card. " * 40

# All of the image is there.
WHOLE = {
    "no end": lambda data: data[:-2],
    "half an end": lambda data: data[:-1],
    "one zero": lambda data: data[:-2] + b"\0",
    "zeros": lambda data: data[:-2] + bytes(5000),
    "half an end, zeros": lambda data: data[:-1] + bytes(5000),
    "zeros, then the end": lambda data: data[:-2] + bytes(5000) + END,
    "erased flash": lambda data: data[:-2] + b"\xff" * 5000,
    "a few left over": lambda data: data[:-2] + b"\x00\x11\x22" + END,
    "zeros behind the end": lambda data: data + bytes(5000),
    "text behind the end": lambda data: data + _JUNK,
    "another picture, no end": lambda data: data[:-2] + bytes(600) + data,
}
# Data is missing.
CUT = {
    "the last bytes": lambda data: data[:-12],
    "the last bytes, an end": lambda data: data[:-12] + END,
    "a part": lambda data: data[:-900],
    "a part, an end": lambda data: data[:-900] + END,
    "a part, zeros": lambda data: data[:-900] + bytes(9000),
    "a part, zeros, an end": lambda data: data[:-900] + bytes(9000) + END,
    "half": lambda data: data[: len(data) // 2],
    "half, zeros": lambda data: data[: len(data) // 2] + bytes(len(data)),
    "half, erased flash": lambda data: data[: len(data) // 2] + b"\xff" * len(data),
    "half, another picture": lambda data: data[: len(data) // 2] + data,
}


def camera(make: bytes | str = "Canon") -> Image.Exif:
    """EXIF of a photo."""
    exif = Image.Exif()
    exif[0x010F] = make
    exif[0x0110] = "Model"
    return exif


def several(first: Image.Image, *more: Image.Image, **options: Any) -> bytes:
    """A multi-picture file, with the photo's EXIF."""
    return jpeg(first, "MPO", save_all=True, append_images=list(more), exif=camera(), **options)


def _index(data: bytes, change: bytes, at: int) -> bytes:
    """Changes bytes of the list of pictures, counted from its byte order."""
    start = data.index(b"MPF\0") + 4 + at
    return data[:start] + change + data[start + len(change) :]


def _small(image: Image.Image) -> Image.Image:
    return image.resize((80, 72))


def _in_second(data: bytes, segment: bytes) -> bytes:
    """Puts a segment of metadata into the second picture."""
    start = data.index(END) + 4  # the next one begins
    length = (len(segment) + 2).to_bytes(2, "big")
    return data[:start] + b"\xff\xe1" + length + segment + data[start:]


_SIZES = piexif.dump({"Exif": {piexif.ExifIFD.PixelXDimension: 5472}})
_TWO = several(scene(), scene(seed=1), quality=90)
MULTI_PICTURE: dict[str, bytes] = {
    "two of a size": _TWO,
    "a small one": several(scene(), _small(scene()), quality=90),
    "three": several(scene(), scene(seed=1), _small(scene()), quality=90),
    "a grey gain map": several(scene(), _small(scene()).convert("L"), quality=90),
    "progressive": several(scene(), scene(seed=1), progressive=True),
    "zeros between": _TWO.replace(END, END + bytes(512), 1),
    "the second cut": _TWO[:-3000],
    "the second lost": _TWO[: _TWO.index(END) + 2],
    "no list": _index(_TWO, b"XX", 0),
    "a list of no entries": _index(_TWO, b"\xff\xff", 8),
    "a list of millions": _index(_TWO, b"\xff\xff\xff\xff", 30),
    "a list that lies elsewhere": _index(_TWO, b"\xff\xff\xff\xff", 4),
    "a second of another size in its EXIF": _in_second(_TWO, _SIZES),
    "a second with XMP": _in_second(_TWO, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
    "a video behind it": _TWO + b"\0\0\0\x18ftypmp42" + bytes(3000),
}
