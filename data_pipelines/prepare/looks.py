"""How a photo looks, in few numbers: enough to find it again when it was saved anew or resized.

Of a JPEG file the numbers come from its DCT coefficients, in the pass that cuts the windows; others
are decoded anyway. Two things are kept of each photo, see `Look`: a coarse picture, and the exact
brightness of some of its 8x8 blocks. Compared they are in `near_copies`.
"""

import base64
import dataclasses
from collections.abc import Sequence
from typing import Final, Self

import numpy as np
from PIL import Image

from data_pipelines.images import to_rgb

GRID: Final = 32
"""Cells, and blocks that are looked at, along each side of a photo."""
LEVEL: Final = 8
"""Units of a block's brightness that make a level of 0..255: of an unquantised DC coefficient."""
CLIPPED: Final = -(2**15)
"""Stands for a block that may hold values beyond the range of pixels, which decoding cuts off."""

_BLOCK: Final = 8
_FREQUENCIES: Final = 8  # of the hash, along each side
_FLAT: Final = 1.0  # a coarse picture that deviates less from its mean, in levels, has no hash
# Values of a block reach this many of its standard deviations, and levels, from its mean.
_REACH: Final = 4.0, 6.0
_REDUCIBLE: Final = ("L", "RGB", "RGBA", "CMYK", "YCbCr")  # modes that Pillow averages
_MIDDLE: Final = 128.0  # level of a DC coefficient of 0
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_TO_RGB: Final = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])


def _cosines() -> np.ndarray:
    """The lowest frequencies of the discrete cosine transform of `GRID` values."""
    place = np.arange(GRID) + 0.5
    return np.cos(np.pi / GRID * np.arange(_FREQUENCIES)[:, None] * place)


_COSINES: Final = _cosines()


@dataclasses.dataclass(frozen=True)
class Look:
    """What is kept of a photo, plain values for JSON.

    Attributes:
        hash: signs of the 63 lowest frequencies of `cells`, in [0, 2^63); -1 if it is flat.
        step: quantisation step of a block's mean brightness, of which `LEVEL` are a level; 0 of
            what was decoded: it is not known.
        coded: bytes of the file.
        cells: base64 of uint8 [32, 32], mean brightness of the cells of a grid.
        samples: base64 of little-endian int16 [32, 32], mean brightness of a block in each cell,
            `LEVEL` * (Y - 128); or `CLIPPED`.
    """

    hash: int
    step: int
    coded: int
    cells: str
    samples: str

    @classmethod
    def of(cls, cells: np.ndarray, samples: np.ndarray, *, step: int, coded: int) -> Self:
        """Packs cells, float [32, 32] in levels, and samples, float [32, 32], NaN if clipped."""
        whole = np.clip(np.rint(cells), 0, 255).astype(np.uint8)
        kept = np.clip(np.rint(samples), CLIPPED + 1, -CLIPPED - 1)
        exact = np.where(np.isnan(samples), CLIPPED, kept).astype("<i2")
        return cls(look_hash(cells), step, coded, _packed(whole), _packed(exact))

    def unpacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cells, and the samples."""
        cells = np.frombuffer(base64.b64decode(self.cells), np.uint8)
        samples = np.frombuffer(base64.b64decode(self.samples), "<i2")
        return cells.reshape(GRID, GRID), samples.reshape(GRID, GRID)


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


def look_hash(cells: np.ndarray) -> int:
    """Returns the signs of the lowest frequencies of a coarse picture, -1 if it is flat."""
    if cells.std() < _FLAT:
        return -1
    signs = (_COSINES @ cells @ _COSINES.T).ravel()[1:] > 0
    return int.from_bytes(np.packbits(signs).tobytes(), "big") >> 1


class BlockLook:
    """Gathers the look of a JPEG file from its coefficients; `visit` is a `libjpeg.Visit`.

    Args:
        size: width and height of the photo, at least a block each.
        tables: of Y, Cb, Cr the quantisation table, 64 steps each in the order of rows.
    """

    def __init__(self, size: tuple[int, int], tables: Sequence[Sequence[int]]) -> None:
        self._size = size
        self._tables = tuple(np.array(table, np.float32) for table in tables)
        self._places = tuple(_places(side // _BLOCK) for side in size)
        self._wanted: dict[int, tuple[list[int], np.ndarray]] = {}
        self._lines: dict[int, frozenset[int]] = {}
        self._rows: dict[tuple[int, int], np.ndarray] = {}

    def visit(self, component: int, row: int, rows: int, blocks: np.ndarray) -> None:
        """Takes a row of blocks, int16 [n, 64], of `rows`; again if there is another pass."""
        if component not in self._wanted:
            self._wanted[component] = self._places_in(len(blocks), rows)
            self._lines[component] = frozenset(self._wanted[component][0])
        wanted = row in self._lines[component]
        if wanted or not component:  # of colours only the means are needed
            self._rows[component, row] = (
                blocks[:, 0] if component or not wanted else blocks
            ).copy()

    def _places_in(self, across: int, down: int) -> tuple[list[int], np.ndarray]:
        """Rows and columns of a plane's blocks that cover those looked at, [32] each."""
        columns, lines = (
            place * blocks // -(-side // _BLOCK)
            for place, blocks, side in zip(self._places, (across, down), self._size, strict=True)
        )
        return lines.tolist(), columns

    def look(self, coded: int) -> Look:
        """Returns the look of a file of `coded` bytes, all of whose rows were visited."""
        step = int(self._tables[0][0])
        rows = sorted(row for component, row in self._rows if component == 0)
        brightness = [self._rows[0, row] for row in rows]
        means = np.stack([row if row.ndim == 1 else row[:, 0] for row in brightness])
        luma, *colours = (
            np.stack([self._rows[component, row].take(columns, 0) for row in lines])
            for component, (lines, columns) in sorted(self._wanted.items())
        )
        values = luma * self._tables[0]
        spread = np.sqrt(np.einsum("ijk,ijk->ij", values[..., 1:], values[..., 1:])) / LEVEL
        chroma = (
            colour * table[0] for colour, table in zip(colours, self._tables[1:], strict=True)
        )
        planes = np.stack([values[..., 0], *chroma], -1)
        rgb = planes @ _TO_RGB.T / LEVEL + _MIDDLE
        reach = (_REACH[0] * spread + _REACH[1])[..., None]
        inside = ((rgb >= reach) & (rgb <= 255 - reach)).all(-1)
        return Look.of(
            _cells(means * np.float32(step / LEVEL) + _MIDDLE, self._size),
            np.where(inside, values[..., 0], np.nan),
            step=step,
            coded=coded,
        )


def look_of_pixels(image: Image.Image, coded: int) -> Look:
    """Returns the look of an image that is decoded and `can_be_cropped`; `coded`: see `Look`."""
    width, height = image.size
    columns, lines = (_places(side // _BLOCK) * _BLOCK for side in image.size)
    reducible = image.mode in _REDUCIBLE and "transparency" not in image.info
    small = to_rgb(image.reduce(_BLOCK)) if reducible else _reduced(to_rgb(image))
    strips = [to_rgb(image, (0, y, width, y + _BLOCK)) for y in lines.tolist()]
    across = columns[:, None] + np.arange(_BLOCK)
    blocks = np.stack([strip[:, across].swapaxes(0, 1) for strip in strips])
    clipped = ((blocks == 0) | (blocks == 255)).any((2, 3, 4))
    # Of pixels that were coded as Y, Cb, Cr this is the very Y, although their RGB was rounded.
    luma = np.rint(blocks @ _LUMA)
    samples = (luma.mean((2, 3)) - _MIDDLE) * LEVEL
    samples = np.where(clipped, np.nan, samples)
    return Look.of(_cells(small @ _LUMA, (width, height)), samples, step=0, coded=coded)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).reduce(_BLOCK))


def _places(blocks: int) -> np.ndarray:
    """The block in the middle of each cell, of a number of blocks in a row, int [32]."""
    return (2 * np.arange(GRID) + 1) * blocks // (2 * GRID)


def _cells(means: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Averages the mean brightness of blocks over the cells, given a photo's width and height."""
    edges = (0, 0, size[0] / _BLOCK, size[1] / _BLOCK)
    plane = Image.fromarray(means.astype(np.float32))
    return np.asarray(plane.resize((GRID, GRID), Image.Resampling.BOX, box=edges))
