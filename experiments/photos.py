"""What both experiments start with: which images serve for what, and where their files are put.

Photographs are divided by camera model, generated images by generator and, within a generator, by
source image: no camera and no source image is on both sides.
"""

import argparse
import csv
import itertools
import logging
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.images import decode_image
from data_pipelines.perturbations import CHROMA_SUBSAMPLING
from data_pipelines.photo_sources import file_groups
from data_pipelines.splits import split_groups
from data_pipelines.storage import local_path

log = logging.getLogger("experiment")

CONDITIONS = ("original", "equalised")
EQUAL_QUALITY = 90  # JPEG quality of both classes in the equalised condition
MOST_TEST_PHOTOS = 150
SEED = 0

# No binary detector sees these. Fixed before any result was looked at: the generator with the most
# images, the only GAN and most of the flow transformers, so that mostly latent-diffusion U-Nets
# remain to learn from; and those with a single source image, which cannot be halved.
UNSEEN_GENERATORS = (
    *("gpt4o", "biggan_clip", "flux1", "hidream", "sd35", "stable_image_ultra"),
    *("api_misc/luma_photon", "api_misc/ideogram_v3", "api_misc/recraft_v3", "api_misc/dalle2"),
)


def start(doc: str, experiment: Callable[[Path, Path, bool], None]) -> None:
    """Parses the command line and runs an experiment; what the user must change ends it.

    Args:
        doc: of the script.
        experiment: gets the data's and the work's directory and whether only to check the script.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=local_path, required=True)
    parser.add_argument("--work", type=local_path, required=True)
    parser.add_argument("--tiny", action="store_true", help="only check that the script runs")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    try:
        experiment(args.data.resolve(), args.work.resolve(), args.tiny)
    except UserError as error:
        sys.exit(f"error: {error}")


@dataclass(frozen=True)
class Item:
    """A window of 256x256 pixels.

    Attributes:
        path: relative to the data directory.
        label: 0 for a photograph, 1 for a generated image.
        kind: camera model, or generator.
        source: windows cut from one image share it.
        repository: where it was published.
    """

    path: str
    label: int
    kind: str
    source: str
    repository: str


@dataclass(frozen=True)
class Plan:
    """Use of every window; `pretext` photographs also serve the one-class detectors."""

    pretext: list[Item]
    binary: list[Item]
    test: list[Item]


def make_items(data: Path) -> list[Item]:
    """All windows of data/MANIFEST.csv, in its order."""
    with (data / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        return [
            Item(
                row["path"],
                int(row["label"] == "generated"),
                row["generator"] or row["model"].strip().casefold(),
                row["git_blob"],
                row["source_repo"],
            )
            for row in csv.DictReader(file)
            if row["kind"] == "crop"
        ]


def make_plan(data: Path, tiny: bool = False) -> Plan:
    """Divides the windows of data/MANIFEST.csv; the same file gives the same plan.

    About a quarter of the photographs, whole camera models, are for testing: of these one window a
    photo and one photo a burst, at most `MOST_TEST_PHOTOS`, taken from the cameras in turn. Of the
    generators that are not held out half of the images are for training; as many photographs of
    training cameras, chosen like the test photographs, stand beside them.

    Args:
        data: directory of the manifest and its files.
        tiny: a few source images of some kinds only, to check a script.
    """
    items = make_items(data)
    photos, generated = ([i for i in items if i.label == label] for label in (0, 1))
    if tiny:
        photos, generated = _few(photos, 6)[:64], _few(generated, 0)
    train, test = _divide(photos, split_groups([item.kind for item in photos], 0.25, SEED))
    judge = [item for item in generated if item.kind in UNSEEN_GENERATORS]
    learn: list[Item] = []
    for kind in sorted({item.kind for item in generated} - set(UNSEEN_GENERATORS)):
        of_kind = [item for item in generated if item.kind == kind]
        halves = _divide(of_kind, split_groups([i.source for i in of_kind], 0.5, SEED))
        learn += halves[0]
        judge += halves[1]
    beside = _independent(train, data, len(learn))
    return Plan(train, beside + learn, judge + _independent(test, data, MOST_TEST_PHOTOS))


def _few(items: Sequence[Item], fewest: int) -> list[Item]:
    """Windows of four sources of every kind that has more than `fewest`."""
    sources: dict[str, dict[str, None]] = defaultdict(dict)
    for item in items:
        sources[item.kind][item.source] = None
    kept = {k: list(itertools.islice(s, 4)) for k, s in sources.items() if len(s) > fewest}
    return [item for item in items if item.source in kept.get(item.kind, ())]


def _divide(items: Sequence[Item], out: Sequence[bool]) -> tuple[list[Item], list[Item]]:
    pairs = list(zip(items, out, strict=True))
    return [i for i, held in pairs if not held], [i for i, held in pairs if held]


def _independent(photos: Sequence[Item], data: Path, limit: int) -> list[Item]:
    """One window of one photo of every burst, from the cameras in turn, at most `limit`."""
    photos = [photos[i] for i in np.random.default_rng(SEED).permutation(len(photos))]
    groups = file_groups([data / item.path for item in photos])
    first = dict(reversed(list(zip(groups, photos, strict=True))))
    by_source = {item.source: item for item in first.values()}
    turns: dict[str, itertools.count[int]] = defaultdict(itertools.count)
    order = {source: next(turns[item.kind]) for source, item in by_source.items()}
    return sorted(by_source.values(), key=lambda item: order[item.source])[:limit]


def _place(item: Item, data: Path, folder: Path, condition: str, keep_exif: bool) -> Path:
    """Puts a file below a folder, as KIND/FILE, unless it is there; returns its path."""
    source = (data / item.path).resolve()
    target = folder / re.sub(r"[^\w.-]+", "_", item.kind) / source.name
    if condition == "equalised":
        target = target.with_suffix(".jpg")
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    if condition == "original":
        target.symlink_to(source)
        return target
    with Image.open(source) as image:
        exif = image.info.get("exif", b"") if keep_exif else b""
    part = target.with_suffix(".part")
    Image.fromarray(decode_image(source)).save(
        part, "JPEG", quality=EQUAL_QUALITY, subsampling=CHROMA_SUBSAMPLING, exif=exif
    )
    part.replace(target)
    return target


def lay_out(plan: Plan, data: Path, work: Path, condition: str) -> dict[str, list[Path]]:
    """Puts all files of a condition below WORK, in the layout that the commands read.

    `original` are links to the files as they are; `equalised` ones are decoded and written as JPEG
    of one quality and chroma subsampling, and only photographs to learn tags from keep their EXIF.

    Returns:
        The files for binary training and for the test, in the plan's order.
    """
    for item in plan.pretext:
        _place(item, data, work / f"photos_{condition}", condition, True)
    files: dict[str, list[Path]] = {}
    for use, items in (("labelled", plan.binary), ("test", plan.test)):
        folders = [work / f"{use}_{condition}" / name for name in ("0_real", "1_fake")]
        files[use] = [_place(i, data, folders[i.label], condition, False) for i in items]
    return files
