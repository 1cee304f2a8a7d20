"""HEIC photos, read through the optional package pillow-heif.

pillow-heif turns and mirrors the pixels as the container says (its boxes `irot` and `imir`) and has
no option to leave that out. Both only move whole pixels, so `undo_turns` moves them back to where
the sensor had them. A crop in the container (`clap`) can't be undone; cameras use it to drop the
padding that fills the last coding block, at the right and at the bottom.
"""

import importlib
import threading
from typing import Final

import numpy as np
from PIL import Image

FORMAT: Final = "HEIF"
"""Pillow's name of the format."""

# Brands of files coded with HEVC; the general ones may hold other codings, AV1 among them.
_HEVC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
_GENERAL_BRANDS: Final = frozenset({b"mif1", b"msf1"})
_AV1_BRANDS: Final = frozenset({b"avif", b"avis"})
_MAX_BRANDS: Final = 32

_register_lock = threading.Lock()

Turn = tuple[str, int]
"""One step of the container: ("irot", degrees anticlockwise) or ("imir", 0 or 1)."""


def is_heic(data: bytes) -> bool:
    """Tells by the `ftyp` box at the start whether a file is HEIC (not AVIF, its sibling)."""
    if data[4:8] != b"ftyp":
        return False
    brand = data[8:12]
    if brand in _HEVC_BRANDS:
        return True
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MAX_BRANDS, len(data))
    compatible = {data[i : i + 4] for i in range(16, end, 4)}
    return brand in _GENERAL_BRANDS and not compatible & _AV1_BRANDS


def register_opener() -> bool:
    """Lets Pillow open HEIC files; returns False if pillow-heif is not installed.

    Photos are decoded by several threads already, so each decodes with one. An opener that is
    registered already is left as it is.
    """
    with _register_lock:
        if FORMAT in Image.OPEN:
            return True
        try:
            pillow_heif = importlib.import_module("pillow_heif")
        except ImportError:
            return False
        pillow_heif.register_heif_opener(
            decode_threads=1, thumbnails=False, depth_images=False, aux_images=False
        )
        return True


def turns_of(image: Image.Image) -> tuple[Turn, ...]:
    """Returns how the pixels of an opened, not yet decoded HEIC image will be turned, in order.

    Raises:
        AttributeError: pillow-heif is too old to tell.
    """
    # There is no public name for it, and decoding drops the container.
    frame = image._heif_file[image.tell()]  # type: ignore[attr-defined]
    steps = frame._c_image.transformations
    return tuple((name, int(values[0])) for name, *values in steps if name in ("irot", "imir"))


def undo_turns(pixels: np.ndarray, turns: tuple[Turn, ...]) -> np.ndarray:
    """Moves decoded pixels [H, W, 3] back to where they were before `turns`."""
    for name, value in reversed(turns):
        if name == "irot":
            pixels = np.rot90(pixels, -(value // 90))
        else:
            pixels = np.flip(pixels, axis=value)
    return pixels
