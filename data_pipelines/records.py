"""Prepared records: windows of photos with their tags, as a tensorflow-datasets data set on disk.

Layout of a directory of records:

    exif_photos-SPLIT.array_record-*   one record a window, random access
    dataset_info.json, features.json   so that `tfds.builder_from_directory(DIR)` reads it alone
    index-SPLIT.npz                    everything but the pixels, in columns
    targets.json                       class vocabularies, from the training photos
    prepare.json                       schema version and options they were made with
    tag_report.json, rejects.jsonl     what is in them, and which files are not, and why

The shards are written directly: the tensorflow-datasets builder needs TensorFlow as soon as a split
is larger than 1 GB. Nothing here needs TensorFlow.
"""

import contextlib
import dataclasses
import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from data_pipelines import jpeg_pixels
from data_pipelines.columns import Columns
from data_pipelines.disk import disk_error
from data_pipelines.errors import UserError
from data_pipelines.files import read_json
from data_pipelines.images import WINDOW
from data_pipelines.storage import describe, is_uri
from data_pipelines.tags import TAGS, Value
from data_pipelines.targets import Target, encode_values, targets_from_json

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

_NUMBERS: Final = {
    **dict.fromkeys(("photo", "group"), np.int64),
    **dict.fromkeys(("x", "y", "width", "height"), np.int32),
}

Record = dict[str, Any]
Encoder = Callable[[Any], np.ndarray]
"""Values of n photos, as in `Columns.values` -> float32 [n], NaN where nothing is learned."""


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
    return tfds.features.FeaturesDict(
        {
            # Each record's file says itself what it is; readers go by that.
            "image": tfds.features.Image(shape=(WINDOW, WINDOW, 3)),
            "tags": {tag.name: tag.feature() for tag in TAGS},
            "path": tfds.features.Text(),
            **_NUMBERS,
        }
    )


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


def index_path(directory: os.PathLike[str], split: str) -> epath.Path:
    """Returns where the index of a split belongs: its `Columns.to_bytes`."""
    return epath.Path(directory) / f"index-{split}.npz"


def _columns(rows: Iterable[Record]) -> Columns:
    """Gathers what records say, without their images."""
    columns: dict[str, list[Any]] = {name: [] for name in ("path", "photo", "group", "x", "y")}
    values: dict[str, list[Value]] = {tag.name: [] for tag in TAGS}
    for row in rows:
        for name, column in columns.items():
            column.append(row[name])
        for name, column in values.items():
            column.append(row["tags"][name])
    return Columns(
        **{name: np.array(column, _NUMBERS.get(name, object)) for name, column in columns.items()},
        values={tag.name: np.array(values[tag.name], tag.dtype) for tag in TAGS},
    )


def write_shard(path: Path, records: Iterable[Record]) -> tuple[int, Columns]:
    """Writes a shard into a local file, one record at a time.

    Records have the form of `record_features`, images as the bytes of their files.

    Returns:
        The bytes of the records, and what they say without their images.
    """
    features = record_features()
    num_bytes = 0
    rows = []
    # One record a group: reading one decompresses no neighbour.
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        data = features.serialize_example(features.encode_example(record))
        writer.write(data)
        num_bytes += len(data)
        rows.append({**record, "image": b""})
    writer.close()
    return num_bytes, _columns(rows)


def write_description(
    directory: os.PathLike[str], splits: Mapping[str, Sequence[tuple[int, int]]]
) -> None:
    """Writes the files that describe the shards of a directory.

    Of each split it is told number and bytes of the records of each shard in order.
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
        directory: where they are.
        targets: what the model predicts, with the class vocabularies of the training photos.
    """

    directory: Path
    targets: tuple[Target, ...]
    _read: dict[str, Columns] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits: "train", and "validation" unless nothing was held out."""
        return tuple(self._splits())

    def source(self, split: str) -> "Source":
        """Opens a split for random access.

        Returns:
            A picklable source with `__len__` and `__getitem__` that many threads may use at once.
            Items are raw records: the image still bytes.

        Raises:
            UserError: there is no such split, or a file of it is missing or damaged; also items
                raise it.
        """
        splits = self._splits()
        if split not in splits:
            raise UserError(
                f"{self.directory}: no {split!r} photos, only {sorted(splits)}; "
                "run `exif-jax prepare` with more photos or a larger --validation-fraction"
            )
        with _whole(self.directory):
            paths = splits[split].filepaths
        missing = [p for p in paths if not p.exists()]
        if missing:
            raise UserError(
                f"{missing[0]}: missing; copy the directory anew or run `exif-jax prepare` again"
            )
        return Source(paths)

    def _splits(self) -> Any:
        """What tensorflow-datasets reads of dataset_info.json and features.json."""
        with _whole(self.directory):
            return tfds.builder_from_directory(self.directory).info.splits

    def decode(self, raw: Record) -> Record:
        """Returns a record of `source` with its image decoded, uint8 [256, 256, 3].

        Threads may run it at once.

        Raises:
            UserError: it is damaged.
        """
        image = np.empty((WINDOW, WINDOW, 3), np.uint8)
        with _whole(self.directory):
            _decode_into(image, raw["image"])
        return {**raw, "image": image}

    def columns(self, split: str) -> Columns:
        """Returns what the records of a split say, without decoding or even reading an image.

        They come from the index beside the shards. Records of earlier versions have none: theirs
        are read once, whole, and kept in memory.

        Raises:
            UserError: there is no such split, or the index is damaged.
        """
        if split not in self._read:
            source = self.source(split)
            columns = self._indexed(split)
            if columns is None or len(columns) != len(source):
                rows = (source[i] for i in range(len(source)))
                columns = _columns(
                    tqdm(rows, f"reading {split} records", len(source), unit="record", disable=None)
                )
            self._read[split] = columns
        return self._read[split]

    def _indexed(self, split: str) -> Columns | None:
        path = index_path(self.directory, split)
        if not path.exists():
            return None
        try:
            columns = Columns.from_bytes(path.read_bytes())
        except Exception as error:  # NumPy and zipfile have many
            raise UserError(
                f"{path}: damaged ({error}); copy it anew, or delete it: then the records are "
                "read instead"
            ) from error
        # An index made before a tag was added to the table lacks it.
        values = {
            tag.name: columns.values.get(tag.name, np.full(len(columns), tag.missing, tag.dtype))
            for tag in TAGS
        }
        return dataclasses.replace(columns, values=values)

    def labels(self, split: str, encoders: Mapping[str, Encoder] | None = None) -> np.ndarray:
        """Returns what is to be learned from each record of a split, encoded once.

        Args:
            split: its name.
            encoders: for each of T columns, by name of the tag, what makes numbers of its values;
                by default those of `targets`, see `targets.encode_values`.

        Returns:
            float32 [n, T], NaN where missing.
        """
        columns = self.columns(split)
        if encoders is None:
            encoders = {t.name: functools.partial(encode_values, target=t) for t in self.targets}
        labels = np.full((len(columns), len(encoders)), np.nan, np.float32)
        for i, (name, encode) in enumerate(encoders.items()):
            if name in columns.values:  # a tag that a later version removed is missing
                labels[:, i] = encode(columns.values[name])
        return labels


class Source:
    """Raw records by index.

    tensorflow-datasets' own source looks up every field's type for every record, which takes as
    long as decoding the window and keeps other threads waiting.
    """

    def __init__(self, paths: Sequence[os.PathLike[str]]) -> None:
        self._folder = Path(paths[0]).parent if paths else Path()
        with _whole(self._folder):
            self._files = ArrayRecordDataSource([os.fspath(path) for path in paths])

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Record:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        with _whole(self._folder):
            return parse_record(self._files[index])

    def window(self, index: int, out: np.ndarray) -> None:
        """Decodes the image of a record into uint8 [256, 256, 3], and reads nothing else of it.

        Raises:
            UserError: see `Records.source`.
        """
        with _whole(self._folder):
            record = tf_example_pb2.Example.FromString(self._files[index])
            _decode_into(out, record.features.feature["image"].bytes_list.value[0])


def _decode_into(out: np.ndarray, data: bytes) -> None:
    """Decodes the file of a window."""
    if jpeg_pixels.decode(data, out) is None:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as file:
            image = np.asarray(file)
        if image.shape != out.shape:
            raise ValueError(f"a window of shape {image.shape}")
        out[:] = image


@contextlib.contextmanager
def _whole(directory: os.PathLike[str]) -> Iterator[None]:
    """Turns what libraries raise of damaged files of records into one `UserError`."""
    try:
        yield
    except Exception as error:  # protobuf, tensorflow-datasets, ArrayRecord and Pillow have many
        found = disk_error(error)
        # Pillow tells of damaged images by errors of the system that have no number.
        if isinstance(error, UserError) or (found is not None and found.errno is not None):
            raise
        raise UserError(
            f"{directory}: a file of the records is damaged or was copied in part "
            f"({describe(error)}); copy the directory anew or run `exif-jax prepare` again"
        ) from error


def parse_record(data: bytes) -> Record:
    """Reads a serialised record: the image as bytes, texts and numbers as Python's.

    Tags that the record lacks, as it was made before they were added, are missing.
    """
    fields = tf_example_pb2.Example.FromString(data).features.feature
    return {
        "image": fields["image"].bytes_list.value[0],
        "tags": {tag.name: tag.from_example(fields[f"tags/{tag.name}"]) for tag in TAGS},
        "path": fields["path"].bytes_list.value[0].decode(),
        **{name: fields[name].int64_list.value[0] for name in _NUMBERS},
    }


def check_records(directory: Path | epath.Path) -> None:
    """Checks that a directory holds records this version can read.

    Raises:
        UserError: it does not.
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
    """Opens a directory that `exif-jax prepare` made; of one in object storage the targets alone.

    Raises:
        UserError: it is none, it is damaged, or a newer version of the program made it.
    """
    if not is_uri(directory):
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
