"""Choice of the number of components and of the covariances."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from operator import index
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh
from tqdm import tqdm

from exif_jax.gmm.covariances import Structure
from exif_jax.gmm.em import Fit, fit
from exif_jax.gmm.mixture import GaussianMixture, information_criterion, log_density
from exif_jax.gmm.rows import Layout, gather, local_devices, place
from exif_jax.gmm.sources import Stream
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices

CRITERIA = ("heldout", "bic", "aic")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One line of the table.

    Attributes:
        num_components: K.
        covariance_type: of the covariances.
        rank: of `low_rank`, else 0.
        shrinkage: `none` or `ledoit_wolf`.
        num_parameters: free parameters.
        log_likelihood: mean over the rows that it was fitted to, in nats.
        heldout_log_likelihood: mean over rows kept from fitting; None with the other criteria.
        bic: Bayesian information criterion on the fitted rows; smaller is better.
        aic: Akaike's information criterion on them; smaller is better.
        converged: whether EM did.
        warnings: of the fit.
        error: why it could not be fitted, else None; then all numbers are NaN.
    """

    num_components: int
    covariance_type: str
    rank: int
    shrinkage: str
    num_parameters: int
    log_likelihood: float = float("nan")
    heldout_log_likelihood: float | None = None
    bic: float = float("nan")
    aic: float = float("nan")
    converged: bool = False
    warnings: tuple[str, ...] = ()
    error: str | None = None

    @classmethod
    def of(cls, structure: Structure, size: int, columns: int) -> "Candidate":
        """A candidate that has not been fitted."""
        parameters = structure.num_parameters(size, columns)
        return cls(size, **dataclasses.asdict(structure), num_parameters=parameters)

    def to_json(self) -> dict[str, Any]:
        """Every field; None for what is no number."""
        fields = dataclasses.asdict(self)
        return {k: None if v != v else v for k, v in fields.items()}

    @property
    def line(self) -> str:
        """What is known of it, in one line."""
        start = f"{self.num_components} components, {self.structure.label}"
        if self.error is not None:
            return f"{start}: {self.error}"
        held = self.heldout_log_likelihood
        middle = "" if held is None else f"held-out log-likelihood {held:.3f}, "
        return f"{start}: {middle}BIC {self.bic:.6g}, AIC {self.aic:.6g}"

    @property
    def structure(self) -> Structure:
        """Of the covariances."""
        return Structure(self.covariance_type, self.rank, self.shrinkage)

    def cost(self, criterion: str) -> float:
        """What the criterion minimises; infinite for a candidate that could not be fitted."""
        values = {"bic": self.bic, "aic": self.aic}
        if self.heldout_log_likelihood is not None:
            values["heldout"] = -self.heldout_log_likelihood
        value = values.get(criterion, np.nan)
        return value if np.isfinite(value) else np.inf


def compare(
    key: Array,
    x: np.ndarray | Stream,
    structures: Sequence[Structure],
    num_components: Iterable[int],
    *,
    heldout: np.ndarray | Stream | None = None,
    checkpoint: Path | None = None,
    **options: Any,
) -> tuple[Candidate, ...]:
    """Fits every structure with every number of components.

    Args:
        key: a JAX key.
        x: rows to fit, see `fit`.
        structures: of the covariances; `structures` lists combinations.
        num_components: to try with each.
        heldout: rows for the held-out log-likelihood; None: none. Rows that belong together
            (windows of one photo, photos of one camera) should all be in `x` or all be here.
        checkpoint: directory that keeps what was fitted before an interruption.
        **options: of `fit`, the same for every candidate.

    Returns:
        A row each; one that cannot be fitted has an `error`.
    """
    pairs = list(itertools.product(structures, map(index, num_components)))
    columns = x.columns if isinstance(x, Stream) else x.shape[1]
    rows = []
    for structure, size in tqdm(pairs, desc="mixtures", unit="fit", disable=None):
        name = f"{structure.covariance_type}_{structure.rank}_{structure.shrinkage}_{size}"
        saved = checkpoint / name if checkpoint else None
        row = Candidate.of(structure, size, columns)
        try:
            result = fit_candidate(key, x, row, checkpoint=saved, **options)
        except ValueError as error:
            rows.append(dataclasses.replace(row, error=str(error)))
        else:
            rows.append(_measured(row, result, heldout, options.get("mesh")))
    return tuple(rows)


def _measured(
    row: Candidate, result: Fit, heldout: np.ndarray | Stream | None, mesh: Mesh | None
) -> Candidate:
    total = result.log_likelihood * result.rows
    held = None if heldout is None else mean_log_density(result.gmm, heldout, mesh)
    return dataclasses.replace(
        row,
        log_likelihood=result.log_likelihood,
        heldout_log_likelihood=held,
        bic=information_criterion("bic", total, result.gmm, result.rows),
        aic=information_criterion("aic", total, result.gmm, result.rows),
        converged=result.converged,
        warnings=result.warnings,
    )


def best_of(table: Sequence[Candidate], criterion: str) -> Candidate:
    """The candidate that a criterion prefers.

    Args:
        table: of `compare`.
        criterion: `heldout`: highest log-likelihood of rows that were not fitted; `bic` or `aic`:
            lowest on the fitted ones. The last two assume many more rows than parameters.

    Raises:
        ValueError: an unknown criterion, or no candidate could be fitted.
    """
    if criterion not in CRITERIA:
        raise ValueError(f"criterion {criterion!r} is not known: choose {', '.join(CRITERIA)}")
    if not table:
        raise ValueError("there is no candidate: give at least one number of components")
    best = min(table, key=lambda row: row.cost(criterion))
    if not np.isfinite(best.cost(criterion)):
        errors = sorted({row.error or "not finite" for row in table})
        raise ValueError(f"no candidate could be fitted: {'; '.join(errors)}")
    return best


def mean_log_density(
    gmm: GaussianMixture, x: np.ndarray | Stream, mesh: Mesh | None = None
) -> float:
    """Mean log-density of rows.

    Args:
        gmm: the mixture.
        x: rows; those of this process, where the mesh has devices of several.
        mesh: of the devices to use; all by default.
    """
    mesh = mesh or data_mesh()
    local = data_mesh(local_devices(mesh))
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(gmm.means.dtype, np.float32))
    total, count = 0.0, 0
    for rows in x.blocks(x.block_rows * local.size) if isinstance(x, Stream) else [x]:
        layout = Layout.of(max(1, -(-len(rows) // local.size)), local.devices.flat[0].platform)
        placed, _ = place(np.asarray(rows, dtype), layout, local)
        densities = np.asarray(_densities(local)(gmm, placed), np.float64)
        total, count = total + densities[: len(rows)].sum(), count + len(rows)
    every = gather({"total": total, "count": count}, mesh)
    return float(sum(part["total"] for part in every) / sum(part["count"] for part in every))


@functools.cache
def _densities(mesh: Mesh) -> Callable[[GaussianMixture, Array], Array]:
    return over_devices(log_density, mesh, (REPLICATED, SHARDED), SHARDED)


def fit_candidate(key: Array, x: np.ndarray | Stream, candidate: Candidate, **options: Any) -> Fit:
    """`fit` of a candidate to rows, from the start that `compare` with this key gave it."""
    of_size = jax.random.fold_in(key, candidate.num_components)
    structure = dataclasses.asdict(candidate.structure)
    return fit(of_size, x, candidate.num_components, **structure, **options)
