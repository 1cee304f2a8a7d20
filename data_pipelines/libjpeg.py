"""libjpeg-turbo through the TurboJPEG interface that all its versions have.

The package `turbojpeg` brings the library. Its own Python functions cut one window in a pass over
the file, the library any number; and they do not tell warnings from success.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from data_pipelines.errors import UserError

LIMIT_SCANS: Final = 32768  # TJFLAG_LIMITSCANS: a progressive file of 500 scans is an attack
STOP_ON_WARNING: Final = 8192  # TJFLAG_STOPONWARNING
_OP_NONE: Final = 0
_CROP_WITHOUT_METADATA: Final = 4 | 64  # TJXOPT_CROP | TJXOPT_COPYNONE
_NO_OUTPUT: Final = 16  # TJXOPT_NOOUTPUT
_WARNING: Final = 0  # TJERR_WARNING

Visit = Callable[[int, int, int, np.ndarray], None]
"""Is given the coefficients of a row of blocks: the number of their component, the row's number and
how many there are, and int16 [n, 64], quantised, each block's in the order of rows; valid during
the call only. A component's last rows may lie beyond the image."""


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


class _Region(ctypes.Structure):
    _fields_ = (*((name, ctypes.c_int) for name in ("x", "y", "width", "height")),)


_Filter = ctypes.CFUNCTYPE(
    *(ctypes.c_int, ctypes.c_void_p, _Region, _Region),
    *(ctypes.c_int, ctypes.c_int, ctypes.c_void_p),
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
    data: bytes,
    corners: Sequence[tuple[int, int]],
    side: int,
    flags: int,
    visit: Visit | None = None,
) -> tuple[list[bytes], str]:
    """Cuts square windows at multiples of the coding blocks in one pass over a file.

    Args:
        data: the file.
        corners: (x, y) of each window.
        side: of the windows.
        flags: `LIMIT_SCANS`, `STOP_ON_WARNING`.
        visit: is also given all coefficients of the file.

    Returns:
        The windows, files without metadata, and the first warning or "". With a warning, windows
        may be missing.

    Raises:
        JpegError: the file cannot be read.
    """
    boxes = [(x, y, side, side, _OP_NONE, _CROP_WITHOUT_METADATA) for x, y in corners]
    return _transform(data, boxes, flags, visit)


def first_warning(data: bytes) -> str:
    """Reads all coefficients of a file and returns the first warning, "" if there is none.

    Raises:
        JpegError: the file cannot be read.
    """
    return _transform(data, [(0, 0, 0, 0, _OP_NONE, _NO_OUTPUT)], LIMIT_SCANS | STOP_ON_WARNING)[1]


def _filter(visit: Visit) -> Any:
    """Returns a function for the library that gives `visit` what it is called with."""

    def call(
        address: int, part: _Region, plane: _Region, component: int, _number: int, _transform: int
    ) -> int:
        row = (ctypes.c_int16 * (8 * part.width)).from_address(address)
        blocks = np.frombuffer(row, np.int16).reshape(-1, 64)
        visit(component, part.y // 8, plane.height // 8, blocks)
        return 0

    return _Filter(call)


def _transform(
    data: bytes, boxes: Sequence[tuple[int, ...]], flags: int, visit: Visit | None = None
) -> tuple[list[bytes], str]:
    library = load_library()
    each = [_Transform(*box) for box in boxes]
    if visit is not None:
        called = _filter(visit)  # is to live as long as the library may call it
        address = ctypes.cast(called, ctypes.c_void_p).value
        each.append(_Transform(0, 0, 0, 0, _OP_NONE, _NO_OUTPUT, None, address))
    count = len(each)
    transforms = (_Transform * count)(*each)
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
