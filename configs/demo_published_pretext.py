r"""The pretext stage of the published network, small, on simulated photographs.

python train.py --config=configs/demo_published_pretext.py \
    --config.data.photos=RECORDS --workdir=RUN1

Measured (seed 0, 400 simulated photos, 80 of them held out): mean concordance 0.76 (chance 0.5),
mean balanced accuracy 0.53; 0.7 to 1.2 s a step on 2 cores.
"""

from exif_jax.config import OptimizerConfig, PretextConfig, PublishedEncoder, RecordsConfig

DEMO_MODEL = PublishedEncoder(width=16, stage_depths=(2, 1, 1, 1), mixer_hidden=64)


def get_config() -> PretextConfig:
    """The configuration of the run."""
    return PretextConfig(
        steps=400,
        batch_size=32,
        checkpoint_every=100,
        eval_every=100,
        log_every=5,
        data=RecordsConfig(patches=4, threads=2),
        model=DEMO_MODEL,
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="cosine", warmup_steps=20),
    )
