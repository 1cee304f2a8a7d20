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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from data_pipelines.tags import TAGS, Target, encode_targets, targets_from_json
from exif_jax.errors import UserError
from exif_jax.storage import read_json

SCHEMA_VERSION: Final = 1
WINDOW: Final = 256
"""Side of a window in pixels."""
PREPARE_FILE: Final = "prepare.json"
TARGETS_FILE: Final = "targets.json"

_DATASET_NAME: Final = "exif_photos"
_WINDOWS_PER_SHARD: Final = 4096  # about 350 MB
_DESCRIPTION: Final = (
    "Windows of camera photographs, not resampled, with the EXIF values that a forensic feature "
    "extractor learns from. Empty text and NaN: the photo lacks the tag."
)

Record = dict[str, Any]


def record_features() -> tfds.features.FeaturesDict:
    """Returns the schema of one record.

    image: the window, losslessly as PNG, uint8 [256, 256, 3].
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
            "image": tfds.features.Image(shape=(WINDOW, WINDOW, 3), encoding_format="png"),
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


def write_records(directory: Path, splits: Mapping[str, tuple[int, Iterator[Record]]]) -> None:
    """Writes the shards of all splits and the files that describe them, one record at a time.

    Args:
      directory: An existing directory without records.
      splits: By name, the number of records (at least 1) and the records in the form of
        `record_features`, images as the bytes of PNG files.
    """
    features = record_features()
    infos = []
    for name, (count, records) in splits.items():
        template = tfds.core.ShardedFileTemplate(
            data_dir=str(directory),
            dataset_name=_DATASET_NAME,
            split=name,
            filetype_suffix="array_record",
        )
        num_shards = -(-count // _WINDOWS_PER_SHARD)
        lengths = [
            count * (i + 1) // num_shards - count * i // num_shards for i in range(num_shards)
        ]
        num_bytes = 0
        for shard, length in enumerate(lengths):
            path = template.sharded_filepath(shard_index=shard, num_shards=num_shards)
            # One record a group: reading one decompresses no neighbour.
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for _ in range(length):
                data = features.serialize_example(features.encode_example(next(records)))
                writer.write(data)
                num_bytes += len(data)
            writer.close()
        infos.append(
            tfds.core.SplitInfo(
                name=name, shard_lengths=lengths, num_bytes=num_bytes, filename_template=template
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(directory),
        features=features,
        split_infos=infos,
        version=f"{SCHEMA_VERSION}.0.0",
        check_data=False,  # it would read the first record through TensorFlow
        description=_DESCRIPTION,
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
        return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})

    def decode(self, raw: Record) -> Record:
        """Decodes a record of `source`; threads may run it at once.

        Returns:
          image: uint8 [256, 256, 3].
          targets: float32 [T] as of `encode_targets`, NaN where missing.
          photo, group: int64 ids.
          path: Text.
        """
        with Image.open(io.BytesIO(raw["image"]), formats=("PNG",)) as png:
            image = np.asarray(png)
        return {
            "image": image,
            "targets": encode_targets(record_values(raw), self.targets),
            "photo": np.int64(raw["photo"]),
            "group": np.int64(raw["group"]),
            "path": raw["path"].decode(),
        }


def record_values(raw: Record) -> dict[str, str | float]:
    """Returns the tag values of a raw record by name; missing ones are empty text or NaN."""
    return {
        name: value.decode() if isinstance(value, bytes) else float(value)
        for name, value in raw["tags"].items()
    }


def check_records(directory: Path) -> None:
    """Checks that a directory holds records this version can read.

    Raises:
      UserError: It does not.
    """
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
