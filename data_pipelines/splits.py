"""Splits that never divide a group: the windows of one photo, a burst, a camera."""

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np


def split_groups(groups: Sequence[Hashable], fraction: float, seed: int) -> list[bool]:
    """Chooses whole groups at random until about a fraction, in 0..1, of the items is chosen.

    The same groups, fraction and seed give the same choice.

    Returns:
        For every item, whose group is given, whether it is chosen. The fraction is met as nearly as
        the groups, taken in random order, allow; strictly between 0 and 1, of two or more groups
        neither side is empty: then the smallest group stands alone on the side that would be.
    """
    sizes = Counter(groups)
    names = sorted(sizes, key=str)
    wanted, chosen, count = fraction * len(groups), set(), 0
    for index in np.random.default_rng(seed).permutation(len(names)):
        name = names[index]
        if abs(count + sizes[name] - wanted) < abs(count - wanted):
            chosen.add(name)
            count += sizes[name]
    if 0 < fraction < 1 and len(names) > 1 and len(chosen) in (0, len(names)):
        smallest = min(names, key=lambda name: (sizes[name], str(name)))
        chosen ^= {smallest}
    return [group in chosen for group in groups]
