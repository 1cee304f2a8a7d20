r"""The binary detector of the published network, small, on simulated images.

python train.py --config=configs/demo_published_binary.py --config.extractor=RUN1 \
    --config.data.images=LABELLED_DIR --workdir=RUN3
"""

from exif_jax.config import BinaryConfig, LabelledConfig, OptimizerConfig


def get_config() -> BinaryConfig:
    """The configuration of the run."""
    return BinaryConfig(
        steps=120,
        batch_size=32,
        checkpoint_every=40,
        eval_every=40,
        log_every=5,
        data=LabelledConfig(patches=4, threads=2, validation_fraction=0.2),
        optimizer=OptimizerConfig(learning_rate=1e-3),
    )
