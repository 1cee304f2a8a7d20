import html
import json
import re
from html.parser import HTMLParser
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from data_pipelines.prepare.options import REASONS
from data_pipelines.prepare.report.columns import KINDS
from data_pipelines.prepare.report.page import REMEDIES, TAG_MEANINGS, render_page
from data_pipelines.prepare.report.plots import HEIGHT, WIDTH, histogram
from data_pipelines.prepare.report.tag_report import Report, format_report
from data_pipelines.prepare.report.text import format_value
from data_pipelines.tags import TAGS
from data_pipelines.targets import Target
from tests.data_pipelines.prepare.report.reports import report_of

EVIL = "<script>alert('x')</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
SIDECARS = {
    "files": [{"path": EVIL, "kind": EVIL, "num_entries": 5, "num_matched": 4}],
    "num_unmatched": 1234,
    "unmatched": [EVIL],
}
_VOID = {"meta", "path", "wbr"}
NUMBERS = {
    "FNumber": (0.5, 128),
    "ExposureTime": (1e-6, 3600),
    "ISO": (1, 1e7),
    "FocalLength": (0.5, 5000),
    "MaxApertureValue": (-2, 14),
    "ExposureBiasValue": (-10, 10),
    "BrightnessValue": (-20, 20),
}


def _example() -> Report:
    photos: list[dict[str, Any]] = [
        {
            "Make": EVIL if i % 3 else "Canon",
            "Model": f"{EVIL} {i % 20}",
            "ExposureTime": 2.0 ** -(i % 14),
            "FNumber": 1.4 * 2.0 ** (i % 7 / 2),
            "ISO": 50.0 * 2 ** (i % 8),
            "ExposureBiasValue": i % 5 / 3 - 1,
            "Flash": "fired",
        }
        for i in range(100)
    ]
    rejects = [(reason, f"{EVIL}{i}", EVIL) for i in range(2) for reason in REASONS]
    return report_of(
        photos, [*rejects, (EVIL, "a", "b")], held=range(10), differing=25, sidecars=SIDECARS
    )


REPORT = _example()
PAGE = render_page(REPORT, f"Tags {EVIL}")


class _Checker(HTMLParser):
    """Collects elements, attributes and text, and checks that elements are closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names)
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _text(page: str) -> str:
    return " ".join("".join(_Checker(page).texts).split())


def test_it_is_well_formed_and_ids_are_unique() -> None:
    elements = _Checker(PAGE).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {attributes["href"] for name, attributes in elements if name == "a"}
    assert links == {f"#{name}" for name in ids}


def test_nothing_is_loaded_and_nothing_runs() -> None:
    elements = _Checker(PAGE).elements
    forbidden = {"script", "img", "iframe", "link", "object", "embed", "base", "form", "video"}
    assert forbidden.isdisjoint({name for name, _ in elements})
    for name, attributes in elements:
        assert not {"src", "srcset", "xlink:href", "action", "data"} & attributes.keys()
        assert not any(key.startswith("on") for key in attributes)
        assert attributes.get("href", "#").startswith("#"), name
    # Names of files may say http:; as text only.
    markup = PAGE.replace(html.escape("src=http://evil.example/x"), "")
    assert not re.search(r"https?:|url\(|@import|javascript:", markup)
    assert "default-src 'none'" in html.unescape(PAGE)


def test_hostile_names_are_text() -> None:
    assert "<script" not in PAGE
    assert "<img" not in PAGE
    text = _text(PAGE)
    for number in (0, 1):
        assert f"{EVIL}{number}" in text
    assert f"Tags {EVIL}" in text


def test_invisible_characters_are_spelled_out() -> None:
    report = report_of([{"Make": "\u202eA\x00"}], [("no_exif", "\udcff\x1b.jpg", "")], held=())
    page = render_page(report, "t")
    page.encode()
    assert "\\u202eA\\x00" in page
    assert "\\udcff\\x1b.jpg" in page
    assert all(c.isprintable() or c == "\n" for c in page)


def test_every_reason_is_explained() -> None:
    assert REMEDIES.keys() == REASONS.keys()
    text = _text(PAGE)
    for reason in REASONS:
        assert reason in text
        assert " ".join(REASONS[reason].split()) in text
        assert REMEDIES[reason] in text


def test_every_tag_is_explained_and_plotted() -> None:
    assert TAG_MEANINGS.keys() <= {tag.name for tag in TAGS}
    assert all(meaning in _text(PAGE) for meaning in TAG_MEANINGS.values())
    labels = [a["aria-label"] or "" for name, a in _Checker(PAGE).elements if name == "svg"]
    assert [label.split()[2].rstrip(":") for label in labels] == [
        name for name, tag in REPORT["tags"].items() if tag["kind"] == "ranked" and tag["num"]
    ]
    assert all(a["role"] == "img" for name, a in _Checker(PAGE).elements if name == "svg")


def test_every_number_is_there() -> None:
    text = _text(PAGE)
    for sentence in REPORT["warnings"]:
        assert sentence.replace("`", "") in text
    for split in REPORT["splits"].values():
        assert all(str(n) in text for n in split.values())
    assert "100 photos in the records + " in text
    assert "1,234" in text
    for tag in REPORT["tags"].values():
        for edge in tag.get("histogram", {}).get("edges", []):
            assert format_value(edge, tag["unit"]) in text


def test_what_is_drawn_lies_in_the_picture_and_follows_the_style_sheet() -> None:
    elements = _Checker(PAGE).elements
    paths = [a for name, a in elements if name == "path"]
    bars = [a for a in paths if (a["style"] or "").startswith("fill: var(--bar);")]
    counts = [
        n for tag in REPORT["tags"].values() for n in tag.get("histogram", {}).get("counts", [])
    ]
    assert len(bars) == sum(n > 0 for n in counts)
    for path in paths:
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", path["d"] or "")]
        assert 0 <= min(numbers[::2]) <= max(numbers[::2]) <= WIDTH
        assert 0 <= min(numbers[1::2]) <= max(numbers[1::2]) <= HEIGHT
        # Fixed colours would be lost on a dark page.
        assert "#" not in (path["style"] or "")


def test_the_same_report_gives_the_same_page() -> None:
    assert render_page(REPORT, f"Tags {EVIL}") == PAGE


def test_hostile_texts_of_a_report_are_text_wherever_they_stand() -> None:
    """Also where only a damaged or forged report has a text of someone else's making."""
    report = json.loads(json.dumps(REPORT))
    evil = f"{EVIL}\n\x00$x_1^2$"
    report["tags"] = {f"{evil}{name}": tag for name, tag in report["tags"].items()}
    for tag in report["tags"].values():
        if tag["kind"] == "ranked":
            tag["unit"] = evil
        else:
            tag["classes"] = {f"{evil}{name}": n for name, n in tag["classes"].items()}
    report["splits"][evil] = report["splits"].pop("train")
    report["makes_models"] = {evil: {evil: 3}}
    report["skipped_windows"] = {evil: 1}
    page = render_page(report, evil)
    assert "<script" not in page
    assert "<img" not in page
    assert all(c.isprintable() or c == "\n" for c in page)
    assert _text(page).count(f"{EVIL}\\n\\x00$x_1^2$") > 30


@pytest.mark.parametrize("photos", [[], [{}], [{"ISO": 100.0}], [{"Make": "A"}] * 3])
def test_little_is_no_error(photos: list[dict[str, Any]]) -> None:
    _Checker(render_page(report_of(photos, held=()), "t"))
    _Checker(render_page(report_of(photos, held=range(len(photos))), "t"))


def test_splits_are_judged() -> None:
    photos = [{"Model": f"M {i // 2}"} for i in range(8)]
    clean = _text(render_page(report_of(photos, held=range(2)), "t"))
    assert "✓ No group is in both" in clean
    assert "✓ No camera model is in both" in clean
    leak = _text(render_page(report_of(photos), "t"))
    assert "✗ 1 group in both" in leak
    assert "1 camera model in both. That is normal" in leak


def test_photos_without_a_time_are_told() -> None:
    photos = [{"Model": "M"}] * 8
    report = report_of(photos, untimed=2)
    told = "2 photos (25.0%) have no time in EXIF."
    assert told in _text(render_page(report, "t"))
    del report["num_untimed"]  # earlier versions did not count them
    assert told not in _text(render_page(report, "t"))


_PHOTO = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.floats(*limits) for name, limits in NUMBERS.items()},
        "Make": st.text(max_size=8),
        "Model": st.text(max_size=8),
        "Flash": st.sampled_from(["fired", "not_fired", "odd"]),
    },
)
_REJECT = st.tuples(st.sampled_from(list(REASONS)), st.text(max_size=8), st.text(max_size=8))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(list(NUMBERS)).flatmap(
        lambda name: st.tuples(
            st.just(name), st.lists(st.floats(*NUMBERS[name]), min_size=1, max_size=8)
        )
    )
)
def test_any_values_give_a_histogram_with_all_of_them(column: tuple[str, list[float]]) -> None:
    name, values = column
    tag = KINDS["ranked"](Target(name, "ranked"), np.array([*values, np.nan]), ()).summary()
    assert sum(tag["histogram"]["counts"]) == tag["num"] == len(values)
    elements = _Checker(histogram(name, tag)).elements
    bars = [a for kind, a in elements if (a.get("style") or "").startswith("fill: var(--bar);")]
    assert len(bars) == sum(n > 0 for n in tag["histogram"]["counts"])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(_PHOTO, st.booleans()), max_size=8), st.lists(_REJECT, max_size=4))
def test_any_catalogue_gives_a_page(
    photos: list[tuple[dict[str, Any], bool]], rejects: list[tuple[str, str, str]]
) -> None:
    report = report_of(
        [values for values, _ in photos],
        rejects,
        held=[i for i, (_, held) in enumerate(photos) if held],
    )
    assert sum(n for m in report["makes_models"].values() for n in m.values()) == len(photos)
    _Checker(render_page(report, "t"))
    format_report(report).encode()
