"""One photo in several files that are no copies to the byte: saved anew, resized or cropped.

A tripod burst looks the same frame after frame, and each is a photo of its own. What tells them
from one photo saved twice is rounding. A re-saved JPEG file holds the very blocks that it was made
from, each coefficient rounded to a multiple of its quantisation step, so none is further off than
half of that; the noise of another exposure knows no such limit. So photos of one size are the same
if, of the blocks that were not clipped, hardly any exceeds it. Where sizes differ the coarse
pictures have to agree, after the crop that the sizes imply, and the EXIF has to say that both were
taken at one time: two exposures of one camera at one time are of one size.

All else that looks alike is put into one group, so that it cannot be on both sides of the split.

The limits were set by `experiments/near_copies.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from data_pipelines.prepare.catalogue import Catalogue
from data_pipelines.prepare.looks import CLIPPED, GRID, Look

NEIGHBOURS: Final = 32
"""A photo is compared with as many of those that follow in an order of the same time or hash."""
ALIKE: Final = 8
"""Hashes of photos that look alike differ in no more of their 63 bits."""
SIMILAR: Final = 0.99
"""Correlation, see `_agreement`, of photos of one size that look alike, at least."""
_BITS: Final = 63
_BANDS: Final = 4  # some quarter of two such hashes is the same, or nearly always
_SLACK: Final = 1.2  # beyond half a step, in units of `LEVEL`: conversions of colours round, too
_CONVERTING: Final = 1.0  # root mean square of that
_MORE: Final = 1.15  # of the root mean square that rounding explains
_MOVED: Final = 0.02
"""Fraction of blocks that may differ between files of the same step."""
EXCEEDING: Final = 0.002
"""Fraction of blocks that may be further off than rounding explains."""
_FEWEST: Final = 100  # of the 1024 blocks that have to be comparable
AGREEING: Final = 0.9
"""The same of two sizes of one photo, at least."""
_CROP: Final = 0.85
"""A crop that leaves less of a side is not looked for."""
_ASPECT: Final = 0.01
"""Relative difference of aspect ratios of a photo and its resized copy."""
_STEP: Final = 0.25  # of the search for a crop, in cells
_EXPOSURE: Final = ("FNumber", "ExposureTime", "ISO", "FocalLength")
_INSTANT: Final = 1e-4  # seconds
_ROUNDED: Final = 0.01  # relative difference of values that programs write anew


def _averages(weights: Sequence[int]) -> np.ndarray:
    """What averages each of `GRID` values with its neighbours, float32 [32, 32]."""
    reach = len(weights) // 2
    rows = np.sum([w * np.eye(GRID, k=k) for k, w in enumerate(weights, -reach)], axis=0)
    averages: np.ndarray = (rows / rows.sum(1, keepdims=True)).astype(np.float32)
    return averages


_SMOOTH: Final = _averages((1, 2, 1))
_COARSE: Final = _averages((1,) * 9) @ _SMOOTH


@dataclasses.dataclass(frozen=True)
class NearCopies:
    """Pairs of photos that look alike, as positions in a catalogue.

    Attributes:
        pairs: int [p, 2], each once; those to be in one group.
        same: int [s, 2], those of them that are one photo: the worse file, then the better.
    """

    pairs: np.ndarray
    same: np.ndarray

    @classmethod
    def none(cls) -> "NearCopies":
        """No photo looks like another."""
        return cls(np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64))


def find_near_copies(catalogue: Catalogue, looks: Callable[[int], Look | None]) -> NearCopies:
    """Finds photos that look alike.

    Time grows as n log n with the number of photos, see `NEIGHBOURS`.

    Args:
        catalogue: the photos; of exact copies the first counts.
        looks: file -> how its photo looks; called nearly in order.
    """
    first = np.unique(catalogue.photo, return_index=True)[1]
    usable = np.sort(first[catalogue.look[first] >= 0])
    near_hash, one_time = _of_near_hash(catalogue, usable), _of_one_time(catalogue, usable)
    candidates = _unique(np.concatenate([near_hash, one_time]))
    timed = catalogue.timed & (catalogue.camera >= 0)
    alike, same = [], []
    agrees = _exif_agrees(catalogue, *candidates.T)
    for pair, may_be_same in zip(candidates.tolist(), agrees.tolist(), strict=True):
        one, other = (looks(int(catalogue.file[photo])) for photo in pair)
        if one is None or other is None:
            continue
        sizes = [(int(catalogue.width[photo]), int(catalogue.height[photo])) for photo in pair]
        better = None
        if may_be_same and (timed[pair].all() or sizes[0] == sizes[1]):
            better = _better((one, other), sizes)
        if better is not None:
            same.append((pair[1 - better], pair[better]))
        if better is not None or look_alike(one, other, one_size=sizes[0] == sizes[1]):
            alike.append(pair)
    return NearCopies(*(np.array(found, np.int64).reshape(-1, 2) for found in (alike, same)))


def kept_files(same: np.ndarray) -> np.ndarray:
    """Decides which files stay, so that each that goes is the same photo as one that stays.

    Args:
        same: int [s, 2], pairs of a worse file and a better one.

    Returns:
        int [t, 2], files that go, in order, and for each the first that stays instead.
    """
    better: dict[int, list[int]] = {}
    for worse, best in same.tolist():
        better.setdefault(worse, []).append(best)
    undecided, instead = set(same.ravel().tolist()), {}
    while undecided:
        stay = {f for f in undecided if undecided.isdisjoint(better.get(f, ()))}
        stay = stay or {min(undecided)}  # each is worse than another one in turn
        undecided -= stay
        for file in sorted(undecided):
            if chosen := stay.intersection(better.get(file, ())):
                instead[file] = min(chosen)
        undecided -= instead.keys()
    return np.array(sorted(instead.items()), np.int64).reshape(-1, 2)


def _of_one_time(catalogue: Catalogue, photos: np.ndarray) -> np.ndarray:
    """Pairs of some photos, of one known camera and the same second."""
    photos = photos[(catalogue.camera[photos] >= 0) & catalogue.timed[photos]]
    camera, second = catalogue.camera[photos], np.floor(catalogue.seconds[photos])
    order = np.lexsort((second, camera))
    return photos[_following(order, _labels(camera, second)[order])]


def _of_near_hash(catalogue: Catalogue, photos: np.ndarray) -> np.ndarray:
    """Pairs of some photos whose hashes are near: nearly all there are."""
    hashes = catalogue.look[photos]
    found = []
    for band in range(_BANDS):
        # Each quarter in turn comes first in the order, and has to be the same.
        turned = _turned(hashes, band * _BITS // _BANDS)
        order = np.argsort(turned, kind="stable")
        pairs = _following(order, turned[order] >> (_BITS - _BITS // _BANDS))
        differing = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]])
        found.append(photos[pairs[differing <= ALIKE]])
    return np.concatenate(found)


def _turned(hashes: np.ndarray, by: int) -> np.ndarray:
    """Hashes with their first bits moved behind the others."""
    low = (1 << (_BITS - by)) - 1
    turned: np.ndarray = ((hashes & low) << by) | (hashes >> (_BITS - by))
    return turned


def _labels(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Numbers from 0, equal where both values are."""
    rows = np.stack([first.astype(np.float64), second], axis=1)
    labels: np.ndarray = np.unique(rows, axis=0, return_inverse=True)[1].ravel()
    return labels


def _following(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pairs of what has one label, given in an order, and stands near in that, int [p, 2]."""
    found = [np.zeros((0, 2), np.int64)]
    for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
        at = np.flatnonzero(labels[step:] == labels[:-step])
        if not len(at):
            break
        found.append(np.stack([order[at], order[at + step]], axis=1))
    return np.concatenate(found)


def _unique(pairs: np.ndarray) -> np.ndarray:
    """The same pairs, the smaller number first, each once and in order."""
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _exif_agrees(catalogue: Catalogue, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether two photos can be one exposure: bool [p] of positions [p] each."""
    agree = catalogue.camera[one] == catalogue.camera[other]
    for name in _EXPOSURE:
        values = catalogue.values[name]
        near = np.isclose(values[one], values[other], rtol=_ROUNDED, atol=0)
        agree &= near | np.isnan(values[one]) | np.isnan(values[other])
    timed = catalogue.timed[one] & catalogue.timed[other]
    return agree & (_of_same_time(catalogue.seconds[one], catalogue.seconds[other]) | ~timed)


def _of_same_time(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether two times agree; a program that saves a photo may drop the fraction of a second."""
    floors = np.floor(one), np.floor(other)
    dropped = (floors[0] == floors[1]) & ((one == floors[0]) | (other == floors[1]))
    agree: np.ndarray = (np.abs(one - other) < _INSTANT) | dropped
    return agree


def look_alike(one: Look, other: Look, *, one_size: bool) -> bool:
    """Whether two photos, of one size or not, are to be on one side of the split."""
    if min(one.hash, other.hash) < 0 or (one.hash ^ other.hash).bit_count() > ALIKE:
        return False
    cells = (look.unpacked()[0].astype(np.float32) for look in (one, other))
    return _agreement(*cells) >= (SIMILAR if one_size else AGREEING)


def _better(looks: Sequence[Look], sizes: Sequence[tuple[int, int]]) -> int | None:
    """Which of two photos, 0 or 1, is the better file of one photo; None if they are two photos."""
    if sizes[0] == sizes[1]:
        return better_saved(*looks)
    larger = int(math.prod(sizes[1]) > math.prod(sizes[0]))
    whole, part = larger, 1 - larger
    return whole if is_part(looks[whole], looks[part], sizes[whole], sizes[part]) else None


def better_saved(one: Look, other: Look) -> int | None:
    """Which of two files of one size, 0 or 1, is the better one; None if they are two photos.

    That is the one of finer steps, unless what it holds was rounded to the coarser steps of the
    other before: then it was made from that. If steps are equal it is the larger file, or the
    first.
    """
    steps, samples = (one.step, other.step), [look.unpacked()[1] for look in (one, other)]
    known = (samples[0] != CLIPPED) & (samples[1] != CLIPPED)
    if np.count_nonzero(known) < _FEWEST:
        return None
    off = np.abs(samples[0].astype(np.float64) - samples[1])[known]
    if steps[0] == steps[1]:  # what was rounded stays as it is when it is rounded again
        return int(other.coded > one.coded) if (off > 1).mean() <= _MOVED else None
    coarser = int(steps[1] > steps[0])
    spread, half = math.sqrt(float((off**2).mean())), _rounding(max(steps)) / 2
    if spread <= half and _explains(min(steps), off):
        return coarser
    return 1 - coarser if _explains(max(steps), off) else None


def _rounding(step: int) -> float:
    """Root mean square of what rounding to a step changes."""
    return step / math.sqrt(12)


def _explains(step: int, off: np.ndarray) -> bool:
    """Whether rounding to a step explains how far off blocks are, float [n], in its units."""
    usual = math.hypot(_rounding(step), _CONVERTING)
    exceeding = (off > step / 2 + _SLACK).mean()
    return bool((off**2).mean() <= (_MORE * usual) ** 2 and exceeding <= EXCEEDING)


def is_part(
    whole: Look, part: Look, whole_size: tuple[int, int], part_size: tuple[int, int]
) -> bool:
    """Whether a photo of fewer pixels is another resized, or cropped; sizes: width, height."""
    cells = [look.unpacked()[0].astype(np.float32) for look in (whole, part)]
    fractions = [b / a for a, b in zip(whole_size, part_size, strict=True)]
    if abs(fractions[0] / fractions[1] - 1) < _ASPECT and _agreement(*cells) >= AGREEING:
        return True
    if not all(_CROP <= fraction <= 1 for fraction in fractions):
        return False
    target, best = cells[1], -1.0
    columns, rows = (_crops(fraction) for fraction in fractions)
    for row in rows:
        lines = row @ cells[0]
        best = max(best, *(_agreement(lines @ column.T, target) for column in columns))
    return best >= AGREEING


def _crops(fraction: float) -> list[np.ndarray]:
    """For crops to a fraction of a side, what takes the values of cells to those of its cells."""
    spare = GRID * (1 - fraction)
    starts = np.linspace(0, spare, 1 + math.ceil(spare / _STEP))
    centres = (np.arange(GRID) + 0.5) * fraction - 0.5
    return [
        np.maximum(0, 1 - np.abs(np.clip(start + centres, 0, GRID - 1)[:, None] - np.arange(GRID)))
        for start in starts
    ]


def _agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two coarse pictures in a band of middle frequencies."""
    a, b = (_band(cells).ravel() for cells in (one, other))
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else 0.0


def _band(cells: np.ndarray) -> np.ndarray:
    """A coarse picture without what is finer or coarser: two sizes of a photo share the rest."""
    middle: np.ndarray = _SMOOTH @ cells @ _SMOOTH.T - _COARSE @ cells @ _COARSE.T
    return middle
