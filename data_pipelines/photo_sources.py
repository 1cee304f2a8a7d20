"""Photographs to read whole, from folders of files or from prepared records alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipelines.bursts import burst_groups
from data_pipelines.errors import UserError
from data_pipelines.exif import capture_key, load_exif
from data_pipelines.images import decode_image, find_images
from data_pipelines.records import PREPARE_FILE, Record, Records, open_records

BURST_GAP_SECONDS = 60.0


@dataclass(frozen=True)
class ImageSource:
    """One photograph, not yet decoded.

    Attributes:
        path: its file, or the file that its record was cut from.
        group: photos of one group (windows of one photo, bursts) are not independent.
        heldout: whether it belongs to a validation split made earlier.
        read: decodes it: uint8 [H, W, 3]; raises ImageError.
    """

    path: str
    group: int
    heldout: bool
    read: Callable[[], np.ndarray]


def file_groups(paths: Sequence[Path]) -> list[int]:
    """Group of every image file: photos of one camera taken within a minute of each other.

    Files without EXIF are groups of their own.
    """
    files = tqdm(paths, desc="reading EXIF", unit="file", disable=None, leave=False)
    keys = [capture_key(load_exif(path)) for path in files]
    cameras, times = [key.camera for key in keys], [key.seconds for key in keys]
    digests, gap = [key.digest for key in keys], BURST_GAP_SECONDS
    groups: list[int] = burst_groups(cameras, times, digests, range(len(keys)), gap).tolist()
    return groups


def open_photos(directory: Path) -> list[ImageSource]:
    """All photos of a directory of image files, or all windows of prepared records.

    Raises:
        UserError: there is nothing to read.
    """
    if not directory.is_dir():
        raise UserError(f"{directory}: no such directory of photos or records")
    if (directory / PREPARE_FILE).is_file():
        return _recorded_photos(open_records(directory))
    paths = find_images([directory])
    if not paths:
        raise UserError(f"{directory}: no photos found (looked for image files, recursively)")
    groups = file_groups(paths)
    return [
        ImageSource(str(path), group, False, partial(decode_image, path))
        for path, group in zip(paths, groups, strict=True)
    ]


def _recorded_photos(records: Records) -> list[ImageSource]:
    photos = []
    for split in records.splits:
        source, columns = records.source(split), records.columns(split)

        def read(index: int, source: Sequence[Record] = source) -> np.ndarray:
            image: np.ndarray = records.decode(source[index])["image"]
            return image

        photos += [
            ImageSource(path, int(group), split == "validation", partial(read, index))
            for index, (path, group) in enumerate(zip(columns.path, columns.group, strict=True))
        ]
    return photos
