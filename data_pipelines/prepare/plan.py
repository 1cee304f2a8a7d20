"""Decisions that need all photos at once: duplicates, bursts, split, classes, shards."""

import dataclasses
from collections.abc import Iterator
from typing import Final

import numpy as np
from etils import epath
from tqdm import tqdm

from data_pipelines.bursts import burst_groups, linked
from data_pipelines.errors import UserError
from data_pipelines.prepare.catalogue import Catalogue, CatalogueBuilder, count_words
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.parts import read_part
from data_pipelines.prepare.reader import Reject
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
        photos: int [p, 3]: part, number among the part's photos, and group of each photo.
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
        duplicates: ids of photos that are there more than once.
        targets: what can be learned, with classes from the training photos.
        shards: every photo once, in the order of the sources.
    """

    catalogue: Catalogue
    group: np.ndarray
    heldout: np.ndarray
    duplicates: frozenset[int]
    targets: tuple[Target, ...]
    shards: tuple[Shard, ...]


def load_catalogue(directory: epath.Path, num_parts: int) -> Catalogue:
    """Gathers what is known of all photos from the parts."""
    builder = CatalogueBuilder()
    for part in tqdm(range(num_parts), "gathering", unit="part", disable=None, leave=False):
        for name, result in read_part(directory, part):
            if isinstance(result, Reject):
                builder.add_reject(result.reason, name, result.detail, result.skipped)
                continue
            builder.add_photo(
                photo=result.photo,
                camera=result.camera,
                seconds=result.seconds,
                digest=result.digest,
                num_windows=len(result.windows),
                size_differs=result.size_differs,
                part=part,
                values=result.values,
                skipped_windows=result.skipped,
            )
    return builder.build()


def make_plan(catalogue: Catalogue, options: Options, *, coded: bool) -> Plan:
    """Decides what goes where, of at least one photo; `coded`: tag values are imported class ids.

    Raises:
        UserError: nothing can be held out, or there is nothing to learn from.
    """
    rows = np.arange(len(catalogue)) - np.searchsorted(catalogue.part, catalogue.part)
    duplicates: frozenset[int] = frozenset()
    if "duplicate" in options.reject:
        ids, first, counts = np.unique(catalogue.photo, return_index=True, return_counts=True)
        duplicates = frozenset(ids[counts > 1].tolist())
        keep = np.sort(first)
        catalogue, rows = catalogue.select(keep), rows[keep]
    keys = catalogue.camera, catalogue.seconds, catalogue.digest, catalogue.photo
    group = burst_groups(*keys, options.burst_seconds)
    by_camera = options.split_by == "camera"
    # Copies of an image that name different cameras tie these together; unknown ones are number 0.
    units = linked(catalogue.camera + 1, group) if by_camera else group
    heldout = np.array(split_groups(units.tolist(), options.validation_fraction, options.seed))
    if options.validation_fraction and not heldout.any():
        raise UserError(
            f"all {len(catalogue)} photos are {_ONE_UNIT[options.split_by]}, so none can be held "
            "out; give other photos too, or --validation-fraction 0"
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
        *_shards("train", np.flatnonzero(~heldout), catalogue, rows, group),
        *_shards("validation", np.flatnonzero(heldout), catalogue, rows, group),
    ]
    return Plan(catalogue, group, heldout, duplicates, targets, tuple(shards))


def _has_numbers(catalogue: Catalogue, keep: np.ndarray) -> bool:
    """Returns whether some photo has a value of a ranked tag."""
    numbers = (c for name, c in catalogue.values.items() if name not in catalogue.words)
    return any(bool(np.isfinite(column[keep]).any()) for column in numbers)


def _shards(
    split: str, members: np.ndarray, catalogue: Catalogue, rows: np.ndarray, group: np.ndarray
) -> Iterator[Shard]:
    """Divides the photos of a split into shards of about equal numbers of windows."""
    if not len(members):
        return
    ends = np.cumsum(catalogue.num_windows[members])
    wanted = -(-int(ends[-1]) // WINDOWS_PER_SHARD)
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, wanted) / wanted, side="right")
    bounds = np.unique([0, *cuts, len(members)])  # photos of very many windows leave none empty
    columns = np.stack([catalogue.part[members], rows[members], group[members]], axis=1)
    for index in range(len(bounds) - 1):
        yield Shard(split, index, len(bounds) - 1, columns[bounds[index] : bounds[index + 1]])
