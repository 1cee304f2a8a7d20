"""Decisions that need all photos at once: duplicates, bursts, split, classes, shards."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from etils import epath
from tqdm import tqdm

from data_pipelines.bursts import burst_groups, linked, tied
from data_pipelines.capture_times import ClockTime
from data_pipelines.errors import UserError
from data_pipelines.file_names import place_in_series, time_or_named
from data_pipelines.items import Item
from data_pipelines.prepare.catalogue import Catalogue, CatalogueBuilder, count_words
from data_pipelines.prepare.near_copies import NearCopies, kept_files
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.parts import num_parts, part_size, read_part
from data_pipelines.prepare.reader import PreparedPhoto, Reject
from data_pipelines.splits import split_groups
from data_pipelines.targets import Target, build_targets, coded_targets

WINDOWS_PER_SHARD: Final = 4096  # about 100 MB
_ONE_UNIT: Final = {"photo": "copies or one burst of one camera", "camera": "of one camera model"}


@dataclasses.dataclass(frozen=True)
class Shard:
    """A shard to be written.

    Attributes:
        split: "train" or "validation".
        index: of the shard within its split.
        num_shards: of the split.
        photos: int [p], positions in the catalogue of the plan.
    """

    split: str
    index: int
    num_shards: int
    photos: np.ndarray


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was decided.

    Attributes:
        catalogue: the n photos that go into the records.
        group: int64 [n], id of each photo's burst.
        heldout: bool [n], whether it is in the validation split.
        copies: int [d, 2], positions among all files of photos that are there again, each with
            that of the photo in the records.
        near_copies: int [e, 2], likewise of photos of which there is a better file.
        num_alike: photos in the records that look like another one there, in the same group.
        targets: what can be learned, with classes from the training photos.
        shards: every photo once, in the order of the sources.
    """

    catalogue: Catalogue
    group: np.ndarray
    heldout: np.ndarray
    copies: np.ndarray
    near_copies: np.ndarray
    num_alike: int
    targets: tuple[Target, ...]
    shards: tuple[Shard, ...]


def load_catalogue(directory: epath.Path, items: Sequence[Item]) -> Catalogue:
    """Gathers what is known of all files from their parts."""
    builder, size = CatalogueBuilder(), part_size(len(items))
    parts = range(num_parts(len(items)))
    for part in tqdm(parts, "gathering", unit="part", disable=None, leave=False):
        offset = 0
        for file, (result, sizes) in enumerate(read_part(directory, part), part * size):
            if isinstance(result, Reject):
                builder.add_reject(result.reason, items[file].name, result.detail, result.skipped)
                continue
            name, time = items[file].name, _time(result)
            builder.add_photo(
                photo=result.photo,
                camera=result.camera,
                time=time_or_named(time, result.camera, name),
                timed=time is not None,
                place=place_in_series(name),
                digest=result.digest,
                size_differs=result.size_differs,
                file=file,
                width=result.width,
                height=result.height,
                offset=offset,
                look=-1 if result.look is None else result.look.hash,
                values=result.values,
                windows=[(*xy, size) for xy, size in zip(result.corners, sizes, strict=True)],
                skipped_windows=result.skipped,
            )
            offset += sum(sizes)
    return builder.build()


def _time(photo: PreparedPhoto) -> ClockTime | None:
    return None if photo.seconds is None else ClockTime(photo.seconds, photo.zone)


def make_plan(
    catalogue: Catalogue, options: Options, *, coded: bool, near: NearCopies | None = None
) -> Plan:
    """Decides what goes where.

    Args:
        catalogue: at least one photo.
        options: see there.
        coded: whether tag values are imported class ids.
        near: which of the photos look alike.

    Raises:
        UserError: nothing can be held out, or there is nothing to learn from.
    """
    near = near or NearCopies.none()
    # Of all copies, as only one of them may say which burst the image is of.
    group = tied(_groups(catalogue, options.burst_seconds), near.pairs)
    keep, copies, near_copies = _left_out(catalogue, options, near)
    num_alike = len(np.unique(near.pairs[keep[near.pairs].all(axis=1)]))
    catalogue, group = catalogue.select(keep), group[keep]
    by_camera = options.split_by == "camera"
    # Copies of an image that name different cameras tie these together; unknown ones are number 0.
    units = linked(catalogue.camera + 1, group) if by_camera else group
    heldout = np.array(split_groups(units.tolist(), options.validation_fraction, options.seed))
    if options.validation_fraction and not heldout.any():
        raise UserError(
            f"all {len(catalogue)} photos are {_ONE_UNIT[options.split_by]}"
            f"{'' if by_camera else _of_untimed(catalogue)}, so none can be held out; give other "
            "photos too, or --validation-fraction 0"
        )
    targets = (
        coded_targets()
        if coded
        else build_targets(
            count_words(catalogue, ~heldout),
            any_value=_has_numbers(catalogue, ~heldout),
            min_count=options.min_count,
            max_classes=options.max_classes,
        )
    )
    shards = [
        *_shards("train", np.flatnonzero(~heldout), catalogue),
        *_shards("validation", np.flatnonzero(heldout), catalogue),
    ]
    return Plan(catalogue, group, heldout, copies, near_copies, num_alike, targets, tuple(shards))


def _left_out(
    catalogue: Catalogue, options: Options, near: NearCopies
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns which photos stay, bool [n], and `copies` and `near_copies` of `Plan`."""
    _, first, ids = np.unique(catalogue.photo, return_index=True, return_inverse=True)
    original, nobody = first[ids], np.zeros(len(catalogue), bool)
    better = np.arange(len(catalogue))
    worse, kept = kept_files(near.same).T
    better[worse] = kept
    again = original != np.arange(len(catalogue)) if "duplicate" in options.reject else nobody
    # Exact copies of a worse file, where they are accepted, go with it.
    saved_anew = "near_duplicate" in options.reject
    poor = (better[original] != original) & ~again if saved_anew else nobody
    file = catalogue.file
    copies = np.stack([file[again], file[original[again]]], axis=1)
    near_copies = np.stack([file[poor], file[better[original[poor]]]], axis=1)
    return ~(again | poor), copies, near_copies


def _of_untimed(catalogue: Catalogue) -> str:
    """Says in an error what photos without a time have to do with it."""
    untimed = len(catalogue) - int(catalogue.timed.sum())
    return f" ({untimed} have no time, which ties files numbered in a row)" if untimed else ""


def _groups(catalogue: Catalogue, gap_seconds: float) -> np.ndarray:
    """Returns the group of every photo, see `burst_groups`."""
    return burst_groups(
        catalogue.camera,
        catalogue.seconds,
        catalogue.digest,
        catalogue.photo,
        gap_seconds,
        zone=catalogue.zone,
        place=catalogue.place,
    )


def _has_numbers(catalogue: Catalogue, keep: np.ndarray) -> bool:
    """Returns whether some photo has a value of a ranked tag."""
    numbers = (c for name, c in catalogue.values.items() if name not in catalogue.words)
    return any(bool(np.isfinite(column[keep]).any()) for column in numbers)


def _shards(split: str, members: np.ndarray, catalogue: Catalogue) -> Iterator[Shard]:
    """Divides the photos of a split into shards of about equal numbers of windows."""
    if not len(members):
        return
    ends = np.cumsum(catalogue.num_windows[members])
    wanted = -(-int(ends[-1]) // WINDOWS_PER_SHARD)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, wanted) / wanted, side="right")
    bounds = np.unique([0, *cuts, len(members)])  # photos of very many windows leave none empty
    for index in range(len(bounds) - 1):
        yield Shard(split, index, len(bounds) - 1, members[bounds[index] : bounds[index + 1]])
