"""Windows of a JPEG, cut without decoding: the original's DCT blocks in a file of their own.

Quantisation, chroma sampling, the 8x8 grid and the sensor's traces stay the camera's, and a window
takes a quarter of the bytes of a lossless image. It is quicker than decoding as well: no inverse
transform, no colour conversion. Decoded, a window equals the same place of the decoded photo, but
for the outermost pixels, where subsampled colour is interpolated from outside it.

The work is done by libjpeg-turbo, through the TurboJPEG interface that all its versions have; the
package `turbojpeg` brings the library. Its own Python functions cut one window in a pass over the
file, the library any number.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
import re
from collections.abc import Sequence
from typing import Any, Final

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError, decode_image

_OP_NONE: Final = 0
_CROP_WITHOUT_METADATA: Final = 4 | 64  # TJXOPT_CROP | TJXOPT_COPYNONE
_LIMIT_SCANS: Final = 32768  # TJFLAG_LIMITSCANS: a progressive file of 500 scans is an attack
_STOP_ON_WARNING: Final = 8192  # TJFLAG_STOPONWARNING
_WARNING: Final = 0  # TJERR_WARNING
# Some cameras leave a few bytes between the image and the end of the file.
_LEFT_OVER: Final = re.compile(r"\b[1-6]?\d extraneous bytes before marker 0xd9")
# Warnings about a header say nothing of the image behind it.
_HEADER: Final = re.compile("extraneous bytes before marker|Invalid SOS parameters|Adobe color")
# By TJSAMP: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1.
_BLOCK: Final = ((8, 8), (16, 8), (16, 16), (8, 8), (8, 16), (32, 8), (8, 32))
_YCBCR: Final = 1


class _Transform(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("x", "y", "width", "height", "op", "options")),
        *((name, ctypes.c_void_p) for name in ("data", "filter")),
    )


@functools.cache
def load_library() -> Any:
    """Loads the library of the package `turbojpeg`, else the system's.

    Raises:
        UserError: there is neither; the message says what to do.
    """
    package = importlib.util.find_spec("turbojpeg")
    # Symbols are found in what the extension module is linked with.
    places = [package.origin if package else None, ctypes.util.find_library("turbojpeg")]
    for place in filter(None, places):
        try:
            library = ctypes.CDLL(place)
            for name in ("tjInitTransform", "tjInitDecompress"):
                getattr(library, name).restype = ctypes.c_void_p
            library.tjGetErrorStr2.restype = ctypes.c_char_p
            library.tjFree.restype = None
        except (OSError, AttributeError):
            continue
        return library
    raise UserError(
        "cutting JPEG windows without decoding needs libjpeg-turbo: pip install turbojpeg, or "
        "install the system's libturbojpeg, or choose --encoding pixels"
    )


def block_size(data: bytes) -> tuple[int, int] | None:
    """Returns width and height of a JPEG file's coding blocks; corners of windows are multiples.

    None where windows cannot be moved: the file is not YCbCr (records hold three channels), its
    chroma sampling is unusual, or the header is damaged (decoding it will say how).
    """
    library = load_library()
    handle = ctypes.c_void_p(library.tjInitDecompress())
    try:
        width, height, sampling, colours = (ctypes.c_int() for _ in range(4))
        status = library.tjDecompressHeader3(
            handle,
            data,
            ctypes.c_ulong(len(data)),
            *map(ctypes.byref, (width, height, sampling, colours)),
        )
    finally:
        library.tjDestroy(handle)
    known = 0 <= sampling.value < len(_BLOCK) and colours.value == _YCBCR
    return _BLOCK[sampling.value] if status == 0 and known else None


def cut_windows(data: bytes, corners: Sequence[tuple[int, int]], side: int) -> list[bytes]:
    """Cuts windows in one pass over a JPEG file, each into a file without any metadata.

    Args:
        data: the file.
        corners: (x, y) of each window, multiples of `block_size`, the window inside the photo.
        side: of the square windows, in pixels.

    Raises:
        ImageError: "undecodable", also where the file only ends early or some of its data is wrong;
            or "out_of_memory".
    """
    windows, warning = _transform(data, corners, side, _LIMIT_SCANS | _STOP_ON_WARNING)
    if not warning:
        return windows
    if not _LEFT_OVER.search(warning):
        if not _HEADER.search(warning):
            raise ImageError("undecodable", warning)
        decode_image(data)  # raises if the image is damaged
    # Only the first warning can be asked for, and it is known to be harmless.
    windows, warning = _transform(data, corners, side, _LIMIT_SCANS)
    if len(windows) < len(corners):
        raise ImageError("undecodable", warning)
    return windows


def _transform(
    data: bytes, corners: Sequence[tuple[int, int]], side: int, flags: int
) -> tuple[list[bytes], str]:
    """Returns the windows, and the first warning or ""."""
    library = load_library()
    count = len(corners)
    transforms = (_Transform * count)(
        *(_Transform(x, y, side, side, _OP_NONE, _CROP_WITHOUT_METADATA) for x, y in corners)
    )
    buffers, sizes = (ctypes.c_void_p * count)(), (ctypes.c_ulong * count)()
    handle = ctypes.c_void_p(library.tjInitTransform())
    try:
        status = library.tjTransform(
            handle, data, ctypes.c_ulong(len(data)), count, buffers, sizes, transforms, flags
        )
        if not status:
            return [ctypes.string_at(b, n) for b, n in zip(buffers, sizes, strict=True)], ""
        message = (library.tjGetErrorStr2(handle) or b"").decode("latin-1")
        message = " ".join(message.split())[:200] or "unknown damage"
        if library.tjGetErrorCode(handle) != _WARNING:
            full = "memory" in message.lower()
            raise ImageError("out_of_memory" if full else "undecodable", message)
        return [ctypes.string_at(b, n) for b, n in zip(buffers, sizes, strict=True) if b], message
    finally:
        for buffer in buffers:
            if buffer:
                library.tjFree(ctypes.c_void_p(buffer))
        library.tjDestroy(handle)
