"""Groups of photos that are not independent of each other: bursts, brackets, copies."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_pipelines.exif import CaptureKey
from data_pipelines.splits import split_groups


def burst_groups(
    camera: np.ndarray,
    seconds: np.ndarray,
    digest: np.ndarray,
    ids: np.ndarray,
    gap_seconds: float,
) -> np.ndarray:
    """Groups photos of one camera that were taken near in time.

    Photos of one camera in order of time belong together as long as each follows the one before
    within the gap. Photos without a time belong together if their whole EXIF is the same. Copies of
    one image always do, whatever their EXIF says.

    Args:
      camera: int [n], index of the camera model; all unknown ones are one.
      seconds: float64 [n], time of capture, NaN if unknown.
      digest: int64 [n], hash of the EXIF, 0 if there is none.
      ids: int64 [n], id of each photo, the same for copies.
      gap_seconds: Largest gap within a group.

    Returns:
      int64 [n], the group of each photo: the smallest photo id in it.
    """
    if not len(ids):
        return np.zeros(0, np.int64)
    untimed = np.isnan(seconds)
    alone = untimed & (digest == 0)
    # Photos of one chain are equal in these, but for what time and id say.
    kind = np.where(alone, 2, untimed.astype(np.int64))
    same = np.where(alone, ids, np.where(untimed, digest, 0))
    time = np.where(untimed, 0.0, seconds)
    order = np.lexsort((ids, time, same, kind, camera))
    starts = np.zeros(len(ids), bool)
    starts[0] = True
    for column in (camera, kind, same):
        starts[1:] |= np.diff(column[order]) != 0
    starts[1:] |= np.diff(time[order]) > gap_seconds
    smallest = np.minimum.reduceat(ids[order], np.flatnonzero(starts))
    groups = np.empty(len(ids), np.int64)
    groups[order] = smallest[np.cumsum(starts) - 1]
    return _join_copies(groups, ids)


def _join_copies(groups: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Merges groups that hold copies of one image."""
    if len(np.unique(ids)) == len(ids):
        return groups
    _, first = np.unique(groups, return_inverse=True)
    labels = linked(first, ids)
    smallest = np.full(labels.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(smallest, labels, groups)
    return smallest[labels]


def linked(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Labels items so that two have the same label if they share a value, directly or by others.

    Args:
      first: int [n], at least 0.
      second: int [n], any values.

    Returns:
      int [n], labels from 0.
    """
    _, second = np.unique(second, return_inverse=True)
    nodes = first, second + first.max() + 1
    size = int(nodes[1].max()) + 1
    edges = coo_array((np.ones(len(first), np.int8), nodes), shape=(size, size))
    labels: np.ndarray = connected_components(edges, directed=False)[1]
    return labels[first]


def group_bursts(keys: Sequence[CaptureKey], ids: Sequence[int], gap_seconds: float) -> list[int]:
    """Groups photos as `burst_groups` does.

    Args:
      keys: Camera and time of each photo.
      ids: Id of each photo, the same for identical files.
      gap_seconds: Largest gap within a group.

    Returns:
      For each photo the id of its group: the smallest photo id in it.
    """
    cameras: dict[str, int] = {}
    digests: dict[str, int] = {"": 0}
    groups = burst_groups(
        np.array([cameras.setdefault(key.camera, len(cameras)) for key in keys], np.int64),
        np.array([np.nan if key.seconds is None else key.seconds for key in keys], np.float64),
        np.array([digests.setdefault(key.digest, len(digests)) for key in keys], np.int64),
        np.array(ids, np.int64),
        gap_seconds,
    )
    return [int(group) for group in groups]


def hold_out(units: Sequence[str | int], fraction: float, seed: int) -> list[bool]:
    """Chooses whole units (groups or cameras) for validation, about a fraction of the photos.

    Args:
      units: Unit of each photo.
      fraction: Wanted fraction of photos, in [0, 1).
      seed: The same photos and seed give the same choice.

    Returns:
      Whether each photo is held out. With a fraction above 0 and two or more units neither side is
      empty: then the smallest unit stands alone on the side that would be.
    """
    held = split_groups(units, fraction, seed)
    sizes = Counter(units)
    if fraction == 0 or len(sizes) < 2 or len(set(held)) == 2:
        return held
    smallest = min(sizes, key=lambda unit: (sizes[unit], str(unit)))
    return [(unit == smallest) != held[0] for unit in units]
