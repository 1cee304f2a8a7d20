"""Extractor folders: extractor.json and model.safetensors changed, then trained from."""

from pathlib import Path

from numpy.random import Generator

from data_pipelines.errors import UserError
from exif_jax.models.trained import DESCRIPTION, load_extractor
from tests.fuzzing import made
from tests.fuzzing.target import Case, Target, refused
from tests.fuzzing.targets.detectors import changed_model
from tests.fuzzing.texts import dumped


def make(rng: Generator) -> Case:
    """An extractor of a pretext run."""
    return changed_model(rng, made.files_of(made.extractor()), DESCRIPTION)


def run(case: Case, folder: Path) -> str:
    """Loads it, as every stage that begins with one does."""
    made.put_files(case, folder / "extractor")
    try:
        loaded = load_extractor(folder)
    except UserError as error:
        refused(error)
        return "refused"
    for target in loaded.targets:
        dumped([target.name, target.kind, target.classes, target.size])
    return "loaded"


TARGET = Target(make, run, cases=100, seconds=60.0)
