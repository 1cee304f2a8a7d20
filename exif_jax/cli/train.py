r"""Runs one stage of the method, as a configuration says; started again, it continues.

  exif-jax train --config=pretext   --config.data.photos=RECORDS --workdir=RUN1
  exif-jax train --config=one_class --config.extractor=RUN1 \
      --config.data.photos=DIR_OR_RECORDS --workdir=RUN2
  exif-jax train --config=binary    --config.extractor=RUN1 \
      --config.data.images=LABELLED --workdir=RUN3

RECORDS comes from `exif-jax prepare`. LABELLED has folders of photographs and of generated images:
0_real and 1_fake, at any depth. The workdir gets checkpoints/, config.json, metrics.jsonl,
TensorBoard events, curves.png, log.txt, and extractor/ or detector/. A run that was killed goes on
from its last checkpoint; a finished one says so. On a pod, start the same command in every process
with --distributed.

example: exif-jax train --config=pretext --config.data.photos=records --config.steps=2000 \
             --config.optimizer.learning_rate=3e-4 --workdir=runs/pretext
"""

from collections.abc import Sequence
from pathlib import Path

from exif_jax.cli.entry import run_with_config


def main(words: Sequence[str]) -> int:
    """`exif-jax train` and train.py; returns the exit status."""
    return run_with_config(train, __doc__, words)


def train(config: object, workdir: Path) -> None:
    """Runs the stage that the configuration's type stands for.

    Raises:
        UserError: the configuration, its inputs or the workdir do not fit.
    """
    # Imported here, so that --help and a misspelt flag answer at once, and a stage starts sooner.
    from data_pipelines.errors import UserError
    from exif_jax.config import BinaryConfig, OneClassConfig, PretextConfig

    match config:
        case PretextConfig():
            from exif_jax.stages import pretext

            pretext.run(config, workdir)
        case OneClassConfig():
            from exif_jax.stages import one_class

            one_class.run(config, workdir)
        case BinaryConfig():
            from exif_jax.stages import binary

            binary.run(config, workdir)
        case _:
            raise UserError(
                f"--config gives a {type(config).__name__}, which `train` cannot run; evaluations "
                "are run by `eval`"
            )
