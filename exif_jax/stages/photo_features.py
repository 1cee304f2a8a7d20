"""Features of photographs, kept on disk in parts: in memory, or more than fit there."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
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
from exif_jax.training.shares import first_alone, gather, meet, section

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
        in_memory: float32 [n, T], if they fit into the memory of the only process.
        fits: whether the rows of each process fit into its memory.
    """

    positions: np.ndarray
    parts: tuple[Path, ...]
    starts: np.ndarray
    in_memory: np.ndarray | None
    fits: bool

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
                        yield _load(path)[wanted]

        return Chunks(read)


def own_rows(*rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """This process's section of arrays that follow each other: a part of each, maybe empty."""
    own = section(sum(map(len, rows)))
    starts = np.cumsum([0, *map(len, rows)])
    return tuple(
        part[max(own.start - start, 0) : max(own.stop - start, 0)]
        for part, start in zip(rows, starts, strict=False)
    )


def photo_features(
    config: OneClassConfig,
    extractor: LoadedExtractor,
    source: Path,
    photos: Sequence[ImageSource],
    workdir: Path,
) -> PhotoFeatures:
    """Features of the photos of a source; finished parts are kept in workdir/features.

    The parts are the same for any number of processes, which divide those that are missing and all
    see the folder. Unreadable photos are listed in skipped.jsonl.

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
    starts = [0]
    ranges = [range(len(photos))[start : start + size] for start in range(0, len(photos), size)]
    paths = []
    for of_part in ranges:
        # Named after what it holds: other photos or another network by now mean another file.
        # The previous release named them by whole paths.
        part = photos[of_part.start : of_part.stop]
        names = [_part_name(network, part, *of) for of in ([root], [])]
        path, before = (folder / f"{of_part.start:09d}-{name}.npz" for name in names)
        paths.append(before if before.exists() else path)
    compute = _computing(config, extractor, source, photos, workdir)
    _complete(dict(zip(paths, ranges, strict=True)), compute)
    for of_part, path in zip(ranges, paths, strict=True):
        unread = {of_part[i]: why for i, why in _errors(path).items()}
        skipped += [skipped_row(photos[i].path, *why) for i, why in unread.items()]
        positions += [i for i in of_part if i not in unread]
        if len(unread) < len(of_part):
            parts.append(path)
            starts.append(len(positions))
    first_alone(lambda: write_skipped(workdir / SKIPPED_FILE, skipped))
    if not parts:
        raise UserError(f"{config.data.photos}: none of {len(photos)} photos could be read")
    columns = _load(parts[0]).shape[1]
    need = _BYTES * len(positions) * columns / 2**30 / jax.process_count()
    fits = need <= config.memory_gib
    if not fits:
        _log.info(
            "the features of %d photos are read from disk for every iteration: in memory they "
            "would take %.3g GiB, config.memory_gib = %g",
            len(positions),
            need,
            config.memory_gib,
        )
    everything = None
    if fits and jax.process_count() == 1:
        everything = np.concatenate([_load(path) for path in parts])
    return PhotoFeatures(np.array(positions), tuple(parts), np.array(starts), everything, fits)


def _complete(parts: dict[Path, range], compute: "_Compute") -> None:
    """Writes the parts, given by their files, that are not there yet."""
    # As the first process sees it: others may already be writing.
    there = gather({"there": [path.exists() for path in parts]})[0]["there"]
    missing = [path for path, done in zip(parts, there, strict=True) if not done]
    processes = jax.process_count()
    whole = len(missing) - len(missing) % processes
    hidden = True if jax.process_index() else None
    total = sum(map(len, parts.values()))
    with tqdm(total=total, unit="photo", desc="features", disable=hidden) as progress:
        progress.update(total - sum(len(parts[path]) for path in missing))
        for path in missing[:whole][jax.process_index() :: processes]:
            _save(path, *compute(parts[path], progress))
            synchronise(path.parent.parent)
        for path in missing[whole:]:  # fewer than there are processes
            found = _together(compute, parts[path], progress)
            first_alone(partial(_save, path, *found))
    meet()


_Found = tuple[np.ndarray, dict[int, ImageError]]
"""Features of the readable photos of a range, errors of the others by position in it."""
_Compute = Callable[[range, tqdm], _Found]


def _together(compute: _Compute, photos: range, progress: tqdm) -> _Found:
    """What all processes find, each in its section; on each of them."""
    own = photos[(mine := section(len(photos))).start : mine.stop]
    features, errors = compute(own, progress)
    told = [(own.start - photos.start + i, x.reason, str(x)) for i, x in errors.items()]
    every = gather(
        {"features": features, "errors": np.frombuffer(json.dumps(told).encode(), np.uint8)}
    )
    parts = [part["features"] for part in every]
    rows = [row for part in every for row in json.loads(part["errors"].tobytes())]
    return (
        np.concatenate([part for part in parts if len(part)] or parts[:1]),
        {i: ImageError(reason, message) for i, reason, message in rows},
    )


def _computing(
    config: OneClassConfig,
    extractor: LoadedExtractor,
    source: Path,
    photos: Sequence[ImageSource],
    workdir: Path,
) -> _Compute:
    module, params, patches = extractor.module, extractor.params, config.data.patches

    def from_images(which: range, progress: tqdm) -> _Found:
        errors: dict[int, ImageError] = {}
        chosen = photos[which.start : which.stop]
        images = map(prepare.apply, readable(_decoders(chosen, progress), errors))
        return extract_features(module, params, images, 16 * config.batch_size, patches), errors

    prepare = parse_perturbation(extractor.prepare)
    if not isinstance(module, FixedExtractor):
        return from_images
    place = descriptions_folder(config.data.descriptions, source, workdir)
    described = Describer(module, place, prepare.name).whole(photos, patches)

    def from_descriptions(which: range, progress: tqdm) -> _Found:
        errors = {i - which.start: described.errors[i] for i in which if i in described.errors}
        rows = described.rows(i for i in which if i not in described.errors)
        progress.update(len(which))
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


def _load(path: Path) -> np.ndarray:
    """Features of the readable photos of a part."""
    with np.load(path, allow_pickle=False) as saved:
        features: np.ndarray = saved["features"]
        return features


def _errors(path: Path) -> dict[int, list[str]]:
    """By position, reason and message of the other photos of a part.

    Parts of the previous release have the message alone.
    """
    with np.load(path, allow_pickle=False) as saved:
        rows = json.loads(str(saved["errors"]))
    return {position: ["unreadable", *why][-2:] for position, *why in rows}
