"""Which photographs and generated images serve for what, and where their files are put.

Photographs are divided by camera model, generated images by generator and, within a generator, by
source image: no camera and no source image is on both sides.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.images import decode_image
from data_pipelines.perturbations import CHROMA_SUBSAMPLING
from data_pipelines.photo_sources import file_groups
from data_pipelines.splits import split_groups

CONDITIONS = ("original", "equalised")
EQUAL_QUALITY = 90  # JPEG quality of both classes in the equalised condition

# No binary detector sees these. Fixed before any result was looked at: the generator with the most
# images, the only GAN and most of the flow transformers, so that mostly latent-diffusion U-Nets
# remain to learn from; and those with a single source image, which cannot be halved.
UNSEEN_GENERATORS = (
    "gpt4o",
    "biggan_clip",
    "flux1",
    "hidream",
    "sd35",
    "api_misc/luma_photon",
    "api_misc/ideogram_v3",
    "api_misc/recraft_v3",
    "api_misc/dalle2",
    "stable_image_ultra",
)


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


def read_manifest(data: Path, tiny: bool) -> list[Item]:
    """All windows listed in data/MANIFEST.csv; for `tiny` two source images of some kinds."""
    with (data / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "crop"]
    items = [
        Item(
            row["path"],
            int(row["label"] == "generated"),
            row["generator"] or row["model"].strip().casefold(),
            row["git_blob"],
            row["source_repo"],
        )
        for row in rows
    ]
    return _few(items) if tiny else items


def _few(items: Sequence[Item]) -> list[Item]:
    kinds: dict[tuple[int, str], list[str]] = defaultdict(list)
    for item in items:
        sources = kinds[item.label, item.kind]
        if item.source not in sources:
            sources.append(item.source)
    cameras = sorted(kind for kind in kinds if kind[0] == 0 and len(kinds[kind]) > 5)[:16]
    kept = {kind for kind in kinds if kind[0] == 1 or kind in cameras}
    return [
        item
        for item in items
        if (item.label, item.kind) in kept and item.source in kinds[item.label, item.kind][:4]
    ]


def make_plan(items: Sequence[Item], data: Path, max_test_photos: int, seed: int) -> Plan:
    """Divides the windows; the same arguments give the same plan.

    About a quarter of the photographs, whole camera models, are for testing: of these one window a
    photo and one photo a burst, at most `max_test_photos`, taken from the cameras in turn. Of the
    generators that are not held out half of the images are for training; as many photographs of
    training cameras, chosen like the test photographs, stand beside them.
    """
    photos = [item for item in items if item.label == 0]
    generated = [item for item in items if item.label == 1]
    cameras_out = split_groups([item.kind for item in photos], 0.25, seed)
    train, test = _divide(photos, cameras_out)
    unseen = [item for item in generated if item.kind in UNSEEN_GENERATORS]
    learn: list[Item] = []
    judge: list[Item] = list(unseen)
    for kind in sorted({item.kind for item in generated} - set(UNSEEN_GENERATORS)):
        of_kind = [item for item in generated if item.kind == kind]
        first, second = _divide(of_kind, split_groups([i.source for i in of_kind], 0.5, seed))
        learn += first
        judge += second
    beside = _independent(train, data, len(learn), seed)
    judge += _independent(test, data, max_test_photos, seed)
    return Plan(train, beside + learn, judge)


def _divide(items: Sequence[Item], out: Sequence[bool]) -> tuple[list[Item], list[Item]]:
    pairs = list(zip(items, out, strict=True))
    return [i for i, held in pairs if not held], [i for i, held in pairs if held]


def _independent(photos: Sequence[Item], data: Path, limit: int, seed: int) -> list[Item]:
    """One window of one photo of every burst, from the cameras in turn, at most `limit`."""
    rng = np.random.default_rng(seed)
    photos = [photos[i] for i in rng.permutation(len(photos))]
    groups = file_groups([data / item.path for item in photos])
    first = dict(reversed(list(zip(groups, photos, strict=True))))
    by_source = {item.source: item for item in first.values()}
    turns: dict[str, int] = defaultdict(int)
    ranked = []
    for order, item in enumerate(by_source.values()):
        ranked.append((turns[item.kind], order, item))
        turns[item.kind] += 1
    return [item for _, _, item in sorted(ranked, key=lambda x: x[:2])[:limit]]


def place(
    items: Iterable[Item], data: Path, folder: Path, condition: str, *, keep_exif: bool
) -> list[Path]:
    """Puts the files of one condition below a folder; files already there are left.

    Args:
        items: what to put there.
        data: where their files are.
        folder: gets KIND/FILE.
        condition: `original`: links to the files as they are; `equalised`: decoded and written as
            JPEG of one quality and chroma subsampling, whatever they were before.
        keep_exif: of re-encoded files; without, they hold no metadata at all.

    Returns:
        The path of each item.
    """
    paths = []
    for item in items:
        source = (data / item.path).resolve()
        target = folder / re.sub(r"[^\w.-]+", "_", item.kind) / source.name
        if condition == "equalised":
            target = target.with_suffix(".jpg")
        paths.append(target)
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if condition == "original":
            target.symlink_to(source)
            continue
        with Image.open(source) as image:
            exif = image.info.get("exif", b"") if keep_exif else b""
        part = target.with_suffix(".part")
        Image.fromarray(decode_image(source)).save(
            part, "JPEG", quality=EQUAL_QUALITY, subsampling=CHROMA_SUBSAMPLING, exif=exif
        )
        part.replace(target)
    return paths
