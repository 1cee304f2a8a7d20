"""Files, directories, errors, and hostile content."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.errors import UserError
from data_pipelines.prepare.sidecars import Sidecars, load_sidecars
from data_pipelines.prepare.sidecars.values import APEX, FIELDS, PHOTOGRAPHIC
from data_pipelines.tags import parse_tags


def entry(name, **fields):
    return {"SourceFile": name, **fields}


def test_none():
    assert load_sidecars([], ["a.jpg"]) == Sidecars()
    assert not load_sidecars([], []).coded


def test_directory_with_one_file_a_photo(write, tmp_path):
    for name, own in (("a/IMG_1.json", "?"), ("b/IMG_1.jpg.json", "?"), ("IMG_2.json", "x.CR2")):
        write(name, [entry(own, ISO=len(name))])
    write("notes.txt", "not metadata")
    write("package.json", {"name": "x"})
    names = ["a/IMG_1.jpg", "b/IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg"]
    sidecars = load_sidecars([tmp_path], names)
    isos = {name: e.raw["PhotographicSensitivity"] for name, e in sidecars.entries.items()}
    assert isos == {"a/IMG_1.jpg": 12, "b/IMG_1.jpg": 16, "IMG_2.jpg": 10}
    assert [Path(path).name for path in sidecars.skipped] == ["notes.txt", "package.json"]
    assert [file.num_matched for file in sidecars.files] == [1, 1, 1]


def test_later_entries_fill_in(write):
    paths = [
        write("1.json", [entry("a.jpg", ISO=100), entry("a.jpg", ISO=200, FNumber=2)]),
        write("2.json", [entry("a.jpg", ISO=300, FNumber=3, Make="Canon")]),
    ]
    sidecars = load_sidecars(paths, ["a.jpg"])
    expected = {"PhotographicSensitivity": 100, "FNumber": 2, "Make": "Canon"}
    assert sidecars.entries["a.jpg"].raw == expected
    assert [file.num_matched for file in sidecars.files] == [2, 1]


def test_unmatched_are_counted_and_shown(write):
    many = [entry(f"x{i}.jpg") for i in range(30)]
    sidecars = load_sidecars([write("1.json", [*many, entry("a.jpg"), 5, {}])], ["a.jpg"])
    assert sidecars.num_unmatched == 30
    assert sidecars.unmatched == [f"x{i}.jpg" for i in range(20)]
    assert sidecars.files[0].num_entries == 33


def test_utf16_and_single_object(write):
    text = json.dumps(entry("a.jpg", ISO=100), indent=1)
    for encoding in ("utf-16", "utf-8-sig"):
        sidecars = load_sidecars([write("1.txt", text.encode(encoding))], ["a.jpg"])
        assert sidecars.entries["a.jpg"].raw == {"PhotographicSensitivity": 100}


@pytest.mark.parametrize("text", ["Hornv\xedk".encode("latin-1"), b"\xcf;#\xe0\xba\xdeW\x8b"])
def test_bytes_that_are_no_utf_8_cost_nothing_else(write, text):
    content = b'[{"SourceFile": "a.jpg", "Caption": "%s", "Model": "X  ", "FNumber": 2.8}]' % text
    sidecars = load_sidecars([write("1.json", content)], ["a.jpg"])
    assert sidecars.entries["a.jpg"].raw == {"Model": "X", "FNumber": 2.8}


def test_a_takeout_s_sidecars_are_skipped_and_listed(write, tmp_path):
    taken = {"timestamp": "1653738315"}
    write("b.jpg.supplemental-metadata.json", {"title": "b.jpg", "photoTakenTime": taken})
    write("a.json", [entry("a.jpg", FNumber=2.8)])
    sidecars = load_sidecars([tmp_path], ["a.jpg", "b.jpg"])
    assert list(sidecars.entries) == ["a.jpg"]
    skipped = [Path(path).name for path in sidecars.skipped]
    assert skipped == ["b.jpg.supplemental-metadata.json"]


@pytest.mark.parametrize("name", ["1.json", "1.txt"])
@pytest.mark.parametrize(
    "content",
    ["[", "[1 2]", '[{"SourceFile": "a.jpg"}', "{1: 2}", '{"a": 1,}', "[1] x", "[" * 100_000,
     '{"a":' * 100_000, "[1,]", "{'a': 1}", r'[{"SourceFile": "a.jpg", "\."": "x"}]'],
)  # fmt: skip
def test_not_json(write, name, content):
    with pytest.raises(UserError, match=rf"{name}: not readable as JSON \("):
        load_sidecars([write(name, content)], ["a.jpg"])


@pytest.mark.parametrize("content", ["", "hello", "1\t2", "[]", "{}", "[1]", "123\tdune:0.5", "\0"])
def test_unknown_kind(write, content):
    with pytest.raises(UserError, match=r"not a known kind of metadata; known are .*YFCC100M"):
        load_sidecars([write("1.txt", content)], ["a.jpg"])


def test_missing_paths_and_empty_directories(tmp_path, write):
    with pytest.raises(UserError, match="no such file or directory"):
        load_sidecars([tmp_path / "none"], ["a.jpg"])
    with pytest.raises(UserError, match="no sidecar in this directory"):
        load_sidecars([tmp_path], ["a.jpg"])
    write("x.txt", "[TOC]")
    with pytest.raises(UserError, match=r"none of its files is of a known kind"):
        load_sidecars([tmp_path], ["a.jpg"])
    write("y.json", "[TOC]")
    with pytest.raises(UserError, match=r"y.json: not readable as JSON"):
        load_sidecars([tmp_path], ["a.jpg"])


def test_no_match(write):
    path = write("1.json", [entry(f"x{i}.jpg") for i in range(3)])
    with pytest.raises(UserError) as error:
        load_sidecars([path], ["a.jpg", "b.jpg", "c.jpg"])
    message = str(error.value)
    assert "none of its 3 entries (such as 'x0.jpg', 'x1.jpg')" in message
    assert "3 photos (such as 'a.jpg', 'b.jpg')" in message


def test_odd_numbers(write):
    text = '[{"SourceFile": "a.jpg", "ISO": %s, "FNumber": NaN, "Flash": -Infinity, "Make": 1e999}]'
    assert (
        load_sidecars([write("1.json", text % ("9" * 9999))], ["a.jpg"]).entries["a.jpg"].raw == {}
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["SourceFile", "photo", "exif", "stat", "id", "tagspace", "tag", "ISO"])
            | st.sampled_from([*sorted(FIELDS), "EXIF", "raw", "clean", "_content", "num", "val"])
            | st.text(max_size=4),
            inner | st.sampled_from(["a", "ok", "EXIF", "33434", "FNumber", "Auto", "12345"]),
            max_size=5,
        )
        | st.lists(inner, min_size=17, max_size=17)
    ),
    max_leaves=25,
)


def load_or_refuse(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            sidecars = load_sidecars([path], ["a.jpg", "12345_x_o.jpg"])
        except UserError as error:
            str(error).encode()
            return
    for found in sidecars.entries.values():
        assert found.raw.keys() <= FIELDS
        assert json.loads(json.dumps(found.raw, allow_nan=False)) == found.raw
        json.dumps(found.raw, ensure_ascii=False).encode()
        parse_tags(found.raw)


@given(JSON, st.sampled_from(["x.json", "a.json", "x.jsonl", "12345.txt"]))
def test_any_json(value, name):
    load_or_refuse(name, json.dumps(value).encode())


@given(st.lists(JSON, max_size=4))
def test_any_json_beside_good_entries(values):
    good = {"SourceFile": "a.jpg", "ISO": 100}
    load_or_refuse("x.json", json.dumps([good, *values]).encode())
    load_or_refuse("x.jsonl", "\n".join(map(json.dumps, [*values, good])).encode())


@given(st.lists(st.text() | st.from_regex(r"[0-9]{1,6}\t.*", fullmatch=True)), st.booleans())
def test_any_text(lines, good):
    lines = ["12345\tISO:100,Flash:Fired"] * good + lines
    load_or_refuse("x.txt", "\n".join(lines).encode("utf-8", "surrogatepass"))


@given(st.binary())
def test_any_bytes(data):
    for name in ("x.json", "x.txt", "x.tsv.gz", "x.bz2"):
        load_or_refuse(name, data)


@given(st.sampled_from(sorted(FIELDS)), JSON)
def test_any_value(field, value):
    for readers in (APEX, PHOTOGRAPHIC):
        assert isinstance(readers[field](value), int | float | str | None)
