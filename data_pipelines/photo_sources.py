"""Photographs to read whole, from folders of files or from prepared records alike."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from tqdm import tqdm

from data_pipelines.bursts import burst_groups
from data_pipelines.errors import UserError
from data_pipelines.exif import capture_key, load_exif
from data_pipelines.file_names import place_in_series, time_or_named
from data_pipelines.images import decode_image, find_images, read_bytes
from data_pipelines.records import PREPARE_FILE, Records, open_records
from data_pipelines.storage import is_uri

BURST_GAP_SECONDS = 60.0
_REMOTE_READS = 16  # files of object storage that are read at once


@dataclass(frozen=True)
class ImageSource:
    """An image in a file or a record, not yet read.

    Attributes:
        path: its file, or the file that its record was cut from.
        content: reads its bytes, as they are stored; raises ImageError.
        decode: of these bytes: uint8 [H, W, 3]; raises ImageError.
        is_window: whether it is known to be of at most 256x256.
        group: photos of one group (windows of one photo, bursts) are not independent.
        heldout: whether it belongs to a validation split made earlier.
    """

    path: str
    content: Callable[[], bytes]
    decode: Callable[[bytes], np.ndarray]
    is_window: bool = False
    group: int = 0
    heldout: bool = False

    @classmethod
    def of_file(cls, path: Path, group: int = 0) -> Self:
        """An image file."""
        return cls(str(path), partial(read_bytes, path), decode_image, group=group)

    def read(self) -> np.ndarray:
        """Reads and decodes it: uint8 [H, W, 3].

        Raises:
            ImageError: it cannot be read.
        """
        return self.decode(self.content())


def file_groups(paths: Sequence[Path]) -> list[int]:
    """Group of every image file: photos of one camera taken within a minute of each other.

    Where EXIF has no time, names and numbers of files tell; files without EXIF are groups of their
    own.
    """
    files = tqdm(paths, desc="reading EXIF", unit="file", disable=None, leave=False)
    with ThreadPoolExecutor(_REMOTE_READS) as pool:  # each of them waits for an answer
        read = pool.map if any(is_uri(path) for path in paths[:1]) else map
        keys = [capture_key(exif) for exif in read(load_exif, files)]
    names = [path.as_posix() for path in paths]
    times = [
        time_or_named(key.time, key.camera, name) for key, name in zip(keys, names, strict=True)
    ]
    groups: list[int] = burst_groups(
        [key.camera for key in keys],
        [time and time.seconds for time in times],
        [key.digest for key in keys],
        range(len(keys)),
        BURST_GAP_SECONDS,
        zone=[time and time.zone for time in times],
        place=list(map(place_in_series, names)),
    ).tolist()
    return groups


def open_photos(directory: Path) -> list[ImageSource]:
    """All photos of a directory of image files, or all windows of prepared records.

    Raises:
        UserError: there is nothing to read.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of photos or records")
    if (directory / PREPARE_FILE).is_file():
        records = open_records(directory)
        return [image for split in records.splits for image in record_images(records, split)]
    paths = find_images([directory])
    if not paths:
        raise UserError(f"{directory}: no photos found (looked for image files, recursively)")
    groups = file_groups(paths)
    return [ImageSource.of_file(path, group) for path, group in zip(paths, groups, strict=True)]


def record_images(records: Records, split: str) -> list[ImageSource]:
    """The windows of a split, in order."""
    source, columns = records.source(split), records.columns(split)

    def content(index: int) -> bytes:
        data: bytes = source[index]["image"]
        return data

    def decode(data: bytes) -> np.ndarray:
        image: np.ndarray = records.decode({"image": data})["image"]
        return image

    return [
        ImageSource(path, partial(content, index), decode, True, int(group), split == "validation")
        for index, (path, group) in enumerate(zip(columns.path, columns.group, strict=True))
    ]
