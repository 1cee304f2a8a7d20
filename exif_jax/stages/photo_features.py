"""Features of photographs, kept on disk in parts: in memory, or more than fit there."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import replacing_file
from data_pipelines.images import ImageError
from data_pipelines.mirrors import synchronise
from data_pipelines.perturbations import parse_perturbation
from data_pipelines.photo_sources import ImageSource
from data_pipelines.skipped import SKIPPED_FILE, SkippedRow, skipped_row, write_skipped
from exif_jax.config import OneClassConfig
from exif_jax.detection.descriptions import Describer
from exif_jax.detection.features import extract_features, features_of, readable
from exif_jax.models.extractor import FixedExtractor
from exif_jax.models.trained import LoadedExtractor
from exif_jax.stages.descriptions import descriptions_folder

_log = logging.getLogger(__name__)
# Estimated bytes of memory for each number of the features, with the copies in float64 of a fit.
_BYTES = 64


@dataclass(frozen=True)
class Chunks:
    """Arrays that are read again by every iteration over them."""

    read: Callable[[], Iterator[np.ndarray]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return self.read()


@dataclass(frozen=True)
class PhotoFeatures:
    """Features [n, T] of the readable photos.

    Attributes:
        positions: of the readable photos among all.
        parts: files with the features of some of them, in order.
        starts: first row of each part, then n.
        in_memory: float32 [n, T], if they fit into memory.
    """

    positions: np.ndarray
    parts: tuple[Path, ...]
    starts: np.ndarray
    in_memory: np.ndarray | None

    def chunks(self, *rows: np.ndarray) -> Chunks:
        """Features of rows, each of the arrays ascending: all in one chunk, or in parts."""

        def read() -> Iterator[np.ndarray]:
            if self.in_memory is not None:
                yield self.in_memory[np.concatenate(rows)]
                return
            for some in rows:
                borders = np.searchsorted(some, self.starts)
                for i, path in enumerate(self.parts):
                    wanted = some[borders[i] : borders[i + 1]] - self.starts[i]
                    if len(wanted):
                        yield _load(path)[0][wanted]

        return Chunks(read)


def photo_features(
    config: OneClassConfig,
    extractor: LoadedExtractor,
    source: Path,
    photos: Sequence[ImageSource],
    workdir: Path,
) -> PhotoFeatures:
    """Features of the photos of a source; finished parts are kept in workdir/features.

    Unreadable photos are listed in skipped.jsonl.

    Raises:
        UserError: no photo can be read.
    """
    network, root = extractor.digest(), str(source)
    size = config.batch_size * config.checkpoint_every
    folder = workdir / "features"
    folder.mkdir(exist_ok=True)
    parts: list[Path] = []
    positions: list[int] = []
    skipped: list[SkippedRow] = []
    starts, columns = [0], 0
    compute = _computing(config, extractor, source, photos, workdir)
    with tqdm(total=len(photos), unit="photo", desc="features", disable=None) as progress:
        for start in range(0, len(photos), size):
            part = photos[start : start + size]
            # Named after what it holds: other photos or another network by now mean another file.
            # The previous release named them by whole paths.
            names = [_part_name(network, part, *of) for of in ([root], [])]
            path, before = (folder / f"{start:09d}-{name}.npz" for name in names)
            if before.exists():
                path = before
            if path.exists():
                progress.update(len(part))
            else:
                _save(path, *compute(start, start + len(part), progress))
                synchronise(workdir)
            features, unread = _load(path)
            positions += [start + i for i in range(len(part)) if i not in unread]
            skipped += [skipped_row(part[i].path, *why) for i, why in unread.items()]
            if len(features):
                parts.append(path)
                starts.append(len(positions))
                columns = features.shape[1]
    write_skipped(workdir / SKIPPED_FILE, skipped)
    if not parts:
        raise UserError(f"{config.data.photos}: none of {len(photos)} photos could be read")
    need = _BYTES * len(positions) * columns / 2**30
    fits = need <= config.memory_gib
    if not fits:
        _log.info(
            "the features of %d photos are read from disk for every iteration: in memory they "
            "would take %.3g GiB, config.memory_gib = %g",
            len(positions),
            need,
            config.memory_gib,
        )
    everything = np.concatenate([_load(path)[0] for path in parts]) if fits else None
    return PhotoFeatures(np.array(positions), tuple(parts), np.array(starts), everything)


_Compute = Callable[[int, int, tqdm], tuple[np.ndarray, dict[int, ImageError]]]
"""First photo, last photo + 1, progress -> features of the readable ones, errors by position."""


def _computing(
    config: OneClassConfig,
    extractor: LoadedExtractor,
    source: Path,
    photos: Sequence[ImageSource],
    workdir: Path,
) -> _Compute:
    module, params, patches = extractor.module, extractor.params, config.data.patches

    def from_images(
        start: int, stop: int, progress: tqdm
    ) -> tuple[np.ndarray, dict[int, ImageError]]:
        errors: dict[int, ImageError] = {}
        images = map(prepare.apply, readable(_decoders(photos[start:stop], progress), errors))
        return extract_features(module, params, images, 16 * config.batch_size, patches), errors

    prepare = parse_perturbation(extractor.prepare)
    if not isinstance(module, FixedExtractor):
        return from_images
    place = descriptions_folder(config.data.descriptions, source, workdir)
    described = Describer(module, place, prepare.name).whole(photos, patches)

    def from_descriptions(
        start: int, stop: int, progress: tqdm
    ) -> tuple[np.ndarray, dict[int, ImageError]]:
        errors = {
            i - start: described.errors[i] for i in range(start, stop) if i in described.errors
        }
        rows = described.rows(i for i in range(start, stop) if i not in described.errors)
        progress.update(stop - start)
        return features_of(module, params, rows), errors

    return from_descriptions


def _decoders(photos: Sequence[ImageSource], progress: tqdm) -> Iterator[Callable[[], np.ndarray]]:
    for photo in photos:
        progress.update()
        yield photo.read


def _part_name(network: bytes, photos: Sequence[ImageSource], root: str = "") -> str:
    """Of the network and the paths of photos, relative to a folder that they may be moved with."""
    paths = (photo.path.removeprefix(root) for photo in photos)
    joined = "\n".join(paths).encode("utf-8", "surrogateescape")
    return hashlib.sha256(network + joined).hexdigest()[:16]


def _save(path: Path, features: np.ndarray, errors: dict[int, ImageError]) -> None:
    rows = [(position, error.reason, str(error)) for position, error in errors.items()]
    with replacing_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, features=features, errors=json.dumps(rows))


def _load(path: Path) -> tuple[np.ndarray, dict[int, list[str]]]:
    """Features of the readable photos of a part; by position, reason and message of the others.

    Parts of the previous release have the message alone.
    """
    with np.load(path, allow_pickle=False) as saved:
        rows = json.loads(str(saved["errors"]))
        return saved["features"], {position: ["unreadable", *why][-2:] for position, *why in rows}
