r"""The one-class detector of the published network, small, on simulated photographs.

python train.py --config=configs/demo_published_one_class.py --config.extractor=RUN1 \
    --config.data.photos=RECORDS --workdir=RUN2
"""

from exif_jax.config import OneClassConfig


def get_config() -> OneClassConfig:
    """The configuration of the run."""
    return OneClassConfig(num_components="1,2,5", pca=24)
