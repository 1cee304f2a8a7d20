"""Groups of photos that are not independent of each other: bursts, brackets, copies."""

from collections import Counter
from collections.abc import Sequence

from data_pipelines.exif import CaptureKey
from data_pipelines.splits import split_groups


def group_bursts(keys: Sequence[CaptureKey], ids: Sequence[int], gap_seconds: float) -> list[int]:
    """Groups photos of one camera that were taken near in time.

    Photos of one camera in order of time belong together as long as each follows the one before
    within the gap. Photos without a time belong together if their whole EXIF is the same, and
    copies of one file always do.

    Args:
      keys: Camera and time of each photo.
      ids: Id of each photo, the same for identical files.
      gap_seconds: Largest gap within a group.

    Returns:
      For each photo the id of its group: the smallest photo id in it.
    """
    chains: dict[tuple[str, str], list[int]] = {}
    for i, key in enumerate(keys):
        fallback = "" if key.seconds is not None else key.digest or str(ids[i])
        chains.setdefault((key.camera, fallback), []).append(i)
    groups = [0] * len(keys)
    for members in chains.values():
        members.sort(key=lambda i: (keys[i].seconds or 0.0, ids[i]))
        start = 0
        for end in range(1, len(members) + 1):
            if end < len(members) and _near(
                keys[members[end - 1]], keys[members[end]], gap_seconds
            ):
                continue
            group = min(ids[i] for i in members[start:end])
            for i in members[start:end]:
                groups[i] = group
            start = end
    return groups


def _near(before: CaptureKey, after: CaptureKey, gap_seconds: float) -> bool:
    return (after.seconds or 0.0) - (before.seconds or 0.0) <= gap_seconds


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
