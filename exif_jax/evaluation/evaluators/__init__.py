"""What is measured while pretraining: parameters -> named numbers, every `eval_every` steps.

`config.evaluators` lists them by name, each with an argument if it takes one. One's own is a
function registered in a file of its own:

    @EVALUATORS.register("my_numbers")
    def my_numbers(context: Context, argument: str) -> Evaluator: ...
"""

from data_pipelines.registry import Registry
from exif_jax.evaluation.evaluators.context import Context, Factory
from exif_jax.evaluation.evaluators.heldout_tags import heldout_tags
from exif_jax.evaluation.evaluators.labelled_probes import knn, linear_probe
from exif_jax.training.loop import Evaluator

__all__ = ["EVALUATORS", "Context", "Evaluator", "build_evaluators"]

EVALUATORS: Registry[Factory] = Registry(
    "evaluator", {"heldout_tags": heldout_tags, "linear_probe": linear_probe, "knn": knn}
)


def build_evaluators(text: str, context: Context) -> list[Evaluator]:
    """The evaluators of a list such as `heldout_tags,linear_probe:DIR`.

    Raises:
        UserError: an unknown one, or one that cannot use its argument.
    """
    entries = [entry.strip().partition(":") for entry in text.split(",") if entry.strip()]
    return [EVALUATORS[name](context, argument) for name, _, argument in entries]
