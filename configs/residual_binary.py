r"""The binary detector on residual covariances, beside an extractor of `residual_pretext`.

python train.py --config=configs/residual_binary.py --config.extractor=RUN1 \
    --config.data.images=LABELLED_DIR --workdir=RUN3

Descriptions are kept in the workdir; --config.data.descriptions=DIR lets several runs share them.
The values are those of the perceptron in experiments/unseen.py; the shipped detector is such a one
and a closed-form line together, on all images, with thresholds from held-out cameras.
"""

from exif_jax.config import BinaryConfig, LabelledConfig, OptimizerConfig


def get_config() -> BinaryConfig:
    """The configuration of the run."""
    return BinaryConfig(
        steps=1600,
        batch_size=256,
        log_every=50,
        data=LabelledConfig(versions=6),
        optimizer=OptimizerConfig("adamw", 1e-3, weight_decay=1e-2, schedule="cosine", ema=0.99),
    )
