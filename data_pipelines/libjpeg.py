"""libjpeg-turbo through the TurboJPEG interface that all its versions have.

The package `turbojpeg` brings the library. Its own Python functions cut one window in a pass over
the file, the library any number; and they do not tell warnings from success.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
from collections.abc import Sequence
from typing import Any, Final

from data_pipelines.errors import UserError

LIMIT_SCANS: Final = 32768  # TJFLAG_LIMITSCANS: a progressive file of 500 scans is an attack
STOP_ON_WARNING: Final = 8192  # TJFLAG_STOPONWARNING
_OP_NONE: Final = 0
_CROP_WITHOUT_METADATA: Final = 4 | 64  # TJXOPT_CROP | TJXOPT_COPYNONE
_NO_OUTPUT: Final = 16  # TJXOPT_NOOUTPUT
_WARNING: Final = 0  # TJERR_WARNING


class JpegError(ValueError):
    """What ends the library's work.

    Attributes:
        is_memory: whether memory ran out.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.is_memory = "memory" in message.lower()


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


@functools.cache
def is_available() -> bool:
    """Whether there is a library."""
    try:
        load_library()
    except UserError:
        return False
    return True


def read_header(data: bytes) -> tuple[int, int] | None:
    """Returns the codes of chroma sampling and colour space; None if the header is damaged."""
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
    return None if status else (sampling.value, colours.value)


def cut(
    data: bytes, corners: Sequence[tuple[int, int]], side: int, flags: int
) -> tuple[list[bytes], str]:
    """Cuts square windows at multiples of the coding blocks in one pass over a file.

    Returns:
        The windows, files without metadata, and the first warning or "". With a warning, windows
        may be missing.

    Raises:
        JpegError: the file cannot be read.
    """
    boxes = [(x, y, side, side, _OP_NONE, _CROP_WITHOUT_METADATA) for x, y in corners]
    return _transform(data, boxes, flags)


def first_warning(data: bytes) -> str:
    """Reads all coefficients of a file and returns the first warning, "" if there is none.

    Raises:
        JpegError: the file cannot be read.
    """
    return _transform(data, [(0, 0, 0, 0, _OP_NONE, _NO_OUTPUT)], LIMIT_SCANS | STOP_ON_WARNING)[1]


def _transform(
    data: bytes, boxes: Sequence[tuple[int, ...]], flags: int
) -> tuple[list[bytes], str]:
    library = load_library()
    count = len(boxes)
    transforms = (_Transform * count)(*(_Transform(*box) for box in boxes))
    buffers, sizes = (ctypes.c_void_p * count)(), (ctypes.c_ulong * count)()
    handle = ctypes.c_void_p(library.tjInitTransform())
    try:
        status = library.tjTransform(
            handle, data, ctypes.c_ulong(len(data)), count, buffers, sizes, transforms, flags
        )
        message = ""
        if status:
            message = (library.tjGetErrorStr2(handle) or b"").decode("latin-1")
            message = " ".join(message.split())[:200] or "unknown damage"
            if library.tjGetErrorCode(handle) != _WARNING:
                raise JpegError(message)
        return [ctypes.string_at(b, n) for b, n in zip(buffers, sizes, strict=True) if b], message
    finally:
        for buffer in buffers:
            if buffer:
                library.tjFree(ctypes.c_void_p(buffer))
        library.tjDestroy(handle)
