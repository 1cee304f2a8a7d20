"""`exif-jax eval` from the checkout; exif_jax/cli/evaluate.py says what it does, as does --help."""

import sys

from exif_jax.cli.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "eval")
    sys.exit(main())
