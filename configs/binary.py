r"""The binary detector: a fresh network beside the frozen pretext extractor, alpha 0.05.

python train.py --config=configs/binary.py --config.extractor=RUN1 \
    --config.data.images=LABELLED_DIR --workdir=RUN3

Published: Adam at 1e-3, 100 images a device, 15 epochs. Here steps are given instead of epochs;
measured results: experiments/.
"""

from exif_jax.config import BinaryConfig


def get_config() -> BinaryConfig:
    """The configuration of the run."""
    return BinaryConfig(steps=5000, batch_size=96, checkpoint_every=500, eval_every=500)
