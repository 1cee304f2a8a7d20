"""Kept descriptions: right, shared, never stale, continued after kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import UserError
from data_pipelines.photo_sources import ImageSource
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection import descriptions
from exif_jax.detection.descriptions import Describer
from exif_jax.detection.features import extract_descriptions, extract_features, features_of
from exif_jax.models.extractor import init_extractor

ROOT = Path(__file__).resolve().parents[3]
MODULE = ResidualCovarianceEncoder(features=6).build()
IMAGES = 6


@pytest.fixture
def photos(tmp_path):
    """Files of several sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(IMAGES):
        pixels = rng.integers(256, size=(64 + 50 * index, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return [ImageSource.of_file(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def describer(tmp_path):
    return Describer(MODULE, tmp_path / "kept", threads=2)


def parts(describer):
    """Contents and times of all parts."""
    paths = sorted(describer.folder.glob("*/*"))
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def every(described):
    return np.stack([described.rows(version=v) for v in range(len(described.versions[0]))], axis=1)


def test_kept_descriptions_are_those_of_the_versions(describer, photos):
    described = describer.windows(photos, 3, 5)
    assert every(described).shape == (IMAGES, 4, described.size)
    assert described.rows().dtype == np.float32
    for version in range(4):
        made = [v[version].of(p.read()) for p, v in zip(photos, described.versions, strict=True)]
        direct = extract_descriptions(MODULE, made)
        np.testing.assert_allclose(described.rows(version=version), direct, rtol=1e-5, atol=1e-5)
    params = init_extractor(MODULE, jax.random.key(0))
    made = [v[0].of(p.read()) for p, v in zip(photos, described.versions, strict=True)]
    np.testing.assert_allclose(
        features_of(MODULE, params, described.rows()),
        extract_features(MODULE, params, made),
        rtol=1e-4,
        atol=1e-4,
    )
    assert features_of(MODULE, params, described.rows([])).shape == (0, 6)


def test_texts_are_kept_beside_the_numbers(describer, photos):
    described = describer.windows(photos, 2)
    (lines,) = describer.folder.glob("*/*.jsonl")
    for versions in described.versions:
        for version in versions:
            assert f'"version": "{version.text}"' in lines.read_text()


def test_nothing_is_computed_twice(describer, photos, monkeypatch):
    few = describer.windows(photos[:4], 1)
    before = parts(describer)
    more = describer.windows(photos[::-1], 2)
    assert before.items() <= parts(describer).items()
    rows = sum(len(path.read_text().splitlines()) for path in describer.folder.glob("*/*.jsonl"))
    assert rows == IMAGES * 3
    np.testing.assert_array_equal(every(few), every(more)[::-1][:4, :2])
    monkeypatch.setattr(descriptions, "extract_descriptions", None)  # would be called
    np.testing.assert_array_equal(every(describer.windows(photos[::-1], 2)), every(more))


def test_another_file_seed_preparation_or_encoder_is_another_description(describer, photos):
    first = describer.windows(photos, 1)
    pixels = np.full((80, 80, 3), 9, np.uint8)
    pixels[::2] = 100
    Image.fromarray(pixels).save(photos[2].path)
    second = describer.windows(photos, 1)
    changed = (every(first) != every(second)).any(axis=(1, 2))
    assert changed.tolist() == [False, False, True, False, False, False]
    reseeded = describer.windows(photos, 1, 1)
    np.testing.assert_array_equal(reseeded.rows(), second.rows())
    assert (reseeded.rows(version=1) != second.rows(version=1)).any(axis=1).all()
    prepared = Describer(MODULE, describer.folder, "jpeg:50").windows(photos)
    assert (prepared.rows() != second.rows()).any(axis=1).all()
    assert len(list(describer.folder.iterdir())) == 1
    # What is learned does not matter; another description has another folder.
    Describer(ResidualCovarianceEncoder(features=9).build(), describer.folder).windows(photos)
    assert len(list(describer.folder.iterdir())) == 1

    class Other(type(MODULE)):
        @property
        def description_name(self):
            return "other"

    Describer(Other(), describer.folder).windows(photos[:1])
    assert len(list(describer.folder.iterdir())) == 2


def test_whole_images_and_at_most_some_patches(describer, photos):
    described, images = describer.whole(photos), [photo.read() for photo in photos]
    direct = extract_descriptions(MODULE, images)
    np.testing.assert_allclose(described.rows(), direct, rtol=1e-5, atol=1e-5)
    limited = extract_descriptions(MODULE, images, limit=1)
    np.testing.assert_allclose(describer.whole(photos, 1).rows(), limited, rtol=1e-5, atol=1e-5)
    assert (limited[-1] != direct[-1]).any()


def test_unreadable_files_are_told_and_tried_again(describer, photos):
    broken, good = Path(photos[1].path), Path(photos[1].path).read_bytes()
    broken.write_bytes(good[:200])
    Path(photos[4].path).unlink()
    described = describer.windows(photos, 1)
    assert {i: error.reason for i, error in described.errors.items()} == {
        1: "undecodable",
        4: "unreadable",
    }
    assert described.readable.tolist() == [0, 2, 3, 5] and len(described.rows()) == 4
    row, error = described.draw(4, np.random.default_rng(0))
    assert error.reason == "unreadable" and not row.any() and row.shape == (described.size,)
    assert described.sample().shape == (8, described.size)
    broken.write_bytes(good)
    assert list(describer.windows(photos, 1).errors) == [4]


def test_draws_are_of_all_versions(describer, photos):
    described = describer.windows(photos, 2)
    rng = np.random.default_rng(0)
    drawn = {described.draw(3, rng)[0].tobytes() for _ in range(30)}
    assert drawn == {described.row(3, version).tobytes() for version in range(3)}


def test_nothing_readable(describer, tmp_path):
    sources = [ImageSource.of_file(tmp_path / "absent.png")]
    with pytest.raises(UserError, match=r"none of 1 images could be read.*absent\.png"):
        describer.windows(sources)


@pytest.mark.parametrize("damage", ["numbers", "cut", "text"])
def test_a_damaged_part_is_named(damage, describer, photos):
    describer.windows(photos[:2])
    (lines,) = describer.folder.glob("*/*.jsonl")
    numbers = lines.with_suffix(".npy")
    if damage == "numbers":
        numbers.unlink()
    elif damage == "cut":
        numbers.write_bytes(numbers.read_bytes()[:-8])
    else:
        lines.write_text("{}\n" * 2)
    with pytest.raises(UserError, match=rf"{lines.name}: damaged.*delete the two"):
        describer.windows(photos[:2])
    lines.unlink()
    numbers.unlink(missing_ok=True)
    describer.windows(photos[:2])


def test_a_folder_that_cannot_be_made(photos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/x.*cannot keep .*--config\.data\.descriptions"):
        Describer(MODULE, tmp_path / "file" / "x").windows(photos)


SCRIPT = """
import sys
from pathlib import Path
from data_pipelines.photo_sources import ImageSource
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection import descriptions
descriptions._PART_ROWS = 3
write, written = descriptions.write_json_lines, []


def stop_within_the_third(path, rows):
    if len(written) == 2:
        print("killed here", flush=True)
        input()
    written.append(write(path, rows))


descriptions.write_json_lines = stop_within_the_third
photos = [ImageSource.of_file(path) for path in sorted(Path(sys.argv[1]).iterdir())]
module = ResidualCovarianceEncoder().build()
descriptions.Describer(module, Path(sys.argv[2])).windows(photos, 5)
"""


def test_continued_after_a_kill(photos, tmp_path, monkeypatch):
    killed = Describer(MODULE, tmp_path / "killed")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, Path(photos[0].path).parent, killed.folder],
        cwd=ROOT,
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "killed here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    complete = {path for path in parts(killed) if path.suffix == ".jsonl"}
    complete |= {path.with_suffix(".npy") for path in complete}
    before = {path: kept for path, kept in parts(killed).items() if path in complete}
    monkeypatch.setattr(descriptions, "_PART_ROWS", 3)
    continued = killed.windows(photos, 5)
    assert before.items() <= parts(killed).items()
    assert len(before) == 4  # and the numbers of a third part, which nothing names
    whole = Describer(MODULE, tmp_path / "whole").windows(photos, 5)
    np.testing.assert_array_equal(every(continued), every(whole))
