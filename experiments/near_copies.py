"""How surely near copies are told from other photos, and how many are found.

    .venv/bin/python experiments/near_copies.py ../shared/data/dev

Photos are saved anew, resized and cropped, and compared with their originals; and frames of a
tripod, which are SIMULATED: one scene with independent noise of sensor and shot in each frame. What
is printed are the tables of `results/near_copies/results.md`.
"""

import argparse
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipelines.images import open_image
from data_pipelines.prepare.jpeg_windows import cut_windows
from data_pipelines.prepare.looks import BlockLook, Look, look_of_pixels
from data_pipelines.prepare.near_copies import better_saved, is_part, look_alike

NOISE = {"low": 0.5, "middle": 2.0, "high": 6.0}
"""Variance of the noise of a white pixel, in levels squared; a black one has 0.15 of it."""
QUALITIES = (50, 75, 85, 90, 95)
Seen = tuple[Look, tuple[int, int]]


def look_of(data: bytes) -> Seen:
    """The look of a file, and its size."""
    image = open_image(data)
    if image.format == "JPEG" and image.mode == "RGB":
        tables = [image.quantization[table] for *_, table in image.layer]
        seen = BlockLook(image.size, tables)
        cut_windows(data, [(0, 0)], 128, seen.visit)
        return seen.look(len(data)), image.size
    return look_of_pixels(image, len(data)), image.size


def saved(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def cropped(image: Image.Image, fraction: float, rng: np.random.Generator) -> Image.Image:
    """A part of an image at a random place, with a fraction less of each side."""
    width, height = (round(side * (1 - fraction)) for side in image.size)
    x, y = (int(rng.integers(a - b + 1)) for a, b in zip(image.size, (width, height), strict=True))
    return image.crop((x, y, x + width, y + height))


def changes(image: Image.Image, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Near copies of a photo, with what was done."""
    for quality in QUALITIES:
        yield f"JPEG {quality}, 4:2:0", saved(image, quality=quality)
        yield (
            f"JPEG {quality}, 4:4:4, progressive",
            saved(image, quality=quality, subsampling=0, progressive=True),
        )
    coarse = [min(255, 3 + 2 * i // 3) for i in range(64)]
    yield "JPEG, other tables", saved(image, qtables=[coarse, coarse])
    yield "PNG", saved(image, "PNG", compress_level=1)
    for factor in (0.5, 0.7, 0.9, 0.95):
        size = tuple(round(factor * side) for side in image.size)
        for kernel in (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR):
            yield f"resized {factor}, JPEG 85", saved(image.resize(size, kernel), quality=85)
    for fraction in (0.01, 0.02, 0.05, 0.1):
        yield (
            f"cropped {fraction:.0%} of each side, JPEG 90",
            saved(cropped(image, fraction, rng), quality=90),
        )


def frame(scene: np.ndarray, variance: float, rng: np.random.Generator) -> Image.Image:
    """A SIMULATED frame of a scene that does not move."""
    noise = rng.normal(size=scene.shape) * np.sqrt(variance * (0.15 + 0.85 * scene / 255))
    return Image.fromarray(np.clip(np.rint(scene + noise), 0, 255).astype(np.uint8))


def alike(one: Seen, other: Seen) -> bool:
    """Whether two files are put into one group."""
    return look_alike(one[0], other[0], one_size=one[1] == other[1])


def same(one: Seen, other: Seen) -> bool:
    """Whether two files, whose EXIF agrees, are taken for one photo."""
    if one[1] == other[1]:
        return better_saved(one[0], other[0]) is not None
    whole, part = sorted((one, other), key=lambda seen: -seen[1][0] * seen[1][1])
    return is_part(whole[0], part[0], whole[1], part[1])


def judge(paths: list[Path], seed: int = 0) -> dict[str, list[tuple[bool, bool]]]:
    """Of every kind of pair whether each is the same photo, and whether they look alike."""
    rng, found = np.random.default_rng(seed), {}
    for path in paths:
        data = path.read_bytes()
        original, image = look_of(data), Image.open(io.BytesIO(data)).convert("RGB")

        def add(kind: str, one: Seen, other: Seen) -> None:
            found.setdefault(kind, []).append((same(one, other), alike(one, other)))

        for kind, changed in changes(image, rng):
            add(kind, original, look_of(changed))
        # Of a whole photo its corner stands for it here: noise takes its time.
        scene = np.asarray(image, np.float32)[:1536, :2048]
        for name, variance in NOISE.items():
            frames = [frame(scene, variance, rng) for _ in range(2)]
            first = look_of(saved(frames[0], quality=95))
            for quality in QUALITIES:
                kind = f"SIMULATED tripod, {name} noise, JPEG 95 and {quality}"
                add(kind, first, look_of(saved(frames[1], quality=quality)))
        first = look_of(saved(frame(scene, NOISE["low"], rng), quality=95))
        moved, brighter = np.roll(scene, 1, axis=1), scene * 1.02
        for what, changed in (("1 pixel apart", moved), ("2 % brighter", brighter)):
            other = frame(changed, NOISE["low"], rng)
            for quality in (50, 95):
                kind = f"SIMULATED frames, {what}, low noise, JPEG 95 and {quality}"
                add(kind, first, look_of(saved(other, quality=quality)))
    return found


def others(paths: list[Path]) -> dict[str, list[tuple[bool, bool]]]:
    """The same of photos that differ: all pairs of one folder, and others alike only."""
    looks = [look_of(path.read_bytes()) for path in paths]
    photo = [path.stem.split("_")[0] for path in paths]
    small = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        small.append(look_of(saved(image.resize((230, 230)), quality=90)))
    found: dict[str, list[tuple[bool, bool]]] = {}
    for i, j in itertools.combinations(range(len(paths)), 2):
        if photo[i] == photo[j]:
            continue
        kind = "another photo of the camera"
        if paths[i].parent == paths[j].parent:
            value = same(looks[i], looks[j]), alike(looks[i], looks[j])
            found.setdefault(kind, []).append(value)
            value = same(looks[i], small[j]), alike(looks[i], small[j])
            found.setdefault(kind + ", resized 0.9", []).append(value)
        else:
            value = False, alike(looks[i], looks[j])
            found.setdefault("a photo of another camera (alike only)", []).append(value)
    return found


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=2865)
    args = parser.parse_args()
    windows = sorted(args.data.glob("photos/*/*.jpg"))
    chosen = np.random.default_rng(1).permutation(len(windows))[: args.windows]
    whole = sorted(args.data.glob("full/photos/*.jpg"))
    tables = {
        f"windows of 256x256, {len(chosen)}": lambda: judge([windows[i] for i in chosen]),
        "different photos": lambda: others(windows[: args.pairs]),
        f"whole photos, {len(whole)}": lambda: judge(whole),
    }
    for title, make in tables.items():
        found = make()
        print(f"\n| {title} | pairs | one photo | alike |\n|---|---|---|---|")
        for kind, values in found.items():
            merged, grouped = np.mean(values, axis=0)
            print(f"| {kind} | {len(values)} | {merged:.2%} | {grouped:.2%} |", flush=True)


if __name__ == "__main__":
    main()
