"""Builder for tensorflow-datasets: photos of a manual directory -> what `exif-jax prepare` makes.

    tfds build data_pipelines/exif_photos --manual_dir ~/photos --data_dir ~/tensorflow_datasets

It reads, plans and stores what `exif-jax prepare ~/photos` would, in the order of
tensorflow-datasets; training reads the version's directory like any other records. With
`--beam_pipeline_options "runner=DirectRunner"` (or another runner) Apache Beam reads and writes.
Without Beam, tensorflow-datasets needs TensorFlow for splits of more than 1 GB.
"""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.files import write_json
from data_pipelines.prepare import shards
from data_pipelines.prepare.engines import Engine, LocalEngine
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.run import Job
from data_pipelines.prepare.workspace import Workspace
from data_pipelines.records import (
    DESCRIPTION,
    PREPARE_FILE,
    SCHEMA_VERSION,
    Record,
    record_features,
)


class Builder(tfds.core.GeneratorBasedBuilder):
    """Photos with EXIF; the configuration says what is never on both sides of the split."""

    VERSION = tfds.core.Version(f"{SCHEMA_VERSION}.0.0")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="photo", description="No photo or burst on both sides."),
        tfds.core.BuilderConfig(name="camera", description="No camera model on both sides."),
    )
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Put photos as the camera wrote them into a directory, and name it with --manual_dir."
    )

    def __init__(self, *, file_format: Any = "array_record", **kwargs: Any) -> None:
        """Makes the builder; only ArrayRecord works without TensorFlow."""
        super().__init__(file_format=file_format, **kwargs)
        self._beam_options: Any = None

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=record_features(), description=DESCRIPTION, disable_shuffling=False
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        self._beam_options = getattr(download_config, "beam_options", None)
        # Beside the versions, so that parts survive an interruption.
        place = epath.Path(self._data_dir_root) / self.name / f".{self.builder_config.name}"
        self._workspace = Workspace(place)
        with self._workspace.lock():
            super()._download_and_prepare(dl_manager, download_config)
        place.rmtree()

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        options = Options(split_by=self.builder_config.name)
        job = Job.of([dl_manager.manual_dir], self._workspace.out, options)
        job.workspace.is_finished(job.command)  # refuses parts of another command
        plan = job.plan(self._engine())
        directory = epath.Path(self.data_dir)
        job.describe(plan, directory)
        write_json(directory / PREPARE_FILE, job.command)
        shards.write_todo(job.workspace, plan, job.items)
        splits: dict[str, list[int]] = {}
        for number, shard in enumerate(plan.shards):
            splits.setdefault(shard.split, []).append(number)
        return {split: self._generate_examples(numbers) for split, numbers in splits.items()}

    def _generate_examples(self, numbers: list[int]) -> Any:
        place = str(self._workspace.out)
        if self._beam_options is None:
            return (pair for number in numbers for pair in _examples(number, place))
        import apache_beam as beam

        return beam.Create(numbers) | beam.Reshuffle() | beam.FlatMap(_examples, place)

    def _engine(self) -> Engine:
        if self._beam_options is None:
            return LocalEngine()
        from data_pipelines.prepare.beam_engine import BeamEngine

        return BeamEngine(self._beam_options)


def _examples(number: int, place: str) -> Iterator[tuple[str, Record]]:
    """Yields the keyed records of a shard."""
    workspace = Workspace(epath.Path(place))
    todo = shards.read_todo(workspace, number)
    for record in shards.records_of_shard(workspace, todo):
        yield f"{record['photo']:016x}-{record['x']}-{record['y']}", record
