r"""Every detector on every test set, plain and under the paper's three perturbations.

python eval.py --config=configs/evaluation.py --config.detectors=RUN2/detector,RUN3/detector \
    --config.data.images=LABELLED_DIR --workdir=RUN4
"""

from exif_jax.config import EvaluationConfig


def get_config() -> EvaluationConfig:
    """The configuration of the evaluation."""
    return EvaluationConfig(perturbations="none,jpeg:95,blur:1.0,resize:0.5")
