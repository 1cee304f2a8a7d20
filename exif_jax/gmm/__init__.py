"""Gaussian mixtures fitted by expectation maximisation (EM), at any size.

A mixture is a pytree, `GaussianMixture`. `fit` estimates one from rows in memory, or from a
`Stream` of chunks that are read again for every iteration; `compare` tries candidates, of which
`best_of` chooses. Rows are divided over the devices of a mesh and their statistics summed.
Shapes: N rows, D columns, K components.

    covariances   the kinds of covariance, one file each, with all that is peculiar to them
    mixture       densities, responsibilities, information criteria
    frame         working coordinates, in which float32 is safe
    statistics    E-step                    maximisation  M-step
    program       both, mapped over devices sources       rows, in memory or streamed
    em            the fit                   problem       its preparation and its result
    progress      interrupted ones continue start         k-means++
    selection     choice by held-out rows or criteria, drawn by selection_plot
    estimator     scikit-learn's interface; loaded when asked for
"""

from etils import epy

from exif_jax.gmm.covariances import COVARIANCE_TYPES, SHRINKAGES, Structure, structures
from exif_jax.gmm.em import fit
from exif_jax.gmm.mixture import GaussianMixture, array_shapes, log_density, responsibilities
from exif_jax.gmm.problem import Fit
from exif_jax.gmm.progress import saved_iterations
from exif_jax.gmm.selection import (
    CRITERIA,
    Candidate,
    best_of,
    compare,
    fit_candidate,
    mean_log_density,
)
from exif_jax.gmm.sources import Stream

with epy.lazy_api_imports(globals()):
    from exif_jax.gmm.estimator import GaussianMixtureEstimator, from_sklearn, to_sklearn

__all__ = [
    "COVARIANCE_TYPES",
    "CRITERIA",
    "SHRINKAGES",
    "Candidate",
    "Fit",
    "GaussianMixture",
    "GaussianMixtureEstimator",
    "Stream",
    "Structure",
    "array_shapes",
    "best_of",
    "compare",
    "fit",
    "fit_candidate",
    "from_sklearn",
    "log_density",
    "mean_log_density",
    "responsibilities",
    "saved_iterations",
    "structures",
    "to_sklearn",
]
