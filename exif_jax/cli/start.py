"""The console script `exif-jax`: quiet under Ctrl-C from its first moment."""

from data_pipelines.early_signals import quiet_start

quiet_start()


def main() -> int:
    """`exif-jax` as a process; returns the exit status."""
    from exif_jax.cli.__main__ import main as command  # imports more

    return command()
