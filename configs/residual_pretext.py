"""The pretext stage with residual covariances: for hundreds of photos and two cores.

python train.py --config=configs/residual_pretext.py --config.data.photos=RECORDS --workdir=RUN1

Descriptions of all photos and of their augmented versions are computed first and kept beside the
records; runs on the same records find them there.
"""

from exif_jax.config import (
    OptimizerConfig,
    PretextConfig,
    RecordsConfig,
    ResidualCovarianceEncoder,
)


def get_config() -> PretextConfig:
    """The configuration of the run."""
    return PretextConfig(
        steps=2000,
        log_every=50,
        data=RecordsConfig(versions=4),
        model=ResidualCovarianceEncoder(),
        optimizer=OptimizerConfig("adamw", 1e-3, weight_decay=1e-2, schedule="cosine"),
    )
