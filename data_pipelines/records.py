"""Prepared records: windows of photos with their tags, as a tensorflow-datasets data set on disk.

Layout of a directory of records:

    exif_photos-SPLIT.array_record-*   one record a window, random access
    dataset_info.json, features.json   so that `tfds.builder_from_directory(DIR)` reads it alone
    targets.json                       class vocabularies, from the training photos
    prepare.json                       schema version and options they were made with
    tag_report.json, rejects.jsonl     what is in them, and which files are not, and why

The shards are written directly: the tensorflow-datasets builder needs TensorFlow as soon as a split
is larger than 1 GB. Nothing here needs TensorFlow.
"""

import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.errors import UserError
from data_pipelines.files import read_json
from data_pipelines.images import WINDOW
from data_pipelines.tags import TAGS
from data_pipelines.targets import Target, encode_targets, targets_from_json

SCHEMA_VERSION: Final = 2
"""1: windows are PNG. 2: windows of JPEG photos are JPEG."""
PREPARE_FILE: Final = "prepare.json"
TARGETS_FILE: Final = "targets.json"
UNFINISHED: Final = "unfinished"
"""Directory that is there until all records are."""

DATASET_NAME: Final = "exif_photos"
DESCRIPTION: Final = (
    "Windows of camera photographs, not resampled, with the EXIF values that a forensic feature "
    "extractor learns from. Empty text and NaN: the photo lacks the tag."
)

Record = dict[str, Any]


def record_features() -> tfds.features.FeaturesDict:
    """Returns the schema of one record.

    image: the window, uint8 [256, 256, 3]: the DCT blocks of a JPEG photo in a JPEG file, of others
      the pixels as PNG.
    tags: by tag name, text for a categorical tag (empty: missing), float32 for a ranked one in the
      unit of `tags.TAGS` (NaN: missing).
    photo, group: ids, the same for all windows of a photo / for all photos of a burst.
    path: of the photo, relative to what `prepare` was given.
    x, y, width, height: the window's corner in the photo, and the photo's size, in stored pixels.
    """
    tags = {
        tag.name: tfds.features.Text() if tag.kind == "categorical" else np.float32 for tag in TAGS
    }
    return tfds.features.FeaturesDict(
        {
            # Each record's file says itself what it is; readers go by that.
            "image": tfds.features.Image(shape=(WINDOW, WINDOW, 3)),
            "tags": tags,
            "photo": np.int64,
            "group": np.int64,
            "path": tfds.features.Text(),
            **dict.fromkeys(("x", "y", "width", "height"), np.int32),
        }
    )


def tags_for_record(values: Mapping[str, str | float]) -> dict[str, str | float]:
    """Returns a value for every tag, with the record's marks for missing ones."""
    return {
        tag.name: values.get(tag.name, "" if tag.kind == "categorical" else math.nan)
        for tag in TAGS
    }


def shard_path(directory: os.PathLike[str], split: str, index: int, num_shards: int) -> epath.Path:
    """Returns where a shard belongs."""
    template = _template(directory, split)
    return epath.Path(template.sharded_filepath(shard_index=index, num_shards=num_shards))


def _template(directory: os.PathLike[str], split: str) -> tfds.core.ShardedFileTemplate:
    return tfds.core.ShardedFileTemplate(
        data_dir=os.fspath(directory),
        dataset_name=DATASET_NAME,
        split=split,
        filetype_suffix="array_record",
    )


def write_shard(path: Path, records: Iterable[Record]) -> tuple[int, int]:
    """Writes a shard, one record at a time.

    Args:
      path: A local file.
      records: In the form of `record_features`, images as the bytes of their files.

    Returns:
      The number of records and their bytes.
    """
    features = record_features()
    num_records = num_bytes = 0
    # One record a group: reading one decompresses no neighbour.
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        data = features.serialize_example(features.encode_example(record))
        writer.write(data)
        num_records += 1
        num_bytes += len(data)
    writer.close()
    return num_records, num_bytes


def write_description(
    directory: os.PathLike[str], splits: Mapping[str, Sequence[tuple[int, int]]]
) -> None:
    """Writes the files that describe the shards of a directory.

    Args:
      directory: That holds the shards.
      splits: By name, what `write_shard` returned for each shard in order.
    """
    infos = [
        tfds.core.SplitInfo(
            name=name,
            shard_lengths=[count for count, _ in shards],
            num_bytes=sum(size for _, size in shards),
            filename_template=_template(directory, name),
        )
        for name, shards in splits.items()
    ]
    tfds.folder_dataset.write_metadata(
        data_dir=os.fspath(directory),
        features=record_features(),
        split_infos=infos,
        version=f"{SCHEMA_VERSION}.0.0",
        check_data=False,  # it would read the first record through TensorFlow
        description=DESCRIPTION,
    )


@dataclasses.dataclass(frozen=True)
class Records:
    """Prepared records, opened; small and picklable.

    Attributes:
      directory: Where they are.
      targets: What the model predicts, with the class vocabularies of the training photos.
    """

    directory: Path
    targets: tuple[Target, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: "train", and "validation" unless nothing was held out."""
        return tuple(tfds.builder_from_directory(self.directory).info.splits)

    def source(self, split: str) -> Any:
        """Opens a split for random access.

        Returns:
          A picklable source with `__len__` and `__getitem__` that many threads may use at once.
          Items are raw records: image and texts still bytes.

        Raises:
          UserError: There is no such split, or a file of it is missing.
        """
        builder = tfds.builder_from_directory(self.directory)
        if split not in builder.info.splits:
            raise UserError(
                f"{self.directory}: no {split!r} photos, only {sorted(builder.info.splits)}; "
                "run `exif-jax prepare` with more photos or a larger --validation-fraction"
            )
        missing = [p for p in builder.info.splits[split].filepaths if not p.exists()]
        if missing:
            raise UserError(
                f"{missing[0]}: missing; copy the directory anew or run `exif-jax prepare` again"
            )
        return _Source(builder.info.splits[split].filepaths)

    def labels(
        self, split: str, encoders: Mapping[str, Callable[[Sequence[str | float]], np.ndarray]]
    ) -> np.ndarray:
        """Labels float32 [n, T] of a split: a column for each tag, from its values."""
        source = self.source(split)
        rows = [record_values(source[i]) for i in range(len(source))]
        columns = [encode([row[tag] for row in rows]) for tag, encode in encoders.items()]
        return np.stack(columns, axis=1) if columns else np.zeros((len(rows), 0), np.float32)

    def decode(self, raw: Record) -> Record:
        """Decodes a record of `source`; threads may run it at once.

        Returns:
          image: uint8 [256, 256, 3].
          targets: float32 [T] as of `encode_targets`, NaN where missing.
          photo, group: int64 ids.
          path: Text.
        """
        with Image.open(io.BytesIO(raw["image"]), formats=("JPEG", "PNG")) as file:
            image = np.asarray(file)
        return {
            "image": image,
            "targets": encode_targets(record_values(raw), self.targets),
            "photo": np.int64(raw["photo"]),
            "group": np.int64(raw["group"]),
            "path": raw["path"].decode(),
        }


class _Source:
    """Raw records by index.

    tensorflow-datasets' own source looks up every field's type for every record, which takes as
    long as decoding the window and keeps other threads waiting.
    """

    def __init__(self, paths: Sequence[os.PathLike[str]]) -> None:
        self._files = ArrayRecordDataSource([os.fspath(path) for path in paths])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return parse_record(self._files[index])


_PLAIN_FIELDS: Final = ("photo", "group", "x", "y", "width", "height")


def parse_record(data: bytes) -> Record:
    """Reads a serialised record: image and texts as bytes, numbers as Python's."""
    fields = tf_example_pb2.Example.FromString(data).features.feature
    tags: dict[str, bytes | float] = {}
    for tag in TAGS:
        field = fields[f"tags/{tag.name}"]
        categorical = tag.kind == "categorical"
        tags[tag.name] = (field.bytes_list if categorical else field.float_list).value[0]
    return {
        "image": fields["image"].bytes_list.value[0],
        "tags": tags,
        "path": fields["path"].bytes_list.value[0],
        **{name: fields[name].int64_list.value[0] for name in _PLAIN_FIELDS},
    }


def record_values(raw: Record) -> dict[str, str | float]:
    """Returns the tag values of a raw record by name; missing ones are empty text or NaN."""
    return {
        name: value.decode() if isinstance(value, bytes) else float(value)
        for name, value in raw["tags"].items()
    }


def check_records(directory: Path | epath.Path) -> None:
    """Checks that a directory holds records this version can read.

    Raises:
      UserError: It does not.
    """
    if (directory / UNFINISHED).is_dir() and not (directory / PREPARE_FILE).is_file():
        raise UserError(
            f"{directory}: `exif-jax prepare` did not finish; run the same command again, it goes "
            "on where it stopped"
        )
    if not (directory / PREPARE_FILE).is_file():
        raise UserError(
            f"{directory}: no prepared records (it has no {PREPARE_FILE}); make them with "
            f"`exif-jax prepare PHOTO_DIR --out {directory}`"
        )
    prepared = read_json(directory / PREPARE_FILE)
    version = prepared.get("schema_version") if isinstance(prepared, dict) else None
    if not isinstance(version, int):
        raise UserError(
            f"{directory / PREPARE_FILE}: field schema_version is missing; "
            "run `exif-jax prepare` again"
        )
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{directory}: records of schema version {version}, this program reads up to "
            f"{SCHEMA_VERSION}; update exif-jax, or run `exif-jax prepare` again"
        )


def open_records(directory: Path) -> Records:
    """Opens a directory that `exif-jax prepare` made.

    Raises:
      UserError: It is none, it is damaged, or a newer version of the program made it.
    """
    directory = Path(directory)
    check_records(directory)
    for name in (TARGETS_FILE, "dataset_info.json", "features.json"):
        if not (directory / name).is_file():
            raise UserError(f"{directory / name}: missing; run `exif-jax prepare` again")
    try:
        targets = targets_from_json(read_json(directory / TARGETS_FILE))
    except UserError as error:
        raise UserError(f"{directory / TARGETS_FILE}: {error}") from error
    return Records(directory, targets)
