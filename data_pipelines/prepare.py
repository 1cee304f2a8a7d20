"""`exif-jax prepare`: from folders of photos to training records.

One pass reads and decodes every photo and spools its windows to disk; then bursts are found, the
split is drawn, class vocabularies are taken from its training side, and the records are written.
Memory holds the photos' metadata only. Everything is made in a hidden directory beside the output,
which is renamed at the end: the output is there whole or not at all.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from tqdm import tqdm

from data_pipelines.bursts import group_bursts, hold_out
from data_pipelines.images import MAX_PIXELS, find_images
from data_pipelines.photos import PhotoInfo, Reject, read_photo
from data_pipelines.records import (
    PREPARE_FILE,
    SCHEMA_VERSION,
    TARGETS_FILE,
    Record,
    tags_for_record,
    write_records,
)
from data_pipelines.tag_report import (
    REPORT_FILE,
    PhotoSummary,
    Report,
    build_report,
    format_report,
    load_report,
)
from data_pipelines.tags import build_targets, targets_to_json
from exif_jax.errors import UserError
from exif_jax.storage import read_json, replacing_directory, write_json, write_text

REJECTS_FILE: Final = "rejects.jsonl"
_SPOOL_FILE: Final = "windows.spool"
_ONE_UNIT: Final = {"photo": "copies or one burst of one camera", "camera": "of one camera model"}


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the content of the records.

    Attributes:
      windows_per_photo: Windows of 256x256 cut from a photo, at most.
      validation_fraction: About this fraction of the photos is held out, in [0, 1).
      split_by: "photo": a photo's windows and its burst stay on one side; "camera": all photos of a
        camera model do.
      burst_seconds: Photos of one camera with no larger gap between them are one burst.
      seed: Of the choice of windows and of the split.
      max_pixels: Photos with more are rejected.
    """

    windows_per_photo: int = 4
    validation_fraction: float = 0.1
    split_by: str = "photo"
    burst_seconds: float = 60.0
    seed: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        checks = {
            "windows_per_photo": (self.windows_per_photo >= 1, "at least 1"),
            "validation_fraction": (0 <= self.validation_fraction < 1, "from 0 to below 1"),
            "split_by": (self.split_by in ("photo", "camera"), "photo or camera"),
            "burst_seconds": (self.burst_seconds >= 0, "0 or more"),
            "seed": (self.seed >= 0, "0 or more"),
            "max_pixels": (self.max_pixels >= 1, "at least 1"),
        }
        for name, (valid, allowed) in checks.items():
            if not valid:
                raise UserError(f"{name}: {getattr(self, name)!r} is not {allowed}")


@dataclasses.dataclass(frozen=True)
class _SpooledPhoto:
    """A photo, its path for the records, and where its windows lie in the spool file."""

    path: str
    info: PhotoInfo
    offsets: tuple[int, ...]  # of each window, and the end of the last


def prepare(
    sources: Sequence[Path],
    out: Path,
    options: Options | None = None,
    *,
    workers: int | None = None,
) -> Report:
    """Makes training records from photos.

    Files of photos are never changed. EXIF orientation is not applied to the pixels, see `images`.

    Args:
      sources: Directories of photos, searched recursively, or single files.
      out: Directory to make. One that the same call finished before is left as it is.
      options: See `Options`.
      workers: Threads that decode; by default one for each CPU core. No effect on the result.

    Returns:
      The tag report, see `tag_report.build_report`.

    Raises:
      UserError: No photo is found or usable, `out` holds something else, or an option is wrong.
    """
    options = options or Options()
    if not sources:
        raise UserError("no photo directory given")
    sources = [Path(source).absolute() for source in sources]
    out = Path(out)
    provenance = _provenance(sources, options)
    if out.exists() and not _is_empty_directory(out):
        _check_finished(out, provenance)
        return load_report(out)
    files = find_images(sources)
    if not files:
        names = ", ".join(map(str, sources))
        raise UserError(f"no photos found in {names}: no file with an image's extension")
    with replacing_directory(out) as directory:
        spool = directory / _SPOOL_FILE
        with spool.open("w+b") as file:
            photos, rejects = _read_photos(files, _base(sources), options, file, workers)
            if not photos:
                _refuse_all_rejected(out, rejects)
            report = _write(directory, file, photos, rejects, options)
        spool.unlink()
        write_json(directory / PREPARE_FILE, provenance)
    return report


def _provenance(sources: Sequence[Path], options: Options) -> dict[str, Any]:
    """What a later call compares; of the sources a digest only, as paths can name people."""
    names = "\n".join(sorted(str(source.resolve()) for source in sources))
    return {
        "schema_version": SCHEMA_VERSION,
        "options": dataclasses.asdict(options),
        "sources_sha256": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest(),
    }


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _check_finished(out: Path, provenance: dict[str, Any]) -> None:
    """Passes if `out` is the finished output of the same call.

    Raises:
      UserError: It is not; the message says what differs.
    """
    remedy = "give another --out, or delete it first"
    if not out.is_dir() or not (out / PREPARE_FILE).is_file():
        raise UserError(f"{out}: exists, and is not output of `exif-jax prepare`; {remedy}")
    found = read_json(out / PREPARE_FILE)
    if found == provenance:
        return
    old = found.get("options", {}) if isinstance(found, dict) else {}
    differing = [
        f"{name} was {old.get(name)!r}, now {value!r}"
        for name, value in provenance["options"].items()
        if old.get(name) != value
    ] or ["the photo directories differ"]
    raise UserError(f"{out}: holds records made differently ({'; '.join(differing)}); {remedy}")


def _base(sources: Sequence[Path]) -> Path:
    """The directory that the records' paths are relative to."""
    folders = [source if source.is_dir() else source.parent for source in sources]
    return Path(os.path.commonpath(folders))


def _read_photos(
    files: Sequence[Path], base: Path, options: Options, spool: BinaryIO, workers: int | None
) -> tuple[list[_SpooledPhoto], list[tuple[str, Reject]]]:
    """Reads all photos, several at a time, in order; windows go to the spool."""
    photos: list[_SpooledPhoto] = []
    rejects: list[tuple[str, Reject]] = []

    def read(path: Path) -> tuple[PhotoInfo, list[bytes]] | Reject:
        return read_photo(
            path,
            max_windows=options.windows_per_photo,
            seed=options.seed,
            max_pixels=options.max_pixels,
        )

    results = _map_in_order(read, files, workers or os.cpu_count() or 1)
    progress = tqdm(results, "reading photos", len(files), unit="photo", disable=None)
    for file, result in zip(files, progress, strict=True):
        # A name that is no text (other encodings exist on disks) must still fit into one.
        name = file.relative_to(base).as_posix().encode("utf-8", "backslashreplace").decode()
        if isinstance(result, Reject):
            rejects.append((name, result))
            continue
        info, windows = result
        sizes = (len(window) for window in windows)
        offsets = tuple(itertools.accumulate(sizes, initial=spool.tell()))
        spool.writelines(windows)
        photos.append(_SpooledPhoto(name, info, offsets))
    return photos, rejects


def _map_in_order(function: Any, items: Sequence[Path], workers: int) -> Iterator[Any]:
    """Maps with threads, keeping order and no more than a few results waiting."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write(
    directory: Path,
    spool: BinaryIO,
    photos: Sequence[_SpooledPhoto],
    rejects: Sequence[tuple[str, Reject]],
    options: Options,
) -> Report:
    """Writes records, targets, rejects and report."""
    keys = [photo.info.key for photo in photos]
    groups = group_bursts(keys, [photo.info.photo for photo in photos], options.burst_seconds)
    units: list[Any] = [key.camera for key in keys] if options.split_by == "camera" else groups
    held = hold_out(units, options.validation_fraction, options.seed)
    if options.validation_fraction and not any(held):
        raise UserError(
            f"all {len(photos)} photos are {_ONE_UNIT[options.split_by]}, so none can be held out; "
            "give other photos too, or --validation-fraction 0"
        )
    targets = build_targets(
        photo.info.values for photo, out in zip(photos, held, strict=True) if not out
    )
    splits = {}
    for name, side in (("train", False), ("validation", True)):
        members = [i for i, out in enumerate(held) if out == side]
        if members:
            count = sum(len(photos[i].info.corners) for i in members)
            chosen = [(photos[i], groups[i]) for i in members]
            splits[name] = (count, _records(chosen, spool))
    write_records(directory, splits)
    write_json(directory / TARGETS_FILE, targets_to_json(targets))
    write_text(directory / REJECTS_FILE, _rejects_text(rejects))
    summaries = [
        PhotoSummary(
            photo.info.values,
            len(photo.info.corners),
            "validation" if out else "train",
            group,
            photo.info.key.camera,
        )
        for photo, out, group in zip(photos, held, groups, strict=True)
    ]
    report = build_report(summaries, targets, [reject.reason for _, reject in rejects])
    write_json(directory / REPORT_FILE, report)
    return report


def _records(photos: Sequence[tuple[_SpooledPhoto, int]], spool: BinaryIO) -> Iterator[Record]:
    """Yields the records of photos, given with their groups; windows come from the spool."""
    for photo, group in photos:
        spans = itertools.pairwise(photo.offsets)
        for (x, y), (start, end) in zip(photo.info.corners, spans, strict=True):
            spool.seek(start)
            yield {
                "image": spool.read(end - start),
                "tags": tags_for_record(photo.info.values),
                "photo": photo.info.photo,
                "group": group,
                "path": photo.path,
                "x": x,
                "y": y,
                "width": photo.info.width,
                "height": photo.info.height,
            }


def _rejects_text(rejects: Sequence[tuple[str, Reject]]) -> str:
    rows = ({"path": path, **dataclasses.asdict(reject)} for path, reject in rejects)
    return "".join(json.dumps(row) + "\n" for row in rows)


def _refuse_all_rejected(out: Path, rejects: Sequence[tuple[str, Reject]]) -> None:
    """Leaves the list of rejected files beside the output that could not be made, and raises."""
    listing = out.with_name(f"{out.name}.{REJECTS_FILE}")
    write_text(listing, _rejects_text(rejects))
    counts = Counter(reject.reason for _, reject in rejects).most_common()
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts)
    raise UserError(
        f"none of {len(rejects)} files is a usable photo: {reasons}; give photos as the camera "
        f"wrote them, with EXIF, 256 pixels or more a side (every file is listed in {listing})"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `exif-jax prepare`."""
    defaults = Options()
    parser.description = (
        "Make training records from photos as the camera wrote them: JPEG files with EXIF, not "
        "resized, not passed through a messenger or editor. Windows of 256x256 pixels are cut "
        "without resampling and stored losslessly with the EXIF values that are learned from; "
        "place, time, names and serial numbers are not stored. Every file that cannot be used is "
        f"listed with its reason in DIR/{REJECTS_FILE}."
    )
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="PHOTO_DIR",
        help="directory, searched with all below it for images by their extension; or one file",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="directory to make; must be new"
    )
    parser.add_argument(
        "--windows-per-photo",
        type=int,
        default=defaults.windows_per_photo,
        metavar="N",
        help="windows cut from a photo, at most (default: %(default)s); they do not overlap",
    )
    parser.add_argument(
        "--validation-fraction",
        type=float,
        default=defaults.validation_fraction,
        metavar="F",
        help="about this fraction of the photos is held out from training (default: %(default)s)",
    )
    parser.add_argument(
        "--split-by",
        choices=("photo", "camera"),
        default=defaults.split_by,
        help="what is never on both sides of the split: a photo and its burst, or a whole camera "
        "model, which tells how well learning carries over to new cameras (default: %(default)s)",
    )
    parser.add_argument(
        "--burst-seconds",
        type=float,
        default=defaults.burst_seconds,
        metavar="S",
        help="photos of one camera that follow each other within this time are one burst "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=defaults.max_pixels,
        metavar="N",
        help="reject photos with more pixels, before decoding them (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=defaults.seed,
        help="of the choice of windows and of the split (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs `exif-jax prepare`; returns the exit status."""
    options = Options(**{f.name: getattr(args, f.name) for f in dataclasses.fields(Options)})
    finished = (args.out / PREPARE_FILE).is_file()
    report = prepare(args.sources, args.out, options)
    print(format_report(report))
    state = "was already made by the same command" if finished else "made"
    print(f"\n{args.out} {state}; rejected files are listed in {args.out / REJECTS_FILE}")
    return 0
