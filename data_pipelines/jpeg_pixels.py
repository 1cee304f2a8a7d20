"""Pixels of JPEG files by libjpeg-turbo itself, where they are Pillow's bit by bit.

Pillow decodes by the same library, but copies what it decodes twice: for a window of 256x256 that
takes as long as decoding. What is not sure to be the same (other samplings of the colours, other
colour spaces, anything that the library warns of) is left to Pillow, and so is everything where the
library differs from Pillow's on a picture made to tell.
"""

import ctypes
import functools
import io
from typing import Final

import numpy as np
from PIL import Image

from data_pipelines import libjpeg

_YCBCR: Final = 1  # TJCS_YCbCr
_SAMPLINGS: Final = (
    0,
    1,
    2,
)  # TJSAMP_444, _422, _420: those that Pillow writes, so that it can tell
_RGB: Final = 0  # TJPF_RGB
_BEGIN: Final = b"\xff\xd8\xff"


def decode(data: bytes, out: np.ndarray | None = None) -> np.ndarray | None:
    """Decodes a file to uint8 [H, W, 3], or tells that it is for Pillow to decode, or to refuse.

    Args:
        data: any file.
        out: contiguous uint8 [H, W, 3] to decode into; a file of another size is not decoded.

    Returns:
        The pixels, `out` if it was given; None if they are not sure to be Pillow's. Then `out` may
        hold a part of them.
    """
    if not data.startswith(_BEGIN) or not _is_pillows():
        return None
    return _decode(data, out)


def _decode(data: bytes, out: np.ndarray | None) -> np.ndarray | None:
    library = libjpeg.load_library()
    handle = ctypes.c_void_p(library.tjInitDecompress())
    try:
        width, height, sampling, colours = (ctypes.c_int() for _ in range(4))
        size = ctypes.c_ulong(len(data))
        header = (ctypes.byref(number) for number in (width, height, sampling, colours))
        if library.tjDecompressHeader3(handle, data, size, *header):
            return None
        shape = (height.value, width.value, 3)
        if colours.value != _YCBCR or sampling.value not in _SAMPLINGS:
            return None
        if out is None:
            out = np.empty(shape, np.uint8)
        elif out.shape != shape:
            return None
        status = library.tjDecompress2(
            *(handle, data, size, ctypes.c_void_p(out.ctypes.data)),
            *(width, 0, height, _RGB, libjpeg.LIMIT_SCANS | libjpeg.STOP_ON_WARNING),
        )
    finally:
        library.tjDestroy(handle)
    return None if status else out


@functools.cache
def _is_pillows() -> bool:
    """Whether there is a library that decodes what Pillow writes to the same pixels."""
    if not libjpeg.is_available():
        return False
    picture = np.random.default_rng(0).integers(256, size=(45, 61, 3), dtype=np.uint8)
    for sampling in _SAMPLINGS:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85, subsampling=sampling)
        pixels = _decode(file.getvalue(), None)
        if pixels is None or not np.array_equal(pixels, np.asarray(Image.open(file))):
            return False
    return True
