r"""Runs one stage of the method, as a configuration says; started again, it continues.

  exif-jax train --config=pretext   --config.data.photos=RECORDS --workdir=RUN1
  exif-jax train --config=one_class --config.extractor=RUN1 \
      --config.data.photos=DIR_OR_RECORDS --workdir=RUN2
  exif-jax train --config=binary    --config.extractor=RUN1 \
      --config.data.images=LABELLED --workdir=RUN3

RECORDS comes from `exif-jax prepare`. LABELLED has folders of photographs and of generated images:
0_real and 1_fake, at any depth. The workdir gets checkpoints/, config.json, data.json (which data
it was), metrics.jsonl, TensorBoard events, curves.png, log.txt, time.jsonl (where the time went,
see `exif-jax runs`), and extractor/ or detector/. A run that was killed goes on from its last
checkpoint, with the same data, which may have moved; a finished one says so. On a pod, start the
same command in every process with --distributed. SIGTERM in any process ends all, after they have
saved; a second one ends at once.

exit status: 0 done, 2 something to mend, 130 Ctrl-C. After 143 (preempted) and 75 (another process
died, or a step hung) start the same command again, in every process: it continues.

example: exif-jax train --config=pretext --config.data.photos=records --config.steps=2000 \
             --config.optimizer.learning_rate=3e-4 --workdir=runs/pretext
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exif_jax.cli.entry import run_with_config

if TYPE_CHECKING:
    from exif_jax.training.preemption import Watch


def main(words: Sequence[str]) -> int:
    """`exif-jax train` and train.py; returns the exit status."""
    return run_with_config(train, __doc__, words)


def train(config: object, workdir: Path, watch: "Watch | None" = None) -> None:
    """Runs the stage that the configuration's type stands for, and records how that ended.

    Raises:
        UserError: the configuration, its inputs or the workdir do not fit.
    """
    from exif_jax.training.timeline import record_end

    if watch is not None:
        watch.ending(lambda: record_end(workdir, watch.stopped()))
    try:
        _run(config, workdir, watch)
    except BaseException as error:
        record_end(workdir, error)
        raise
    record_end(workdir, None)


def _run(config: object, workdir: Path, watch: "Watch | None") -> None:
    # Imported here, so that --help and a misspelt flag answer at once, and a stage starts sooner.
    from data_pipelines.errors import UserError
    from exif_jax.config import BinaryConfig, OneClassConfig, PretextConfig

    match config:
        case PretextConfig():
            from exif_jax.stages import pretext

            pretext.run(config, workdir, watch)
        case OneClassConfig():
            from exif_jax.stages import one_class

            one_class.run(config, workdir)
        case BinaryConfig():
            from exif_jax.stages import binary

            binary.run(config, workdir, watch)
        case _:
            raise UserError(
                f"--config gives a {type(config).__name__}, which `train` cannot run; evaluations "
                "are run by `eval`"
            )
