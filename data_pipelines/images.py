"""Finding image files and decoding them to RGB, safely.

Pixels are given as they are stored: **EXIF orientation is not applied**. What a camera leaves in
its pixels (the 8x8 JPEG grid, the colour filter pattern, sensor read-out) is tied to the
orientation of the sensor; rotating a portrait photo would shift and mirror these traces only for
some photos.

HEIC and AVIF keep the rotation in the container, not in EXIF. Pillow leaves the pixels of AVIF as
they are coded; those of HEIC are turned by pillow-heif and turned back here, see `heic`.
"""

import contextlib
import functools
import io
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from data_pipelines import heic, jpeg_files, jpeg_pixels, raw_files, storage
from data_pipelines.errors import UserError

WINDOW: Final = 256
"""Side of a window of the records in pixels."""
PATCH: Final = 64
"""Side of a patch of the network in pixels."""
EXTENSIONS: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".mpo"}
    | {".heic", ".heif", ".hif", ".avif"}
)
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", heic.FORMAT)
"""What Pillow may open."""
_FIRST_JPEG: Final = "FIRST PICTURE OF A JPEG FILE"
"""Name of an opener of our own, see `_pillow_formats`."""
_SIGNATURES: Final = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"GIF8")
_BRANDS: Final = (b"WEBP", b"avif", b"avis")  # eight bytes into the file
_TURNS: Final = "container_turns"  # where an opened image keeps what `heic.turns_of` found
MAX_BYTES: Final = 256 * 2**20
"""Default size limit of a file."""
MAX_PIXELS: Final = 150_000_000
"""Default limit of width x height; three bytes a pixel are needed to hold an image."""
_BAND: Final = 2**22  # pixels converted at once

_pillow_lock = threading.RLock()


class ImageError(ValueError):
    """An image that cannot be used.

    Attributes:
        reason: short code for counting: "unreadable", "empty_file", "too_many_bytes",
            "not_an_image", "raw_file" (of which only a preview could be read), "heic_not_supported"
            (pillow-heif is not installed), "too_many_pixels", "undecodable" or
            "unsupported_pixels".
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silences the warnings that Pillow gives for odd files (also where they are errors).

    Warning filters are shared by all threads, so one thread at a time may be inside: only for
    reading headers, which is quick.
    """
    with _pillow_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Lists image files: those given, and all below given directories, sorted, each once.

    Files in directories count as images by their extension (`EXTENSIONS`, in any case); a file that
    is given itself is taken whatever it is called. Links to directories are not followed.

    Raises:
        UserError: a path does not exist or a directory cannot be listed.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            below = storage.walk(str(path))
            found.update(
                type(path)(at, name) for at, names in below for name in names if is_image(name)
            )
        elif path.exists():
            found.add(path)
        else:
            raise UserError(f"{path}: no such file or directory; check the path")
    return sorted(found)


def is_image(name: str, extensions: frozenset[str] = EXTENSIONS) -> bool:
    """Whether a file found in a directory is an image by its name, and no macOS resource fork."""
    return storage.suffix_of(name) in extensions and not name.startswith("._")


def read_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads a whole file, local or remote, that is not too large.

    Raises:
        ImageError: "unreadable", "empty_file" or "too_many_bytes".
    """
    try:
        # A pipe or device could block for ever.
        if not storage.is_uri(path) and Path(path).exists() and not Path(path).is_file():
            raise ImageError("unreadable", "not a regular file")
        with storage.open_file(os.fspath(path)) as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        is_dead_link = isinstance(error, FileNotFoundError) and storage.is_link(os.fspath(path))
        why = "a link to a file that is not there" if is_dead_link else error.strerror
        raise ImageError("unreadable", why or str(error)) from error
    except ImageError:
        raise
    except Exception as error:  # remote storage raises almost anything
        raise ImageError("unreadable", storage.describe(error)) from error
    check_size(data, max_bytes)
    return data


def check_size(data: bytes, max_bytes: int) -> None:
    """Refuses a file without bytes, or with too many.

    Raises:
        ImageError: "empty_file" or "too_many_bytes".
    """
    if not data:
        raise ImageError("empty_file", "the file has no bytes")
    if len(data) > max_bytes:
        raise ImageError("too_many_bytes", f"more than {max_bytes:,} bytes")


def open_image(
    source: str | Path | bytes, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Opens an image, a file or its bytes, by its header alone; no file stays open.

    Whatever limit is given, Pillow itself refuses more than 178 million pixels.

    Raises:
        ImageError: the file cannot be read, is no image of a known format, or is too large; or it
            is a camera's raw file; or it is HEIC, and pillow-heif is not installed.
    """
    data = source if isinstance(source, bytes) else read_bytes(source, max_bytes=max_bytes)
    check_size(data, max_bytes)
    if told := raw_files.raw_file(data):
        raise ImageError(
            "raw_file",
            f"a camera's raw file, or one like it ({told}): only a preview could be read; give "
            "the camera's JPEG or HEIC file",
        )
    is_heic = heic.is_heic(data)
    if is_heic and not heic.register_opener():
        raise ImageError(
            "heic_not_supported", "HEIC is read by pillow-heif: pip install 'exif-jax[heic]'"
        )
    try:
        with quiet_pillow():
            formats = (heic.FORMAT,) if is_heic else _pillow_formats()
            image = Image.open(io.BytesIO(data), formats=formats)
            if is_heic:
                image.info[_TURNS] = heic.turns_of(image)
    except Image.DecompressionBombError as error:
        raise ImageError("too_many_pixels", f"more than {max_pixels:,} pixels") from error
    except UnidentifiedImageError as error:
        if is_heic or data.startswith(_SIGNATURES) or data[8:12] in _BRANDS:
            raise ImageError(
                "undecodable", "begins as an image, but its header is damaged"
            ) from error
        raise ImageError("not_an_image", f"no {'/'.join(FORMATS)} image") from error
    except Exception as error:  # Pillow's readers raise almost anything on damaged headers
        raise ImageError("undecodable", _explain(error)) from error
    if image.width * image.height > max_pixels:
        raise ImageError(
            "too_many_pixels", f"{image.width} x {image.height}, more than {max_pixels:,} pixels"
        )
    return image


@functools.cache
def _pillow_formats() -> tuple[str, ...]:
    """What Pillow is asked to open, HEIC apart.

    Its own opener makes another format of JPEG files with several pictures, and fails where the
    list of these is damaged. To us they are JPEG files, of which the first picture counts.
    """
    Image.register_open(_FIRST_JPEG, JpegImageFile, lambda start: start.startswith(b"\xff\xd8\xff"))
    others = (name for name in FORMATS if name not in ("JPEG", heic.FORMAT))
    return (_FIRST_JPEG, *others)


def can_be_cropped(image: Image.Image) -> bool:
    """Returns whether `to_rgb` gives the same for a part of an opened image as for all of it.

    Not where the container turned the image, nor where all values decide on their range.
    """
    return not image.info.get(_TURNS) and image.mode[0] not in "IF"


def to_rgb(image: Image.Image, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Decodes an opened image, or a part of one, to uint8 [H, W, 3].

    RGB pixels are returned exactly as decoded. Grey is repeated over the channels, 16-bit values
    are scaled to 8 bits, palettes looked up, CMYK and the like converted by Pillow's plain
    formulas, transparent images composited on white (what a page would show). Of an animation the
    first frame is taken, of HEIC the main image. Orientation is not applied, see the module's
    docstring.

    Args:
        image: from `open_image`.
        box: left, upper, right and lower edge of the part; only of images that `can_be_cropped`. It
            saves copying the rest.

    Raises:
        ImageError: "undecodable" or "unsupported_pixels".
    """
    try:
        if box is None and (whole := _jpeg_pixels(image)) is not None:
            return whole
        _check_jpeg(image)
        image.load()
        part = image if box is None else image.crop(box)
        pixels = heic.undo_turns(_as_rgb(part), image.info.get(_TURNS, ()))
    except ImageError:
        raise
    except Exception as error:  # see open_image
        raise ImageError("undecodable", _explain(error)) from error
    return np.ascontiguousarray(pixels)


def _jpeg_pixels(image: Image.Image) -> np.ndarray | None:
    """The pixels of a JPEG image that was not decoded yet, if all is well with it.

    Pillow would say nothing of damage, so that the file would have to be read twice.
    """
    if not isinstance(image, JpegImageFile) or not isinstance(image.fp, io.BytesIO):
        return None
    pixels = jpeg_pixels.decode(image.fp.getvalue()) if image.mode == "RGB" else None
    return pixels if pixels is not None and pixels.shape[1::-1] == image.size else None


def _check_jpeg(image: Image.Image) -> None:
    """Lets a JPEG image that was not decoded yet end where its data does, or refuses it.

    Raises:
        ImageError: "undecodable": data is missing or wrong, of which Pillow says nothing.
    """
    if not isinstance(image, JpegImageFile) or not isinstance(image.fp, io.BytesIO):
        return
    data = jpeg_files.completed(image.fp.getvalue())
    if problem := jpeg_files.damage(data):
        raise ImageError("undecodable", problem)
    image.fp = io.BytesIO(data)


def bands(image: Image.Image) -> Iterator[np.ndarray]:
    """Decodes an opened image that `can_be_cropped` from top to bottom: uint8 [h, W, 3] each.

    Raises:
        ImageError: see `to_rgb`.
    """
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        yield to_rgb(image, (0, top, image.width, min(top + rows, image.height)))


def _explain(error: Exception) -> str:
    """What a reader of Pillow's found wrong."""
    text = storage.describe(error)
    if "MAX_TEXT" in text:  # names of limits inside Pillow
        return (
            "its PNG texts or colour profile are larger than 1 MiB each or 64 MiB together; "
            "a copy without metadata can be read"
        )
    return text


def decode_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Opens and decodes an image to uint8 [H, W, 3]: `open_image`, then `to_rgb`."""
    return to_rgb(open_image(source, max_pixels=max_pixels))


def _as_rgb(image: Image.Image) -> np.ndarray:
    """Converts a loaded image in bands, as Pillow's copies take several times its memory."""
    rows = max(1, _BAND // image.width)
    if image.height <= rows:
        return _band_as_rgb(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        pixels[top:bottom] = _band_as_rgb(image.crop((0, top, image.width, bottom)))
    return pixels


def _band_as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I"):
        return np.repeat(_to_8_bits(np.asarray(image))[..., None], 3, axis=2)
    if image.mode == "F":
        raise ImageError("unsupported_pixels", "floating-point pixels have no fixed range")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _to_8_bits(grey: np.ndarray) -> np.ndarray:
    """Scales 16-bit grey (also in a wider type) to 8 bits: 65535 -> 255, to the nearest."""
    if grey.min() < 0 or grey.max() > 65535:
        raise ImageError("unsupported_pixels", "grey values beyond 16 bits have no fixed range")
    # A table, as arithmetic in a wider type would take many times the image's memory.
    table = ((np.arange(65536) * 255 + 32767) // 65535).astype(np.uint8)
    return table[grey]


def random_window(image: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
    """A window of at most 256x256: at a random place, or central without a generator."""
    corner = [
        int(rng.integers(spare + 1)) if rng else spare // 2
        for spare in (max(0, side - WINDOW) for side in image.shape[:2])
    ]
    return image[corner[0] : corner[0] + WINDOW, corner[1] : corner[1] + WINDOW]


def at_least_one_patch(image: np.ndarray) -> np.ndarray:
    """The image itself, or, if a side is under 64, the image resized to 64x64."""
    if min(image.shape[:2]) >= PATCH:
        return image
    resized = Image.fromarray(image).resize((PATCH, PATCH), Image.Resampling.BILINEAR)
    return np.asarray(resized)
