"""The page of results: self-contained, escaped, bounded."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data_pipelines.evidence import Evidence
from data_pipelines.items import Item
from exif_jax.detection import page
from exif_jax.detection.detectors import load_detector
from exif_jax.detection.judging import Detection
from exif_jax.detection.results import Results

HOSTILE = "<script>alert(1)</script>\u202e\"'&.jpg"


class Elements(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path, {})


def written(noise_detector, results, tmp_path, paths=()):
    items = {row["path"]: Item(row["path"], str(tmp_path / "absent")) for row in results.rows()}
    items |= {path: Item(path, str(tmp_path / path)) for path in paths}
    page.write_page(tmp_path / "page.html", load_detector(noise_detector), results, items)
    text = (tmp_path / "page.html").read_text()
    return text, Elements(text).found


def test_it_shows_verdicts_pictures_reasons_and_evidence(noise_detector, results, tmp_path):
    Image.fromarray(np.full((30, 900, 3), 99, np.uint8)).save(tmp_path / "a.png")
    Image.new("RGB", (300, 200)).save(tmp_path / "heat.png")
    evidence = (Evidence("generator", "generated", "A tool names itself."),)
    heat = {"heatmap": str(tmp_path / "heat.png"), "regions": {}}
    results.add(Detection("a.png", "generated", 0.9, 0.7, evidence=evidence, **heat))
    results.add(Detection("b.png", "unsure", 0.5, 0.7, probability=0.25, reasons=("too small",)))
    results.add(Detection("c.png", None, None, 0.7, error="no image"))
    text, found = written(noise_detector, results, tmp_path, ["a.png"])
    cards = [attributes for tag, attributes in found if tag == "li" and "data-path" in attributes]
    assert [card["data-verdict"] for card in cards] == ["generated", "unsure", "error"]
    images = [attributes["src"] for tag, attributes in found if tag == "img"]
    assert len(images) == 2  # the thumbnail and the heat map of the first
    assert all(source.startswith("data:image/jpeg;base64,") for source in images)
    for part in ("says generated:", "A tool names itself.", "too small", "no image", "0.250"):
        assert part in text
    assert "photos called generated 1 % [0.4 %, 2.2 %]" in text


def test_nothing_is_loaded_and_names_stay_text(noise_detector, results, tmp_path):
    hostile = Evidence("generator", "generated", HOSTILE)
    results.add(Detection(HOSTILE, "unsure", 0.5, 0.7, reasons=(HOSTILE,), evidence=(hostile,)))
    results.add(Detection(HOSTILE + "2", None, None, 0.7, error=HOSTILE))
    text, found = written(noise_detector, results, tmp_path)
    assert "\u202e" not in text and "\\u202e" in text
    assert [tag for tag, _ in found].count("script") == 1 and "<script>alert" not in text
    for _, attributes in found:
        assert {name for name in attributes if name.startswith("on")} == set()
        assert not attributes.keys() & {"href", "srcset", "action"}
    assert not re.findall(r"(?:src|url)\s*[=(]\s*[\"']?(?!data:)https?:", text)
    policy = next(a["content"] for _, a in found if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_of_many_the_highest_scores_are_shown(noise_detector, results, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "MOST", 3)
    for i, score in enumerate([0.1, 0.9, 0.5, 0.8, 0.2]):
        results.add(Detection(f"{i}.png", "photo", score, 0.7))
    text, found = written(noise_detector, results, tmp_path)
    assert [a["data-path"] for _, a in found if "data-path" in a] == ["1.png", "2.png", "3.png"]
    assert "The 3 of the highest scores" in text and "all 5" in text
