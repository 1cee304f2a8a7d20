"""One photo in several files counts once, two exposures of one scene are two photos."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipelines.capture_times import ClockTime
from data_pipelines.images import open_image
from data_pipelines.prepare.catalogue import Catalogue, CatalogueBuilder
from data_pipelines.prepare.looks import Look, look_of_pixels
from data_pipelines.prepare.near_copies import (
    NEIGHBOURS,
    better_saved,
    find_near_copies,
    is_part,
    kept_files,
    look_alike,
)
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.reader import PreparedPhoto, read_photo
from data_pipelines.prepare.run import REJECTS_FILE, prepare
from data_pipelines.records import open_records

SIZE = (560, 420)


def scene(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """What a camera that does not move sees: float [H, W, 3], nothing clipped."""
    rng = np.random.default_rng(seed)
    layers = []
    for cells, weight in ((7, 60), (40, 25), (160, 10)):
        small = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        layer = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32)
        layers.append(weight * (layer / 127.5 - 1))
    return np.clip(128 + sum(layers), 25, 230)


def exposure(seed: int, noise: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """One exposure of a scene; `noise` tells it from others."""
    pixels = scene(seed, size)
    grain = np.random.default_rng([seed, noise]).normal(0, 2, pixels.shape)
    return Image.fromarray(np.rint(pixels + grain).clip(0, 255).astype(np.uint8))


def exif(time: str, model: str = "EOS 700D") -> bytes:
    return piexif.dump(
        {
            "0th": {piexif.ImageIFD.Make: "Canon", piexif.ImageIFD.Model: model},
            "Exif": {
                piexif.ExifIFD.DateTimeOriginal: time,
                piexif.ExifIFD.ExposureTime: (1, 60),
                piexif.ExifIFD.ISOSpeedRatings: 200,
            },
        }
    )


def file_of(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def look(data: bytes) -> Look:
    """Read as `exif-jax prepare` reads it."""
    result = read_photo(data, Options(reject=(), windows_per_photo=1))
    assert isinstance(result, PreparedPhoto)
    assert result.look is not None
    return result.look


def taken_at_once(count: int) -> Catalogue:
    """Photos of one camera and time, of equal hashes."""
    builder = CatalogueBuilder()
    for i in range(count):
        names = ("place", "digest", "num_windows", "size_differs", "offset")
        builder.add_photo(
            **dict.fromkeys(names, 0),
            **{"photo": i, "file": i, "width": 560, "height": 420, "look": 12345, "timed": True},
            camera="Canon EOS 700D",
            time=ClockTime(0.0),
            values={"ISO": 100.0},
            windows=[],
            skipped_windows={},
        )
    return builder.build()


T1, T2, T3 = (f"202{year}:05:01 10:00:00" for year in (1, 2, 3))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo with near copies, frames of a tripod, copies of another camera's, and others."""
    folder = tmp_path_factory.mktemp("near") / "photos"
    folder.mkdir()
    original = file_of(exposure(0), quality=92, exif=exif(T1))
    decoded = Image.open(io.BytesIO(original))
    files = {
        "a_again.jpg": file_of(decoded, quality=60, subsampling=0, exif=exif(T1)),
        "a_crop.jpg": file_of(decoded.crop((9, 7, 545, 413)), quality=90, exif=exif(T1)),
        "a_fine.jpg": file_of(decoded, quality=99, exif=exif(T1)),
        "a_lossless.png": file_of(decoded, "PNG", exif=exif("0000:00:00 00:00:00")),
        "a_original.jpg": original,
        "a_small.jpg": file_of(decoded.resize((392, 294)), quality=90, exif=exif(T1)),
        "b_frame0.jpg": file_of(exposure(1, 0), quality=92, exif=exif(T2)),
        "b_frame1.jpg": file_of(exposure(1, 1), quality=92, exif=exif(T2)),
        "c_here.jpg": file_of(exposure(2), quality=92, exif=exif(T2, "EOS 80D")),
        "c_later.jpg": file_of(exposure(2), quality=80, exif=exif(T3, "EOS 80D")),
        "d.jpg": file_of(exposure(3), quality=92, exif=exif(T3)),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def prepared(photos: Path) -> tuple[Path, Mapping[str, Any]]:
    out = photos.with_name("out")
    options = Options(windows_per_photo=1, validation_fraction=0.4)
    return out, prepare([photos], out, options, workers=1)


def groups_in(out: Path) -> set[frozenset[str]]:
    records, groups = open_records(out), {}
    for split in records.splits:
        columns = records.columns(split)
        for path, group in zip(columns.path, columns.group, strict=True):
            groups.setdefault((split, int(group)), set()).add(path)
    return set(map(frozenset, groups.values()))


def test_the_best_file_of_a_photo_is_kept_and_named(
    prepared: tuple[Path, Mapping[str, Any]],
) -> None:
    out, report = prepared
    assert report["rejects"] == {"near_duplicate": 5}
    rows = [json.loads(line) for line in (out / REJECTS_FILE).read_text().splitlines()]
    names = ["again", "crop", "fine", "lossless", "small"]
    assert [row["path"] for row in rows] == [f"a_{name}.{_suffix(name)}" for name in names]
    assert all("a_original.jpg" in row["detail"] for row in rows)


def _suffix(name: str) -> str:
    return "png" if name == "lossless" else "jpg"


def test_exposures_of_one_scene_are_kept_and_what_looks_alike_is_one_group(
    prepared: tuple[Path, Mapping[str, Any]],
) -> None:
    out, report = prepared
    assert groups_in(out) == {
        frozenset({"a_original.jpg"}),
        frozenset({"b_frame0.jpg", "b_frame1.jpg"}),
        frozenset({"c_here.jpg", "c_later.jpg"}),
        frozenset({"d.jpg"}),
    }
    assert report["num_alike"] == 4
    assert report["shared"]["num_groups"] == 0


def test_near_copies_may_be_kept_and_are_on_one_side(photos: Path, tmp_path: Path) -> None:
    reject = tuple(set(Options().reject) - {"near_duplicate"})
    options = Options(windows_per_photo=1, validation_fraction=0.4, reject=reject)
    report = prepare([photos], tmp_path / "out", options, workers=2)
    assert report["rejects"] == {}
    assert frozenset(p.name for p in photos.glob("a_*")) in groups_in(tmp_path / "out")


def test_workers_and_interruptions_change_nothing(
    photos: Path, prepared: tuple[Path, Mapping[str, Any]], tmp_path: Path
) -> None:
    options = Options(windows_per_photo=1, validation_fraction=0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipelines.prepare.run.find_near_copies", None)  # all read, then it ends
        with pytest.raises(TypeError):
            prepare([photos], tmp_path / "out", options, workers=2)
    assert prepare([photos], tmp_path / "out", options, workers=2) == prepared[1]
    for name in (REJECTS_FILE, "tag_report.json"):
        assert (tmp_path / "out" / name).read_bytes() == (prepared[0] / name).read_bytes()
    assert groups_in(tmp_path / "out") == groups_in(prepared[0])


@pytest.mark.parametrize("quality", [50, 75, 90, 95])
def test_a_photo_saved_anew_is_told_from_another_exposure(quality: int) -> None:
    first = file_of(exposure(5), quality=97)
    again = look(file_of(Image.open(io.BytesIO(first)), quality=quality, subsampling=0))
    assert better_saved(look(first), again) == 0
    assert better_saved(again, look(first)) == 1
    other = look(file_of(exposure(5, 1), quality=quality, subsampling=0))
    assert look_alike(look(first), other, one_size=True)
    assert better_saved(look(first), other) is None


def test_what_a_file_was_made_from_is_better_whatever_the_size_of_the_files() -> None:
    coarse = file_of(exposure(6), quality=70)
    decoded = Image.open(io.BytesIO(coarse))
    for made in (file_of(decoded, quality=100, subsampling=0), file_of(decoded, "PNG")):
        assert len(made) > len(coarse)
        assert better_saved(look(made), look(coarse)) == 1
    lossless = file_of(exposure(6), "PNG")
    assert better_saved(look(lossless), look(coarse)) == 0
    smaller = look(file_of(exposure(6), quality=70, optimize=True))
    assert better_saved(smaller, look(coarse)) == 1  # equal steps: the larger file
    assert better_saved(look(coarse), look(coarse)) == 0


def test_flat_photos_are_never_the_same() -> None:
    black = [look_of_pixels(open_image(file_of(Image.new("RGB", SIZE), "PNG")), 9) for _ in "ab"]
    assert better_saved(*black) is None
    assert not look_alike(*black, one_size=True)


def test_resized_and_cropped_photos_are_told_from_others() -> None:
    whole, other = look(file_of(exposure(7), quality=92)), exposure(8)
    image = exposure(7)
    for size in ((448, 336), (532, 399)):
        part = look(file_of(image.resize(size), quality=85))
        assert is_part(whole, part, SIZE, size)
        assert not is_part(whole, look(file_of(other.resize(size), quality=85)), SIZE, size)
    box = (20, 3, 550, 411)
    size = (box[2] - box[0], box[3] - box[1])
    assert is_part(whole, look(file_of(image.crop(box), quality=90)), SIZE, size)
    assert not is_part(whole, look(file_of(other.crop(box), quality=90)), SIZE, size)


def test_work_grows_with_the_number_of_photos_however_many_are_alike() -> None:
    catalogue = taken_at_once(300)
    seen = []
    flat = np.full((32, 32), 128.0)
    same = Look.of(flat, 0 * flat, step=1, coded=1)
    found = find_near_copies(catalogue, lambda file: seen.append(file) or same)
    assert len(seen) <= 2 * 300 * NEIGHBOURS
    assert len(found.same) == len(found.pairs) == len(seen) // 2
    assert len(kept_files(found.same)) > 280


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=40))
def test_every_file_that_goes_has_a_better_one_that_stays(pairs: list[tuple[int, int]]) -> None:
    same = np.array([pair for pair in pairs if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    gone = dict(kept_files(same).tolist())
    known = set(map(tuple, same.tolist()))
    stay = set(same.ravel().tolist()) - gone.keys()
    for file, kept in gone.items():
        assert kept in stay
        assert (file, kept) in known
    if all(worse > better for worse, better in known):  # no circles
        assert not any(worse in stay and better in stay for worse, better in known)
