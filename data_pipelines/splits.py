"""Splits that never divide a group: the windows of one photo, a burst, a camera."""

from collections.abc import Hashable, Sequence

import numpy as np


def split_groups(groups: Sequence[Hashable], fraction: float, seed: int) -> list[bool]:
    """Chooses whole groups at random until about a fraction of the items is chosen.

    Args:
        groups: group of every item.
        fraction: of the items to choose, in 0..1.
        seed: the same groups, fraction and seed give the same choice.

    Returns:
        For every item whether it is chosen. The fraction is met as nearly as the groups, taken in
        random order, allow.
    """
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    names = sorted(sizes, key=str)
    wanted, chosen, count = fraction * len(groups), set(), 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        name = names[index]
        if abs(count + sizes[name] - wanted) < abs(count - wanted):
            chosen.add(name)
            count += sizes[name]
    return [group in chosen for group in groups]
