"""Photos divided by use: to fit, to choose by, to set the threshold by."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.splits import split_groups
from exif_jax.config import OneClassConfig


@dataclass(frozen=True)
class Parts:
    """Rows of the features by use: to fit, to choose the mixture by, to set the threshold by."""

    fit: np.ndarray
    choose: np.ndarray
    threshold: np.ndarray


def divide(
    groups: Sequence[int], heldout: Sequence[bool], config: OneClassConfig, choosing: bool
) -> Parts:
    """Divides photos by use, groups (windows of one photo, bursts) undivided.

    Prepared records bring their own held-out split, which the extractor has not seen either: it
    sets the threshold. Otherwise `heldout_fraction` of the photos are kept from fitting.

    Args:
        groups: of the photos.
        heldout: whether they belong to a held-out split made earlier.
        config: of the stage.
        choosing: whether there are candidates to choose from.

    Raises:
        UserError: the photos are too few.
    """
    held = np.array(heldout)
    fraction = config.heldout_fraction
    if not held.any():
        held = np.array(split_groups(groups, fraction / 2 if choosing else fraction, config.seed))
        fraction /= 2
    fit, choose = ~held, np.zeros(len(groups), bool)
    if choosing:
        choose = np.array(split_groups(groups, fraction, config.seed + 1)) & ~held
        fit &= ~choose
    parts = Parts(*(np.flatnonzero(part) for part in (fit, choose, held)))
    if not len(parts.fit) or not len(parts.threshold) or (choosing and not len(parts.choose)):
        raise UserError(
            f"config.data.photos: {len(groups)} photos are too few to keep "
            f"config.heldout_fraction = {config.heldout_fraction} of them from fitting"
        )
    return parts
