"""Groups of photos that are not independent of each other: bursts, brackets, copies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Column = Sequence[Any] | np.ndarray


def burst_groups(
    camera: Column, seconds: Column, digest: Column, ids: Column, gap_seconds: float
) -> np.ndarray:
    """Groups photos of one camera that were taken near in time.

    Photos of one camera in order of time belong together as long as each follows the one before
    within the gap. Photos without a time belong together if their whole EXIF is the same. Copies of
    one image always do, whatever their EXIF says.

    Args:
        camera: [n], names or numbers of camera models; all unknown ones are one.
        seconds: [n], time of capture, NaN or None if unknown.
        digest: [n], hash of the EXIF, text or number, empty or 0 if there is none.
        ids: [n], whole numbers, id of each photo, the same for copies.
        gap_seconds: largest gap within a group.

    Returns:
        int64 [n], the group of each photo: the smallest photo id in it.
    """
    if not len(ids):
        return np.zeros(0, np.int64)
    time, ids = np.asarray(seconds, np.float64), np.asarray(ids, np.int64)
    untimed, alike = np.isnan(time), np.asarray(digest)
    alone = untimed & ~alike.astype(bool)
    # Photos of one chain are equal in these, but for what time and id say.
    kind = np.where(alone, 2, untimed.astype(np.int64))
    same = np.where(alone, ids, np.where(untimed, _numbered(alike), 0))
    time = np.where(untimed, 0.0, time)
    by_camera = _numbered(np.asarray(camera))
    order = np.lexsort((ids, time, same, kind, by_camera))
    starts = np.zeros(len(ids), bool)
    starts[0] = True
    for column in (by_camera, kind, same):
        starts[1:] |= np.diff(column[order]) != 0
    starts[1:] |= np.diff(time[order]) > gap_seconds
    chains = np.empty(len(ids), np.int64)
    chains[order] = np.cumsum(starts) - 1
    labels = linked(chains, ids) if len(np.unique(ids)) < len(ids) else chains
    smallest = np.full(labels.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, labels, ids)
    return smallest[labels]


def linked(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels items so that two have the same label if they share a value, directly or by others.

    Both columns are int [n], the first at least 0; so are the labels, from 0.
    """
    nodes = first, _numbered(second) + first.max() + 1
    size = int(nodes[1].max()) + 1
    edges = coo_array((np.ones(len(first), np.int8), nodes), shape=(size, size))
    labels: np.ndarray = connected_components(edges, directed=False)[1]
    return labels[first]


def _numbered(column: np.ndarray) -> np.ndarray:
    """Numbers from 0, equal where the values are."""
    numbers: np.ndarray = np.unique(column, return_inverse=True)[1]
    return numbers
