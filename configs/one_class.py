r"""The one-class detector: five Gaussians over the features of photographs.

python train.py --config=configs/one_class.py --config.extractor=RUN1 \
    --config.data.photos=DIR_OR_RECORDS --workdir=RUN2

With fewer than some thousands of photos, 528 numbers are too many for full covariances: add
--config.pca=64. Measured results: benchmarks/.
"""

from exif_jax.config import OneClassConfig


def get_config() -> OneClassConfig:
    """The configuration of the run."""
    return OneClassConfig()
