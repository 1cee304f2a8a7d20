"""`exif-jax sweep`: a grid over fields of a configuration and seeds, one run a folder."""
