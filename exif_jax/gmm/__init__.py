"""Gaussian mixtures fitted by expectation maximisation (EM), at any size.

A mixture is a pytree, `GaussianMixture`. `fit` estimates one from rows in memory, `fit_stream` from
chunks read again for every iteration, `fit_stepwise` from chunks seen once; `select` chooses among
candidates. Rows are divided over the devices of a mesh and their statistics summed.
Shapes: N rows, D columns, K components.

    covariances   the kinds of covariance: density, statistics and M-step of each
    mixture       densities, responsibilities, samples, information criteria
    frame         working coordinates, in which float32 is safe
    statistics    E-step and M-step        program   the same, mapped over devices
    em, stream    the fits                 progress  interrupted ones continue
    start         k-means++                selection choice by held-out rows or criteria
    estimator     scikit-learn's interface
"""

from exif_jax.gmm.covariances import COVARIANCE_TYPES, SHRINKAGES, Structure
from exif_jax.gmm.em import Fit, fit
from exif_jax.gmm.estimator import GaussianMixtureEstimator, from_sklearn, to_sklearn
from exif_jax.gmm.mixture import (
    GaussianMixture,
    aic,
    array_shapes,
    bic,
    log_density,
    predict,
    responsibilities,
    sample,
)
from exif_jax.gmm.progress import saved_iterations
from exif_jax.gmm.selection import (
    CRITERIA,
    Candidate,
    Selection,
    best_of,
    compare,
    fit_candidate,
    select,
    structures,
)
from exif_jax.gmm.start import kmeans_responsibilities
from exif_jax.gmm.stream import fit_stepwise, fit_stream

__all__ = [
    "COVARIANCE_TYPES",
    "CRITERIA",
    "SHRINKAGES",
    "Candidate",
    "Fit",
    "GaussianMixture",
    "GaussianMixtureEstimator",
    "Selection",
    "Structure",
    "aic",
    "array_shapes",
    "best_of",
    "bic",
    "compare",
    "fit",
    "fit_candidate",
    "fit_stepwise",
    "fit_stream",
    "from_sklearn",
    "kmeans_responsibilities",
    "log_density",
    "predict",
    "responsibilities",
    "sample",
    "saved_iterations",
    "select",
    "structures",
    "to_sklearn",
]
