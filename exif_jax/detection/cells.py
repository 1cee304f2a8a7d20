"""Cells of an image: windows of 256x256 pixels, the size that detectors are trained on."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data_pipelines.images import PATCH, WINDOW

_PATCHES = WINDOW // PATCH  # a side of a cell
FEW = 4  # cells that stand for all of an image


@dataclass(frozen=True)
class Cells:
    """Where the cells of an image lie, in pixels.

    Attributes:
        tops: upper edges of the rows of cells.
        lefts: left edges of the columns of cells.
        height: of every cell; less than 256 where the image has no more.
        width: of every cell.
    """

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int
    width: int

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def cut(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """Views of the cells, row by row."""
        for top in self.tops:
            for left in self.lefts:
                yield image[top : top + self.height, left : left + self.width]

    def to_json(self, scores: np.ndarray) -> dict[str, Any]:
        """The cells with their scores [rows, columns], JSON-serialisable."""
        return {
            "tops": list(self.tops),
            "lefts": list(self.lefts),
            "height": self.height,
            "width": self.width,
            "scores": [[float(f"{score:.6g}") for score in row] for row in scores.tolist()],
        }


def find_cells(shape: tuple[int, ...], stride: int) -> Cells:
    """Cells of an image, of whole patches of its grid; those of the last row and column end there.

    Args:
        shape: of the image, [H, W, ...].
        stride: from one cell to the next, a multiple of 64; 256: side by side.

    Returns:
        At least one cell; an image with a side under 64, which is resized as a whole, is one.
    """
    height, width = shape[:2]
    if min(height, width) < PATCH:
        return Cells((0,), (0,), height, width)
    tops, tall = _along(height, stride)
    lefts, wide = _along(width, stride)
    return Cells(tops, lefts, tall, wide)


def _along(side: int, stride: int) -> tuple[tuple[int, ...], int]:
    patches = side // PATCH
    length = min(patches, _PATCHES)
    first = (side - patches * PATCH) // 2
    starts = sorted({*range(0, patches - length + 1, stride // PATCH), patches - length})
    return tuple(first + start * PATCH for start in starts), length * PATCH


def few_cells(cells: Cells) -> Cells:
    """At most `FEW` of the cells, far from the edges and each other: two by two, or in a line."""
    most = FEW if 1 in (len(cells.tops), len(cells.lefts)) else 2
    return replace(cells, tops=_spread(cells.tops, most), lefts=_spread(cells.lefts, most))


def _spread(starts: tuple[int, ...], most: int) -> tuple[int, ...]:
    if len(starts) <= most:
        return starts
    return tuple(starts[(2 * i + 1) * len(starts) // (2 * most)] for i in range(most))


def by_patch(cells: Cells, scores: np.ndarray) -> np.ndarray:
    """Mean score of the cells that cover each patch, [patch rows, patch columns].

    Args:
        cells: of an image with no side under 64.
        scores: [rows, columns] of them.
    """
    tall, wide = max(1, cells.height // PATCH), max(1, cells.width // PATCH)
    rows = [(top - cells.tops[0]) // PATCH for top in cells.tops]
    columns = [(left - cells.lefts[0]) // PATCH for left in cells.lefts]
    total = np.zeros((rows[-1] + tall, columns[-1] + wide))
    count = np.zeros_like(total)
    for row, line in zip(rows, scores, strict=True):
        for column, score in zip(columns, line, strict=True):
            place = np.s_[row : row + tall, column : column + wide]
            total[place] += score
            count[place] += 1
    return total / count
