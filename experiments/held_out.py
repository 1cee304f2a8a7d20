"""Cross-validation in which cameras, repositories and generators are held out whole."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from photos import Item

FOLDS = 6

# Which generated images are tested together, as (generator, repository), * for any. Fixed before
# any result was looked at: sources that publish several generators are kept together.
_GENERATED = (
    (("*", "Comfy-Org/example_workflows"), ("flux1", "*")),
    (("gpt4o", "*"),),
    (("nano_banana_pro", "*"),),
    (("gpt_image_2", "*"), ("dalle3", "*")),
    (("*", "dcsan/imagen"), ("biggan_clip", "*")),
)


@dataclass(frozen=True)
class Fold:
    """Positions of the windows to train on and to test on."""

    train: np.ndarray
    test: np.ndarray


def folds(items: Sequence[Item]) -> list[Fold]:
    """Divides windows into folds; every window is tested once.

    Photographs: cameras and repositories that have photos in common, however indirectly, stay
    together. Generated images: of those tested, neither the generator nor the repository is trained
    on, so some images are left out of a fold altogether.
    """
    labels = np.array([item.label for item in items])
    kinds = np.array([item.kind for item in items])
    repositories = np.array([item.repository for item in items])
    number = np.full(len(items), FOLDS - 1)
    number[labels == 0] = _photo_folds(kinds[labels == 0], repositories[labels == 0])
    for fold in reversed(range(len(_GENERATED))):
        for kind, repository in _GENERATED[fold]:
            chosen = (kinds == kind) | (kind == "*")
            number[
                chosen & ((repositories == repository) | (repository == "*")) & (labels == 1)
            ] = fold
    result = []
    for fold in range(FOLDS):
        test = number == fold
        generated = test & (labels == 1)
        known = np.isin(kinds, kinds[generated]) | np.isin(repositories, repositories[generated])
        train = ~test & ~(known & (labels == 1))
        result.append(Fold(np.flatnonzero(train), np.flatnonzero(test)))
    return result


def _photo_folds(kinds: np.ndarray, repositories: np.ndarray) -> np.ndarray:
    """Fold of every photograph: the largest remaining cluster goes to the smallest fold."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for kind, repository in zip(kinds, repositories, strict=True):
        parent[root(f"camera {kind}")] = root(f"repository {repository}")
    clusters = np.array([root(f"camera {kind}") for kind in kinds])
    sizes = np.zeros(FOLDS, int)
    fold = np.zeros(len(kinds), int)
    for cluster, size in sorted(Counter(clusters.tolist()).items(), key=lambda x: (-x[1], x[0])):
        smallest = int(sizes.argmin())
        fold[clusters == cluster] = smallest
        sizes[smallest] += size
    return fold
