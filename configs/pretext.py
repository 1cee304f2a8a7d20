"""The published pretext stage: EXIF tags as labels, photographs only.

python train.py --config=configs/pretext.py --config.data.photos=RECORDS --workdir=RUN1

Published: 900,000 photos of 256x256, 64 pairs a device on 8 devices, Adam at 1e-4 without a
schedule. Its number of steps was not published; 100,000 batches of 512 are 57 passes over as many
photos. Hardware, time and results at that size: not measured by us.
"""

from exif_jax.config import PretextConfig


def get_config() -> PretextConfig:
    """The configuration of the run."""
    return PretextConfig(
        steps=100_000, batch_size=512, checkpoint_every=1000, eval_every=2000, log_every=50
    )
