r"""The one-class detector: five Gaussians over the features of photographs.

python train.py --config=configs/one_class.py --config.extractor=RUN1 \
    --config.data.photos=DIR_OR_RECORDS --workdir=RUN2

With fewer than some tens of thousands of photos, five full covariances of 528 numbers are too many
parameters. Let held-out photos choose:

    --config.num_components=1-3 --config.covariance_type=full,low_rank --config.rank=32,128

docs/mixture.md explains the choices, experiments/results/few_photos has what they gave.
"""

from exif_jax.config import OneClassConfig


def get_config() -> OneClassConfig:
    """The configuration of the run."""
    return OneClassConfig()
