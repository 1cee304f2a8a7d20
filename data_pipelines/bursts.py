"""Groups of photos that are not independent of each other: bursts, brackets, copies."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Column = Sequence[Any] | np.ndarray


def burst_groups(
    camera: Column,
    seconds: Column,
    digest: Column,
    ids: Column,
    gap_seconds: float,
    *,
    zone: Column | None = None,
    place: Column | None = None,
) -> np.ndarray:
    """Groups photos of one camera that were taken near in time.

    Photos of one camera in order of time belong together as long as each follows the one before
    within the gap: by the time in UTC if the zone of both is known, else by the camera's clock.
    Photos without a time belong together if their whole EXIF is the same; and with the photos, of
    whatever time, that come just before or after them in a series of file numbers of their camera,
    if that is known. Copies of one image always belong together, whatever their EXIF says.

    Args:
        camera: [n], names or numbers of camera models; all unknown ones ("", or below 0) are one.
        seconds: [n], time of capture by the camera's clock, NaN or None if unknown.
        digest: [n], hash of the EXIF, text or number, empty or 0 if there is none.
        ids: [n], whole numbers, id of each photo, the same for copies.
        gap_seconds: largest gap within a group.
        zone: [n], seconds by which the clock is ahead of UTC, NaN or None if unknown.
        place: [n], whole numbers, of each photo in a series of file numbers, one more than that of
            the photo before it; below 0 if it is in none. See `file_names.place_in_series`.

    Returns:
        int64 [n], the group of each photo: the smallest photo id in it.
    """
    if not len(ids):
        return np.zeros(0, np.int64)
    ids = np.asarray(ids, np.int64)
    time = np.asarray(seconds, np.float64)
    ahead = np.full(len(ids), np.nan) if zone is None else np.asarray(zone, np.float64)
    known, by_camera = _is_known(np.asarray(camera)), _numbered(np.asarray(camera))
    labels = _near_in_time(by_camera, time, ahead, gap_seconds)
    labels = _joined(labels, _of_same_exif(by_camera, time, np.asarray(digest)))
    if place is not None:
        places = np.where(known, np.asarray(place, np.int64), -1)
        labels = _joined(labels, _in_series(by_camera, time, places))
    labels = _joined(labels, _numbered(ids))
    smallest = np.full(labels.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, labels, ids)
    return smallest[labels]


def _near_in_time(
    camera: np.ndarray, time: np.ndarray, ahead: np.ndarray, gap: float
) -> np.ndarray:
    """Labels photos by what follows each other within the gap; those without a time are alone."""
    labels = _near(camera, time - ahead, gap)
    # By their clocks, photos of unknown zone are compared with those of each zone in turn.
    unknown = np.isnan(ahead)
    zones = np.unique(ahead[~unknown])
    for zone in zones if len(zones) else [np.nan]:
        comparable = np.where(unknown | (ahead == zone), time, np.nan)
        labels = _joined(labels, _near(camera, comparable, gap))
    return labels


def _near(camera: np.ndarray, time: np.ndarray, gap: float) -> np.ndarray:
    order = np.lexsort((time, camera))
    return _chained(order, _same(camera[order]) & (np.diff(time[order]) <= gap))  # NaN: false


def _of_same_exif(camera: np.ndarray, time: np.ndarray, digest: np.ndarray) -> np.ndarray:
    """Labels photos by what has no time, and the same EXIF."""
    alike, usable = _numbered(digest), np.isnan(time) & digest.astype(bool)
    order = np.lexsort((usable, alike, camera))
    both = usable[order][1:] & usable[order][:-1]
    return _chained(order, _same(camera[order]) & _same(alike[order]) & both)


def _in_series(camera: np.ndarray, time: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Labels photos by what has no time and what is of its number, the one before or the next."""
    order = np.lexsort((place, camera))
    camera, place, untimed = camera[order], place[order], np.isnan(time[order])
    same_number = _same(camera) & _same(place)
    number = np.concatenate([[0], np.cumsum(~same_number)])  # of each photo, among all there are
    untimed = np.bincount(number, untimed) > 0  # whether a photo of this number is
    last = np.flatnonzero(~same_number)  # photos of one number before those of the next
    in_row = _same(camera)[last] & (place[last] >= 0) & (np.diff(place)[last] == 1)
    tied = in_row & (untimed[1:] | untimed[:-1])
    near = untimed | np.append(tied, False) | np.insert(tied, 0, False)
    follows = same_number & near[number[1:]] & (place[1:] >= 0)
    follows[last] = tied
    return _chained(order, follows)


def _same(column: np.ndarray) -> np.ndarray:
    """Bool [n - 1], whether each value equals the one before it."""
    same: np.ndarray = column[1:] == column[:-1]
    return same


def _chained(order: np.ndarray, follows: np.ndarray) -> np.ndarray:
    """Labels photos by chains of those that follow, [n - 1], the one before them in an order."""
    labels = np.zeros(len(order), np.int64)
    labels[order[1:]] = np.cumsum(~follows)
    return labels


def _joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels photos that share either of two labels, directly or by others."""
    return linked(first, second) if len(np.unique(second)) < len(second) else first


def tied(group: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Joins the groups of pairs of photos.

    Args:
        group: int64 [n], of each photo, the smallest photo id in it.
        pairs: int [p, 2], positions of photos.

    Returns:
        int64 [n], the same for the joined groups.
    """
    names, number = np.unique(group, return_inverse=True)  # in order of the names
    shape = (len(names), len(names))
    edges = coo_array((np.ones(len(pairs), np.int8), tuple(number[pairs].T)), shape=shape)
    labels = connected_components(edges, directed=False)[1]
    smallest = np.unique(labels, return_index=True)[1]
    joined: np.ndarray = names[smallest[labels]][number]
    return joined


def linked(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels items so that two have the same label if they share a value, directly or by others.

    Both columns are int [n], the first at least 0; so are the labels, from 0.
    """
    nodes = first, _numbered(second) + first.max() + 1
    size = int(nodes[1].max()) + 1
    edges = coo_array((np.ones(len(first), np.int8), nodes), shape=(size, size))
    labels: np.ndarray = connected_components(edges, directed=False)[1]
    return labels[first]


def _is_known(camera: np.ndarray) -> np.ndarray:
    known: np.ndarray = camera >= 0 if camera.dtype.kind in "if" else camera.astype(bool)
    return known


def _numbered(column: np.ndarray) -> np.ndarray:
    """Numbers from 0, equal where the values are."""
    numbers: np.ndarray = np.unique(column, return_inverse=True)[1]
    return numbers
