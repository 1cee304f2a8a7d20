import html
import re
from html.parser import HTMLParser
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from data_pipelines.prepare.catalogue import CatalogueBuilder
from data_pipelines.prepare.options import REASONS
from data_pipelines.prepare.report.html import amount, el, percent, printable
from data_pipelines.prepare.report.page import REMEDIES, render_page
from data_pipelines.prepare.report.plots import _squarify, format_value
from data_pipelines.prepare.report.tag_report import Report, build_report, format_report
from data_pipelines.prepare.report.tags import TAG_MEANINGS
from data_pipelines.tags import TAGS
from data_pipelines.targets import build_targets

EVIL = "<script>alert('x')</script>\"'><img src=http://evil.example/x onerror=alert(1)>"
SIDECARS = {
    "files": [{"path": EVIL, "kind": EVIL, "num_entries": 5, "num_matched": 4}],
    "num_unmatched": 1234,
    "unmatched": [EVIL],
}
_VOID = {"meta", "rect", "line", "wbr"}


def make_report(
    photos: list[dict[str, Any]],
    rejects: list[tuple[str, str, str]],
    held: list[bool],
    sidecars: dict[str, Any] | None = None,
) -> Report:
    builder = CatalogueBuilder()
    for i, values in enumerate(photos):
        builder.add_photo(
            photo=i,
            camera=str(values.get("Model", "")),
            seconds=None,
            digest=0,
            num_windows=i % 3,
            size_differs=i % 4 == 0,
            part=0,
            values=values,
            skipped_windows={"flat": i % 2},
        )
    for reason, name, detail in rejects:
        builder.add_reject(reason, name, detail, {"clipped": 1})
    return build_report(
        builder.build(),
        build_targets([{"ISO": 1.0}, *photos]),
        group=np.arange(len(photos)) // 2,
        heldout=np.array(held, bool),
        sidecars=sidecars,
    )


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
    return make_report(photos, [*rejects, (EVIL, "a", "b")], [i < 10 for i in range(100)], SIDECARS)


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
    report = make_report([{"Make": "\u202eA\x00"}], [("no_exif", "\udcff\x1b.jpg", "")], [False])
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
    assert TAG_MEANINGS.keys() == {tag.name for tag in TAGS}
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
    for name, tag in REPORT["tags"].items():
        for edge in tag.get("histogram", {}).get("edges", []):
            assert format_value(name, edge, tag["unit"]) in text


def test_bars_of_a_histogram_lie_in_the_picture_in_order() -> None:
    bars = [a for name, a in _Checker(PAGE).elements if a.get("class") == "hist"]
    assert bars
    for bar in bars:
        left, top, width, height = (
            float(bar[key] or "nan") for key in ("x", "y", "width", "height")
        )
        assert left >= 40
        assert left + width <= 360
        assert top >= 0
        assert height > 0


@pytest.mark.parametrize("photos", [[], [{}], [{"ISO": 100.0}], [{"Make": "A"}] * 3])
def test_little_is_no_error(photos: list[dict[str, Any]]) -> None:
    _Checker(render_page(make_report(photos, [], [False] * len(photos)), "t"))
    _Checker(render_page(make_report(photos, [], [True] * len(photos)), "t"))


def test_splits_are_judged() -> None:
    photos = [{"Model": f"M {i // 2}"} for i in range(8)]
    clean = _text(render_page(make_report(photos, [], [i < 2 for i in range(8)]), "t"))
    assert "✓ No group is in both" in clean
    assert "✓ No camera model is in both" in clean
    leak = _text(render_page(make_report(photos, [], [i < 1 for i in range(8)]), "t"))
    assert "✗ 1 group in both" in leak
    assert "1 camera model in both. That is normal" in leak


_NUMBERS = {
    "FNumber": (0.5, 128),
    "ExposureTime": (1e-6, 3600),
    "ISO": (1, 1e7),
    "FocalLength": (0.5, 5000),
    "MaxApertureValue": (-2, 14),
    "ExposureBiasValue": (-10, 10),
    "BrightnessValue": (-20, 20),
}
_PHOTO = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.floats(*limits) for name, limits in _NUMBERS.items()},
        "Make": st.text(max_size=8),
        "Model": st.text(max_size=8),
        "Flash": st.sampled_from(["fired", "not_fired", "odd"]),
    },
)
_REJECT = st.tuples(st.sampled_from(list(REASONS)), st.text(max_size=8), st.text(max_size=8))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_PHOTO, st.booleans()), max_size=8), st.lists(_REJECT, max_size=4))
def test_any_catalogue_gives_a_page(
    photos: list[tuple[dict[str, Any], bool]], rejects: list[tuple[str, str, str]]
) -> None:
    report = make_report([values for values, _ in photos], rejects, [held for _, held in photos])
    for tag in report["tags"].values():
        assert sum(tag.get("histogram", {"counts": [tag["num"]]})["counts"]) == tag["num"]
    assert sum(n for m in report["makes_models"].values() for n in m.values()) == len(photos)
    _Checker(render_page(report, "t"))
    format_report(report).encode()


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.floats(0.2, 5))
def test_areas_of_the_map_fill_it_in_proportion(sizes: list[int], aspect: float) -> None:
    sizes.sort(reverse=True)
    areas = np.array(_squarify(sizes, aspect))
    np.testing.assert_allclose(areas[:, 2] * areas[:, 3], np.array(sizes) / sum(sizes), rtol=1e-5)
    assert areas.min() >= -1e-9
    assert (areas[:, :2] + areas[:, 2:]).max() <= 1 + 1e-6


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("FNumber", 2.8, "f/2.8"),
        ("ExposureTime", 1 / 60, "1/60 s"),
        ("ExposureTime", 2.5, "2.5 s"),
        ("ISO", 12800.0, "12,800"),
        ("FocalLength", 50.0, "50 mm"),
        ("ExposureBiasValue", -1e-17, "0 EV"),
    ],
)
def test_values_are_written_as_photographers_do(name: str, value: float, shown: str) -> None:
    unit = next(tag.unit for tag in TAGS if tag.name == name)
    assert format_value(name, value, unit) == shown


def test_pieces() -> None:
    assert el("td", "<", class_="n", id_=None) == '<td class="n">&lt;</td>'
    assert el("p", el("b", "x"), " & ", None) == "<p><b>x</b> &amp; </p>"
    assert (amount(1, "photo"), amount(2000, "photo")) == ("1 photo", "2,000 photos")
    assert [percent(n, 5000) for n in (0, 1, 2500, 4999, 5000)] == [
        "0%",
        "<0.1%",
        "50.0%",
        ">99.9%",
        "100%",
    ]
    assert percent(0, 0) == "-"
    assert printable("é\t\x9b") == "é\\t\\x9b"
