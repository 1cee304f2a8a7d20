"""The detectors that come with the package are found by name."""

import shutil

import pytest

import exif_jax
from data_pipelines.errors import UserError
from exif_jax.detection import shipped


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_the_default_and_others_are_found_by_name(folder, noise_detector):
    for name in ("one_class", "binary"):
        shutil.copytree(noise_detector, folder / name)
    assert exif_jax.load_detector().name == exif_jax.load_detector("binary").name == "binary"
    assert exif_jax.load_detector("one_class").name == "one_class"
    with pytest.raises(UserError, match=r"^moon: no such .*; shipped are binary, one_class$"):
        exif_jax.load_detector("moon")


def test_a_folder_of_the_same_name_is_given_with_its_path(folder, noise_detector, monkeypatch):
    shutil.copytree(noise_detector, folder / "binary")
    monkeypatch.chdir(folder.parent)
    shutil.copytree(noise_detector, folder.parent / "binary")
    assert shipped.find_detector("binary") == folder / "binary"
    given = shipped.find_detector("./binary")
    assert given.resolve() == (folder.parent / "binary").resolve()


def test_without_one_the_remedy_is_told(folder):
    with pytest.raises(UserError, match=r"no detector is shipped .*--detector RUN/detector"):
        exif_jax.load_detector()
    with pytest.raises(UserError, match="none is shipped"):
        exif_jax.load_detector("binary")
