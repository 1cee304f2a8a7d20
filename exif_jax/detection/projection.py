"""Features of photographs centred, scaled and, if asked, projected to principal components."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from data_pipelines.errors import UserError
from exif_jax.models.storage import Tree
from exif_jax.training.shares import gather


def principal_projection(chunks: Iterable[np.ndarray], dimensions: int) -> Tree:
    """Centring and scaling to unit variance, onto principal components if asked.

    Args:
        chunks: [n, T] each, of the features to learn it from; read twice. Those of this process,
            which may have none: the projection is that of all.
        dimensions: principal components kept; 0: every coordinate, each scaled on its own.

    Returns:
        {"mean": float64 [T], "matrix": float64 [T, d]} for `project`. Scaling makes the mixture's
        regularisation relative; directions without variance are left unscaled.

    Raises:
        UserError: a negative number of dimensions, or more than features or rows allow.
    """
    rows, total = 0, np.zeros(())
    for chunk in chunks:
        rows, total = rows + len(chunk), total + np.asarray(chunk, np.float64).sum(axis=0)
    sums = [part for part in gather({"rows": rows, "total": total}) if part["rows"]]
    rows = sum(int(part["rows"]) for part in sums)
    mean = np.sum([part["total"] for part in sums], axis=0) / rows
    centred = (np.asarray(chunk, np.float64) - mean for chunk in chunks)
    if not dimensions:
        own = sum((np.square(part).sum(axis=0) for part in centred), np.zeros(len(mean)))
        squares = sum(part["squares"] for part in gather({"squares": own}))
        deviation = np.sqrt(squares / rows)
        return {"mean": mean, "matrix": np.diag(1 / np.where(deviation > 0, deviation, 1))}
    most = min(len(mean), rows - 1)
    if not 0 < dimensions <= most:
        raise UserError(
            f"config.pca = {dimensions} must lie between 0 and {most}, which is what "
            f"{rows} photos of {len(mean)} numbers allow"
        )
    # A triangular factor has the singular values and directions of the rows that it stands for.
    factor: Any = next(centred, np.zeros((0, len(mean))))
    for part in centred:
        factor = np.linalg.qr(np.concatenate([factor, part]), mode="r")
    factor = _of_all(factor)
    _, singular, directions = np.linalg.svd(factor, full_matrices=False)
    deviation = singular[:dimensions] / np.sqrt(rows)
    kept = directions[:dimensions]
    # Either sign would do: that of the number which is farthest from zero is positive.
    kept *= np.sign(np.take_along_axis(kept, np.abs(kept).argmax(axis=1)[:, None], axis=1))
    return {"mean": mean, "matrix": kept.T / np.where(deviation > 0, deviation, 1)}


def _of_all(rows: np.ndarray) -> Any:
    """The triangular factor of the rows of all processes; in one process, its rows as they are."""
    own: Any = rows
    if jax.process_count() > 1 and len(rows) > rows.shape[1]:
        own = np.linalg.qr(rows, mode="r")
    factor: Any
    factor, *others = (part["factor"] for part in gather({"factor": own}))
    for part in others:
        factor = np.linalg.qr(np.concatenate([factor, part]), mode="r")
    return factor


def project(features: np.ndarray, projection: Tree) -> np.ndarray:
    """float64 [n, d] of features [n, F]: centred, then multiplied by the matrix [F, d]."""
    centred = np.asarray(features, np.float64) - projection["mean"]
    result: np.ndarray = centred @ projection["matrix"]
    return result
