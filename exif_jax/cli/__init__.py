"""The command line `exif-jax` and what train.py and eval.py start."""
