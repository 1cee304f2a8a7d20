"""Local processes, Apache Beam and tensorflow-datasets give the same records."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.errors import UserError
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.run import prepare
from data_pipelines.records import open_records

MakePhoto = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[3]
OPTIONS = Options(validation_fraction=0.1)


@pytest.fixture(scope="module")
def needs_beam() -> None:
    pytest.importorskip("apache_beam", reason="the optional Apache Beam is not installed")


@pytest.fixture
def photos(tmp_path: Path, make_photo: MakePhoto) -> Path:
    """Twenty photos, and two files that are none."""
    for i in range(20):
        make_photo(f"photos/{i:02}.jpg", seed=i, time=f"2022:05:01 {i:02}:00:00", size=(600, 300))
    (tmp_path / "photos/empty.jpg").touch()
    (tmp_path / "photos/text.jpg").write_text("text")
    return tmp_path / "photos"


def records_of(out: Path) -> dict[str, list[str]]:
    records = open_records(out)
    return {split: [repr(raw) for raw in records.source(split)] for split in records.splits}


def command(photos: Path, out: Path, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "exif_jax.cli", "prepare", str(photos), "--out", str(out)]
    return [*start, *arguments]


@pytest.mark.usefixtures("needs_beam")
def test_beam_gives_the_same_records_also_after_an_interruption(
    photos: Path, tmp_path: Path
) -> None:
    report = prepare([photos], tmp_path / "local", OPTIONS)
    beam = ["--runner", "DirectRunner", "--direct_num_workers=2"]
    run = subprocess.run(
        command(photos, tmp_path / "beam", *beam), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    # A run that was stopped after some parts: as its directory looks then.
    stopped = tmp_path / "stopped"
    kept = interrupted_copy(photos, tmp_path, stopped)
    again = subprocess.run(command(photos, stopped, *beam), capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert not kept.exists()
    for out in (tmp_path / "beam", stopped):
        assert json.loads((out / "tag_report.json").read_text()) == report
        assert records_of(out) == records_of(tmp_path / "local")
        for name in ("rejects.jsonl", "targets.json", "prepare.json"):
            assert (out / name).read_text() == (tmp_path / "local" / name).read_text()


def interrupted_copy(photos: Path, tmp_path: Path, out: Path) -> Path:
    """Kills a Beam run after its first part."""
    code = (
        "import os, sys\n"
        "from data_pipelines.prepare import parts\n"
        "write = parts.write_text\n"
        "def kill_after_rows(path, text):\n"
        "    write(path, text)\n"
        "    if path.name.endswith('.rows'):\n"
        "        os._exit(9)\n"
        "parts.write_text = kill_after_rows\n"
        "from exif_jax.cli.__main__ import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = command(photos, out, "--runner", "DirectRunner")[3:]
    killed = subprocess.run([sys.executable, "-c", code, *arguments], check=False)
    assert killed.returncode == 9
    (rows,) = out.glob("unfinished/parts/*.rows")
    assert not list(out.glob("*array_record*"))
    return rows


@pytest.mark.usefixtures("needs_beam")
def test_beams_own_options_are_checked(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--frobnicate: no option of"):
        prepare([photos], out, runner="DirectRunner", beam_arguments=["--frobnicate=3"])
    with pytest.raises(UserError, match="--direct_num_workers"):
        prepare([photos], out, runner="DirectRunner", beam_arguments=["--direct_num_workers=x"])
    with pytest.raises(UserError, match="--runner NoRunner"):
        prepare([photos], out, runner="NoRunner")
    assert not out.exists()
    run = subprocess.run(
        command(photos, out, "--frobnicate=3"), capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "--frobnicate=3: unknown option" in run.stderr


def test_without_beam_the_remedy_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "data_pipelines.prepare.beam_engine", None)
    with pytest.raises(UserError, match=r"pip install 'exif-jax\[beam\]'"):
        prepare([photos], tmp_path / "out", runner="DirectRunner")


def check_built(version: Path, local: Path, report: dict[str, Any]) -> None:
    """Checks that tensorflow-datasets made the records of `exif-jax prepare`, in its own order."""
    built, expected = records_of(version), records_of(local)
    assert built.keys() == expected.keys()
    for split, rows in expected.items():
        assert sorted(built[split]) == sorted(rows)
    assert json.loads((version / "tag_report.json").read_text()) == report
    assert not list(version.parents[1].glob(".photo*"))  # parts are gone
    data = tfds.builder_from_directory(version).as_data_source()
    assert data["train"][0]["image"].shape == (256, 256, 3)


@pytest.mark.parametrize("beam_options", ["", "runner='DirectRunner'"])
def test_the_tfds_builder_gives_the_same_records(
    photos: Path, tmp_path: Path, beam_options: str, request: pytest.FixtureRequest
) -> None:
    if beam_options:
        request.getfixturevalue("needs_beam")
    report = prepare([photos], tmp_path / "local", OPTIONS)
    beam = "from apache_beam.options.pipeline_options import PipelineOptions as P\n"
    code = (
        f"{beam if beam_options else ''}"
        "import tensorflow_datasets as tfds\n"
        "from data_pipelines.exif_photos.exif_photos_dataset_builder import Builder\n"
        f"options = {f'P({beam_options})' if beam_options else None}\n"
        f"config = tfds.download.DownloadConfig(manual_dir={str(photos)!r}, beam_options=options)\n"
        f"builder = Builder(config='photo', data_dir={str(tmp_path / 'data')!r})\n"
        "builder.download_and_prepare(download_config=config)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    check_built(tmp_path / "data/exif_photos/photo/2.0.0", tmp_path / "local", report)


def test_tfds_build_on_the_command_line(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="the command tfds needs the optional TensorFlow")
    report = prepare([photos], tmp_path / "local", OPTIONS)
    script = Path(sys.executable).with_name("tfds")
    arguments = ["--manual_dir", photos, "--data_dir", tmp_path / "data", "--config", "photo"]
    subprocess.run(
        [script, "build", ROOT / "data_pipelines/exif_photos", *arguments],
        cwd=tmp_path,
        check=True,
    )
    check_built(tmp_path / "data/exif_photos/photo/2.0.0", tmp_path / "local", report)


def test_records_are_a_tensorflow_datasets_data_set(photos: Path, tmp_path: Path) -> None:
    prepare([photos], tmp_path / "out", OPTIONS)
    moved = shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    data = tfds.builder_from_directory(moved).as_data_source()
    records = open_records(Path(moved))
    for split in records.splits:
        raw = records.source(split)
        assert len(data[split]) == len(raw)
        for i in range(len(raw)):
            np.testing.assert_array_equal(data[split][i]["image"], records.decode(raw[i])["image"])


def object_storage(tmp_path: Path) -> dict[str, str]:
    """Environment in which gs:// is a folder: a file system of fsspec, in every process."""
    folder = tmp_path / "fake_storage"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import fsspec\n"
        "from fsspec.implementations.local import LocalFileSystem\n"
        f"ROOT = {str(tmp_path / 'bucket_root')!r}\n"
        "class Fake(LocalFileSystem):\n"
        "    protocol = ('gs', 'gcs')\n"
        "    @classmethod\n"
        "    def _strip_protocol(cls, path):\n"
        "        path = str(path)\n"
        "        if path.startswith(ROOT):\n"
        "            return path\n"
        "        return ROOT + '/' + path.removeprefix('gs://').strip('/')\n"
        "    def unstrip_protocol(self, name):\n"
        "        return 'gs://' + name.removeprefix(ROOT).strip('/')\n"
        "for name in ('gs', 'gcs'):\n"
        "    fsspec.register_implementation(name, Fake, clobber=True)\n"
    )
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_photos_and_records_may_be_in_object_storage(photos: Path, tmp_path: Path) -> None:
    prepare([photos], tmp_path / "local", OPTIONS)
    environment = object_storage(tmp_path)
    shutil.copytree(photos, tmp_path / "bucket_root/bucket/photos")
    arguments: Any = ["gs://bucket/photos", "gs://bucket/records"]
    run = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert records_of(tmp_path / "bucket_root/bucket/records") == records_of(tmp_path / "local")
    tags = [sys.executable, "-m", "exif_jax.cli", "tags", "gs://bucket/records", "--json"]
    shown = subprocess.run(tags, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout)["num_photos"] == 20
    again = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, check=False
    )
    assert "already made by the same command" in again.stdout
