"""Any covariance, the same for all components."""

from collections.abc import Mapping

import flax.struct

from exif_jax.gmm.covariances.base import Shape
from exif_jax.gmm.covariances.full import Full


@flax.struct.dataclass
class Tied(Full):
    """One covariance for all components.

    Attributes:
        precisions_cholesky: [D, D], upper triangular.
    """

    name = "tied"
    shared = True

    @staticmethod
    def shapes(components: int, columns: int, found: Mapping[str, Shape]) -> dict[str, Shape]:
        """Of the factor."""
        return {"precisions_cholesky": (columns, columns)}

    @staticmethod
    def num_parameters(components: int, columns: int, rank: int) -> int:
        """Of one symmetric matrix."""
        return columns * (columns + 1) // 2
