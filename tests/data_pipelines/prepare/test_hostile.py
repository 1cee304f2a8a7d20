import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_pipelines.prepare.isolation import GuardedReader
from data_pipelines.prepare.options import REASONS, Options
from data_pipelines.prepare.reader import PreparedPhoto, Reject, read_photo
from data_pipelines.prepare.run import prepare
from data_pipelines.records import open_records
from data_pipelines.sources import Item
from tests.fuzzing.bombs import BOMBS
from tests.fuzzing.files import EXPECTED, KINDS, hostile_files
from tests.fuzzing.memory import MemoryWatch
from tests.fuzzing.seeds import crafted_photo, crafted_seeds, encode

# Limits that bombs run into soon. Files that differ in their EXIF alone are no copies here.
STRICT = Options(
    reject=("damaged_exif", "exif_too_large", "no_exif", "no_tags", "not_a_camera"),
    max_pixels=20_000_000,
    seconds_per_file=5.0,
    memory_per_file=1024,
)
SMALL = Options(reject=(), max_pixels=1_000_000)


def check_all_accounted_for(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Prepares files with two workers; returns the reasons of those rejected."""
    photos = folder / "photos"
    photos.mkdir()
    for name, data in files.items():
        (photos / name).write_bytes(data)
    with MemoryWatch(os.getpid()) as memory:
        report = prepare([photos], folder / "out", STRICT, workers=2)
    records = open_records(folder / "out")
    used = {
        source[i]["path"]
        for source in map(records.source, records.splits)
        for i in range(len(source))
    }
    lines = map(json.loads, (folder / "out" / "rejects.jsonl").read_text().splitlines())
    rejects = {line["path"]: line["reason"] for line in lines}
    assert not used & rejects.keys()
    assert used | rejects.keys() == files.keys()
    assert report["num_files"] == len(files)
    assert report["num_photos"] == len(used)
    assert set(rejects.values()) <= REASONS.keys()
    assert len(memory.workers) >= 2
    assert 20 < max(memory.workers.values()) < STRICT.memory_per_file
    return rejects


def named(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    return {f"{i:03d}_{kind}.jpg": data for i, (kind, data) in enumerate(files)}


def test_hostile_files_are_the_same_every_time_and_of_all_kinds() -> None:
    files = list(hostile_files(crafted_seeds(), len(KINDS), seed=7))
    assert [kind for kind, _ in files] == list(KINDS)
    assert files[:40] == list(hostile_files(crafted_seeds(), 40, seed=7))
    assert files[:40] != list(hostile_files(crafted_seeds(), 40, seed=8))


def test_hostile_files_are_in_records_or_rejects(tmp_path: Path) -> None:
    files = named(hostile_files(crafted_seeds(), 250, seed=1))
    good = {f"{i:03d}_good.jpg": encode(crafted_photo(1000 + i), "JPEG") for i in range(0, 250, 25)}
    rejects = check_all_accounted_for(tmp_path, {**files, **good})
    assert not good.keys() & rejects.keys()
    for name in files:
        kind = name[4:].removesuffix(".jpg")
        if kind in EXPECTED:
            assert rejects[name] in EXPECTED[kind], name


def test_hostile_files_grown_from_real_photos(real_data: Path, tmp_path: Path) -> None:
    photos = sorted((real_data / "dev" / "photos").glob("*/*.jpg"))[::20]
    seeds = [path.read_bytes() for path in photos]
    files = named(hostile_files(seeds, 500, seed=2))
    # Those that nothing real went into are in the other test.
    files = {name: data for name, data in files.items() if name[4:-4] not in BOMBS}
    rejects = check_all_accounted_for(tmp_path, dict(list(files.items())[:250]))
    assert 0 < len(rejects) < 250


def test_bombs_are_refused_within_small_limits(tmp_path: Path) -> None:
    with GuardedReader(STRICT) as reader:
        for kind in (
            "png_size",
            "png_zeros",
            "jpeg_size",
            "jpeg_allowed_size",
            "tiff_shared_strips",
        ):
            path = tmp_path / f"{kind}.jpg"
            path.write_bytes(BOMBS[kind](np.random.default_rng(0)))
            result = reader.read(Item(path.name, str(path)))
            assert isinstance(result, Reject), kind
            assert result.reason == "too_many_pixels", kind


def test_a_bomb_within_the_pixels_is_stopped_by_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(BOMBS["png_zeros"](np.random.default_rng(0)))
    options = Options(memory_per_file=512)
    with MemoryWatch(os.getpid()) as memory, GuardedReader(options) as reader:
        result = reader.read(Item(path.name, str(path)))
    assert isinstance(result, Reject)
    assert result.reason == "out_of_memory"
    assert max(memory.workers.values()) < 512


FUZZED = {
    name: encode(crafted_photo(side=256), name, **options)
    for name, options in {"JPEG": {"quality": 80}, "PNG": {}, "TIFF": {}}.items()
}
POSITIONS = st.one_of(st.integers(0, 600), st.integers(0, 2**18))


@st.composite
def mutated(draw: st.DrawFn, seed: bytes) -> bytes:
    """Draws a file with bytes overwritten, taken out and put in."""
    data = bytearray(seed)
    edits = st.tuples(POSITIONS, st.integers(0, 8), st.binary(max_size=8))
    for position, removed, new in draw(st.lists(edits, min_size=1, max_size=8)):
        at = position % (len(data) + 1)
        data[at : at + removed] = new
    return bytes(data[: draw(st.one_of(st.none(), POSITIONS))])


@pytest.mark.parametrize("kind", FUZZED)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_reading_never_raises(kind: str, data: st.DataObject) -> None:
    result = read_photo(data.draw(mutated(FUZZED[kind])), SMALL)
    if isinstance(result, Reject):
        assert result.reason in REASONS
        assert result.detail
    else:
        assert isinstance(result, PreparedPhoto)
        assert result.windows
