"""The pretext stage at the demo's size: a small network on simulated photographs.

python train.py --config=configs/demo_pretext.py --config.data.photos=RECORDS --workdir=RUN1
"""

from exif_jax.config import ModelConfig, OptimizerConfig, PretextConfig, RecordsConfig

DEMO_MODEL = ModelConfig(width=16, stage_depths=(2, 1, 1, 1), mixer_hidden=64)


def get_config() -> PretextConfig:
    """The configuration of the run."""
    return PretextConfig(
        steps=300,
        batch_size=32,
        checkpoint_every=100,
        eval_every=100,
        log_every=5,
        data=RecordsConfig(patches=4, threads=2),
        model=DEMO_MODEL,
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=20),
    )
