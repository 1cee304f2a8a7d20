"""`exif-jax train` from the checkout; exif_jax/cli/train.py says what it does, as does --help."""

import sys

from data_pipelines.early_signals import quiet_start

if __name__ == "__main__":
    quiet_start()

    from exif_jax.cli.__main__ import main

    sys.argv.insert(1, "train")
    sys.exit(main())
