r"""Runs one stage of the method, as a configuration says; started again, it continues.

python train.py --config=configs/pretext.py   --config.data.photos=RECORDS --workdir=RUN1
python train.py --config=configs/one_class.py --config.extractor=RUN1 \
    --config.data.photos=DIR_OR_RECORDS --workdir=RUN2
python train.py --config=configs/binary.py    --config.extractor=RUN1 \
    --config.data.images=LABELLED_DIR --workdir=RUN3

Every field of the configuration can be set: --config.field=value. On a pod, start the same command
in every process with --distributed; where no cluster tells the processes of each other, with
--coordinator=HOST:PORT --processes=N --process=I.
"""

from pathlib import Path

from exif_jax.cli.entry import run_with_config


def main(config: object, workdir: Path) -> None:
    """Runs the stage that the configuration's type stands for."""
    # Imported here, so that --help and a misspelt flag answer at once.
    from data_pipelines.errors import UserError
    from exif_jax.config import BinaryConfig, OneClassConfig, PretextConfig
    from exif_jax.stages import binary, one_class, pretext

    match config:
        case PretextConfig():
            pretext.run(config, workdir)
        case OneClassConfig():
            one_class.run(config, workdir)
        case BinaryConfig():
            binary.run(config, workdir)
        case _:
            raise UserError(f"--config gives a {type(config).__name__}, which train.py cannot run")


if __name__ == "__main__":
    run_with_config(main, __doc__)
