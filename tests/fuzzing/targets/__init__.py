"""The targets, one file each, by name: each has a TARGET."""

import importlib

from tests.fuzzing.target import Target

NAMES = (
    *(
        "pictures",
        "exif_values",
        "sidecars",
        "archives",
        "lists",
        "names",
        "labelled_trees",
        "labelled_lists",
    ),
    *("detectors", "extractors", "records", "configs", "runs", "estimator"),
    *("interruptions", "processes"),
)


def load(name: str) -> Target:
    """A target; only the libraries that it needs are imported."""
    target: Target = importlib.import_module(f"tests.fuzzing.targets.{name}").TARGET
    return target
