r"""The demo's binary detector: residual covariances of simulated images.

python train.py --config=configs/demo_binary.py --config.extractor=RUN1 \
    --config.data.images=LABELLED_DIR --workdir=RUN3
"""

from exif_jax.config import BinaryConfig, LabelledConfig, OptimizerConfig


def get_config() -> BinaryConfig:
    """The configuration of the run."""
    return BinaryConfig(
        steps=150,
        checkpoint_every=50,
        eval_every=50,
        log_every=5,
        data=LabelledConfig(threads=2, validation_fraction=0.2),
        optimizer=OptimizerConfig("adamw", 1e-3, weight_decay=1e-2, schedule="cosine"),
    )
