r"""The evaluation of both demos: simulated test sets, plain and compressed.

python eval.py --config=configs/demo_evaluation.py --config.detectors=RUN2/detector,RUN3/detector \
    --config.data.images=LABELLED_DIR --workdir=RUN4
"""

from exif_jax.config import EvaluationConfig


def get_config() -> EvaluationConfig:
    """The configuration of the evaluation."""
    return EvaluationConfig(perturbations="none,jpeg:95")
