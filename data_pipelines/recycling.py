"""Large arrays in memory that is used again as soon as nobody looks at them.

The first touch of fresh memory takes a good part of the time of decoding into it: the system hands
out zeros, a page at a time.
"""

import math
import mmap
import os
import tempfile
import weakref
from collections import deque
from typing import Final

import numpy as np

_UNIT: Final = mmap.ALLOCATIONGRANULARITY
_MAPPED: Final = 8  # arrays at once: each map takes a file descriptor


class Slots:
    """Arrays uint8 of one shape, by number, in a file without a name that processes may share.

    There are as many as were needed at a time. The file is memory, is not part of /dev/shm, which
    containers limit to 64 MB, and is gone with the last process that has it open.
    """

    def __init__(self, shape: tuple[int, ...], file: int | None = None) -> None:
        """Arrays of a shape, in a file of their own, or in that of another process."""
        self._shape, self._bytes = shape, math.prod(shape)
        self._stride = -(-self._bytes // _UNIT) * _UNIT
        self._maps: list[mmap.mmap] = []
        self._count = 0
        self._free: deque[int] = deque()
        self.file = nameless_file() if file is None else file
        if file is None:
            weakref.finalize(self, os.close, self.file)

    def take(self) -> int:
        """Number of an array that nobody has, until it is lent and no longer needed.

        One thread at a time may call this.
        """
        try:
            return self._free.popleft()
        except IndexError:
            number, self._count = self._count, self._count + 1
            if number % _MAPPED == 0:
                os.ftruncate(self.file, (number + _MAPPED) * self._stride)
            return number

    def lend(self, number: int) -> np.ndarray:
        """An array that was taken; once it and all its views are gone, it may be taken again."""
        flat = self._flat(number)
        weakref.finalize(flat, self._free.append, number).atexit = False
        return flat.reshape(self._shape)

    def array(self, number: int) -> np.ndarray:
        """An array, to write to; in this process it is nobody's."""
        return self._flat(number).reshape(self._shape)

    def _flat(self, number: int) -> np.ndarray:
        part, place = divmod(number, _MAPPED)
        while len(self._maps) <= part:
            size = _MAPPED * self._stride
            self._maps.append(mmap.mmap(self.file, size, offset=len(self._maps) * size))
        return np.frombuffer(self._maps[part], np.uint8, self._bytes, place * self._stride)


def nameless_file() -> int:
    """Opens an empty file that has no name; of memory, where the system has such."""
    if hasattr(os, "memfd_create"):  # Linux
        return os.memfd_create("batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
