"""The pretext stage with residual covariances: for a thousand photos and two cores.

python train.py --config=configs/residual_pretext.py --config.data.photos=RECORDS --workdir=RUN1

Descriptions of all photos and of their augmented versions are computed first and kept beside the
records; runs on the same records find them there. Every image is written as JPEG of quality 90
before it is described, here and in use, so that files of different kinds compare. The values are
those of the teacher in experiments/unseen.py. Fewer photos, of which there are fewer than 512
descriptions in all, need --config.model.components=128 or so.
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
        steps=600,
        batch_size=256,
        checkpoint_every=200,
        eval_every=200,
        log_every=50,
        data=RecordsConfig(versions=6, prepare="jpeg:90"),
        model=ResidualCovarianceEncoder(
            features=64, hidden=(256, 128), dropout=0.4, components=512
        ),
        optimizer=OptimizerConfig("adamw", 1e-3, weight_decay=1e-2, schedule="cosine", ema=0.99),
    )
