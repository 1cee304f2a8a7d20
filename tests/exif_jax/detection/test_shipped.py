"""The detectors that come with the package are found by name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import exif_jax
from data_pipelines.errors import UserError
from data_pipelines.images import decode_image
from data_pipelines.perturbations import parse_perturbation
from exif_jax.detection import shipped
from exif_jax.metrics import auroc

pytestmark = pytest.mark.usefixtures("optimised")

ROOT = Path(__file__).resolve().parents[3]


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


SHIPPED = ("binary", "one_class")


def test_what_is_shipped_is_whole_small_and_described():
    assert shipped.shipped_detectors() == sorted(SHIPPED)
    size = 0
    for name in SHIPPED:
        detector = exif_jax.load_detector(name)  # checks the hash
        assert detector.kind == name and detector.verdicts is not None
        assert set(detector.verdicts.rates) == {"photos_called_generated", "generated_called_photo"}
        assert detector.verdicts.stability and detector.verdicts.smallest_side
        card = (shipped.FOLDER / name / "card.md").read_text()
        assert detector.facts["sha256"]["model.safetensors"] in card
        size += sum(path.stat().st_size for path in (shipped.FOLDER / name).iterdir())
    assert size < 10e6
    assert exif_jax.load_detector("binary").verdicts.rule.calibration is not None
    assert exif_jax.load_detector("one_class").heldout_photos > 1000


def numbers(entry):
    low, high = entry["interval"]
    return f"{entry['value']:.3f} [{low:.3f}, {high:.3f}]"


@pytest.mark.parametrize(("name", "row"), [("binary", "binary"), ("one_class", "one-class")])
def test_readme_card_and_results_give_the_same_numbers(name, row):
    folder = ROOT / "experiments" / "results" / "unseen"
    rows = json.loads((folder / "results.json").read_text())["rows"]
    own = next(r for r in rows if r["detector"] == row)
    stated = exif_jax.load_detector(name).facts["cross_validation"]
    texts = [ROOT / "README.md", folder / "results.md", shipped.FOLDER / name / "card.md"]
    for measure in ("AUROC", "matched pairs", "TPR at 1 % FPR"):
        assert stated[measure] == own[measure]
        for path in texts:
            assert numbers(own[measure]) in path.read_text(), (path, measure)


def test_pictures_of_development_are_judged_by_the_shipped_detectors(real_data):
    # Trained on these, so this only shows that what is shipped is what was trained.
    for name in SHIPPED:
        detector = exif_jax.load_detector(name)
        scores = {}
        for kind in ("photos", "generated"):
            found = sorted((real_data / "dev" / kind).rglob("*.*"))[::60]
            prepared = [parse_perturbation("jpeg:90").apply(decode_image(path)) for path in found]
            scores[kind] = detector.score(prepared)
        labels = np.repeat([0, 1], [len(scores["photos"]), len(scores["generated"])])
        least = {"binary": 0.97, "one_class": 0.7}[name]
        assert auroc(np.concatenate(list(scores.values())), labels) > least
        above = detector.verdicts.rule.generated_above
        assert (scores["photos"] > above).mean() <= 0.05
