"""The kinds of covariance, and what a mixture's look like: a new kind is one class and one line."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import index

from exif_jax.gmm.covariances.base import Covariances, Maps
from exif_jax.gmm.covariances.diagonal import Diagonal
from exif_jax.gmm.covariances.full import Full
from exif_jax.gmm.covariances.low_rank import LowRank
from exif_jax.gmm.covariances.shrinkage import SHRINKAGES
from exif_jax.gmm.covariances.spherical import Spherical
from exif_jax.gmm.covariances.tied import Tied

KINDS: dict[str, type[Covariances]] = {
    kind.name: kind for kind in (Full, Tied, Diagonal, Spherical, LowRank)
}
COVARIANCE_TYPES = tuple(KINDS)


@dataclass(frozen=True)
class Structure:
    """What the covariances of a mixture look like.

    Attributes:
        covariance_type: `full`: any, one a component; `tied`: any, shared; `diag`: diagonal;
            `spherical`: a multiple of the identity; `low_rank`: `rank` free directions and the same
            variance in all others (mixture of probabilistic principal component analysers).
        rank: R, of `low_rank` only.
        shrinkage: `none`, or `ledoit_wolf` towards a multiple of the identity (`full`, `tied`).
    """

    covariance_type: str = "full"
    rank: int = 0
    shrinkage: str = "none"

    def __post_init__(self) -> None:
        """Takes NumPy's integers too: the rank goes into JSON."""
        object.__setattr__(self, "rank", index(self.rank))

    def check(self, columns: int) -> None:
        """Raises a ValueError unless the structure exists for so many columns."""
        if self.covariance_type not in KINDS:
            raise ValueError(
                f"covariance_type {self.covariance_type!r} is not known: choose {', '.join(KINDS)}"
            )
        if self.shrinkage not in SHRINKAGES:
            raise ValueError(
                f"shrinkage {self.shrinkage!r} is not known: choose {', '.join(SHRINKAGES)}"
            )
        if self.shrinkage != "none" and not self.kind.shrinks:
            able = " and ".join(name for name, kind in KINDS.items() if kind.shrinks)
            raise ValueError(f"shrinkage is for {able}, not {self.covariance_type}")
        if self.kind.has_rank and not 1 <= self.rank < columns:
            raise ValueError(
                f"rank {self.rank} of {self.covariance_type} covariances must lie between 1 and "
                f"{columns - 1}, one less than the columns"
            )

    @property
    def kind(self) -> type[Covariances]:
        """The class of the covariances."""
        return KINDS[self.covariance_type]

    @property
    def keeps(self) -> Maps:
        """Maps of rows that leave the model as it is.

        Shrinkage is towards a multiple of the identity in scaled, not whitened, coordinates.
        """
        return self.kind.keeps if self.shrinkage == "none" else "columns"

    def num_parameters(self, components: int, columns: int) -> int:
        """Free parameters of a mixture: weights, means and covariances."""
        free = self.kind.num_parameters(components, columns, self.rank)
        return components - 1 + components * columns + free

    @property
    def label(self) -> str:
        """Such as `low_rank 8` or `full ledoit_wolf`."""
        parts = [self.covariance_type, str(self.rank or ""), self.shrinkage.replace("none", "")]
        return " ".join(part for part in parts if part)


def structures(
    covariance_types: Iterable[str], ranks: Iterable[int], shrinkages: Iterable[str]
) -> list[Structure]:
    """Every sensible combination: ranks go with `low_rank`, shrinkage with `full` and `tied`."""
    ranks, shrinkages = tuple(ranks), tuple(shrinkages)
    return [
        Structure(name, rank, shrinkage)
        for name in covariance_types
        for rank in (ranks if KINDS[name].has_rank else (0,))
        for shrinkage in (shrinkages if KINDS[name].shrinks else ("none",))
    ]
