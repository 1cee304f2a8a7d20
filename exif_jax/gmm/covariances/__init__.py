"""The kinds of covariance of a mixture, one file each; the table of them is in `structure`."""

from exif_jax.gmm.covariances.base import Covariances
from exif_jax.gmm.covariances.shrinkage import SHRINKAGES
from exif_jax.gmm.covariances.structure import COVARIANCE_TYPES, KINDS, Structure, structures

__all__ = ["COVARIANCE_TYPES", "KINDS", "SHRINKAGES", "Covariances", "Structure", "structures"]
