"""Parts and shards made by Apache Beam: on many machines, or on this one by DirectRunner."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import create_runner
from etils import epath

from data_pipelines.errors import UserError
from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.parts import make_part
from data_pipelines.prepare.shards import make_shard
from data_pipelines.prepare.workspace import Workspace


class BeamEngine:
    """Runs one pipeline for the parts and one for the shards.

    Only numbers travel through the pipelines. What they stand for is read from the output
    directory, and results are written there, so every worker must reach it.
    """

    def __init__(self, options: PipelineOptions) -> None:
        self._options = options

    def make_parts(self, workspace: Workspace, parts: Sequence[int], options: Options) -> None:
        """Makes parts; the files of one are read one after the other in a guarded child process."""
        with beam.Pipeline(options=self._options) as pipeline:
            _ = (
                pipeline
                | beam.Create(list(parts))
                | beam.Reshuffle()
                | "ReadPhotos" >> beam.ParDo(_MakePart(str(workspace.out), options.to_json()))
            )

    def make_shards(self, workspace: Workspace, shards: Sequence[int]) -> None:
        """Makes shards."""
        with beam.Pipeline(options=self._options) as pipeline:
            _ = (
                pipeline
                | beam.Create(list(shards))
                | beam.Reshuffle()
                | "WriteRecords" >> beam.Map(_make_shard, str(workspace.out))
            )


def beam_engine(runner: str, arguments: Sequence[str]) -> BeamEngine:
    """Returns an engine for a runner, and Beam's own options such as "--direct_num_workers=2".

    Raises:
        UserError: beam does not know the runner or an option.
    """
    options = PipelineOptions([*arguments, f"--runner={runner}"])
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):  # argparse's usage has hundreds of lines
            known = options.get_all_options()
    except SystemExit as error:
        raise UserError(f"Apache Beam: {complaint.getvalue().splitlines()[-1]}") from error
    unknown = options.get_all_options(retain_unknown_options=True).keys() - known.keys()
    if unknown:
        names = ", ".join(f"--{name}" for name in sorted(unknown))
        raise UserError(f"{names}: no option of exif-jax prepare or Apache Beam")
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"--runner {runner}: {error}") from error
    return BeamEngine(options)


class _MakePart(beam.DoFn):
    """Makes the parts of given numbers."""

    def __init__(self, out: str, options: dict[str, Any]) -> None:
        self._out, self._options = out, options

    def setup(self) -> None:
        self._reader = GuardedReader(Options.from_json(self._options))

    def process(self, part: int) -> Iterator[int]:
        files = beam.metrics.Metrics.counter("exif_jax", "files")
        for count in make_part(Workspace(epath.Path(self._out)).parts, part, self._reader):
            files.inc(count)
        yield part

    def teardown(self) -> None:
        self._reader.close()


def _make_shard(shard: int, out: str) -> int:
    return make_shard(Workspace(epath.Path(out)), shard)
