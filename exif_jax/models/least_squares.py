"""Features that follow known targets, in closed form: nothing is iterated, so nothing overfits.

With hundreds of photographs of each camera a network trained on their tags learns the cameras by
heart; a few directions found by partial least squares do not.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.cross_decomposition import PLSRegression


def label_columns(labels: Sequence[np.ndarray], classes: Sequence[int]) -> np.ndarray:
    """Tags as numbers that least squares can follow, of equal weight.

    Args:
        labels: of every tag, float [n]: its value, or the index of its class; NaN where unknown.
        classes: of every tag, its number of classes; 0: its values are ordered.

    Returns:
        float64 [n, columns]: of an ordered tag the centred rank, of another one the centred
        indicator of every class that has any photo. All columns of a tag together
        have variance 1 over the photos where it is known, and are 0 where it is not.
    """
    columns = []
    for values, count in zip(labels, classes, strict=True):
        known = np.isfinite(values)
        own = values[known]
        if count:
            part = (own[:, None] == np.unique(own)).astype(np.float64)
        else:
            unique, inverse = np.unique(own, return_inverse=True)
            frequency = np.bincount(inverse, minlength=len(unique))
            part = (np.cumsum(frequency) - frequency / 2)[inverse][:, None]
        part = part - part.mean(axis=0) if len(part) else part
        total = np.sqrt(part.var(axis=0).sum()) if part.size else 0.0
        column = np.zeros((len(values), part.shape[1]))
        if total > 0:
            column[known] = part / total
            columns.append(column)
    return np.hstack(columns) if columns else np.zeros((len(labels[0]), 0))


def supervised_directions(
    x: np.ndarray, targets: np.ndarray, directions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Linear features that share most with the targets, by partial least squares.

    Args:
        x: float [n, S], rows whose columns are comparable.
        targets: float [n, columns].
        directions: F, at most S.

    Returns:
        Kernel float32 [S, F] and bias float32 [F]: the features x @ kernel + bias of these rows are
        uncorrelated, of mean 0 and variance 1.

    References:
        Wold, Sjostrom & Eriksson, "PLS-regression: a basic tool of chemometrics", 2001.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    both = np.hstack([x - mean, targets - targets.mean(axis=0)])
    # Only products of columns count: a triangular factor has the same in far fewer rows, and
    # beside its negative a mean of zero.
    factor: np.ndarray = both
    if len(both) > 2 * both.shape[1]:
        factor = np.asarray(np.linalg.qr(both, mode="r"))
    rows = np.concatenate([factor, -factor])
    model = PLSRegression(directions, scale=False, max_iter=2000)
    rotation = model.fit(rows[:, : x.shape[1]], rows[:, x.shape[1] :]).x_rotations_
    deviation = (both[:, : x.shape[1]] @ rotation).std(axis=0)
    kernel = rotation / np.where(deviation > 0, deviation, 1)
    return kernel.astype(np.float32), (-mean @ kernel).astype(np.float32)
