import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data_pipelines
from data_pipelines.errors import UserError
from data_pipelines.exif import Exif, capture_key, load_exif
from data_pipelines.prepare.not_cameras import RULES, not_a_camera, pixel_size_differs
from data_pipelines.prepare.run import Options, prepare
from data_pipelines.records import open_records
from data_pipelines.tags import (
    FOCAL_LENGTHS,
    OTHER,
    TAGS,
    CategoricalTag,
    RankedTag,
    Rational,
    parse_tags,
    to_number,
)
from data_pipelines.targets import coded_targets, coded_values

RANGES = {
    "FNumber": (0.5, 128),
    "ExposureTime": (1e-6, 3600),
    "ISO": (1, 10_000_000),
    "FocalLength": (0.5, 5000),
    "MaxApertureValue": (-2, 14),
    "ExposureBiasValue": (-10, 10),
    "BrightnessValue": (-20, 20),
}
FIELDS = [
    "Make",
    "Model",
    "FNumber",
    "ApertureValue",
    "ExposureTime",
    "ShutterSpeedValue",
    "PhotographicSensitivity",
    "ISOSpeed",
    "StandardOutputSensitivity",
    "RecommendedExposureIndex",
    "FocalLength",
    "Flash",
    "MeteringMode",
    "MaxApertureValue",
    "ExposureBiasValue",
    "ExposureMode",
    "WhiteBalance",
    "BrightnessValue",
    "SceneCaptureType",
    "FocalLengthIn35mmFilm",
    "Software",
    "FileSource",
    "PixelXDimension",
    "PixelYDimension",
    "DateTimeOriginal",
    "DateTimeDigitized",
]
CATEGORICAL = {"Make", "Model", "Flash", "MeteringMode", "ExposureMode", "WhiteBalance"}
CATEGORICAL |= {"SceneCaptureType"}

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from([0, -1, 10**400, -(10**400), 2**64, True, math.nan, math.inf]),
)
scalars = st.one_of(
    numbers,
    st.text(),
    st.binary(),
    st.none(),
    st.from_regex(r"[0-9.:/ ]{1,20}", fullmatch=True),
    st.builds(Rational, st.integers(-(2**31), 2**32), st.integers(0, 2**32)),
)
any_value = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.builds(Rational, inner, inner),
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=2),
    ),
    max_leaves=8,
)
any_raw = st.dictionaries(st.sampled_from(FIELDS), any_value)


def test_the_kinds_are_the_published_ones() -> None:
    kinds = {tag.name: tag.kind for tag in TAGS}
    assert {name for name, kind in kinds.items() if kind == "categorical"} == CATEGORICAL
    assert RANGES.keys() <= {name for name, kind in kinds.items() if kind == "ranked"}


@settings(max_examples=300)
@given(any_raw, st.sampled_from(["actual", "35mm"]))
def test_any_raw_value_gives_a_plausible_value_or_none(
    raw: dict[str, object], focal_length: Literal["actual", "35mm"]
) -> None:
    values = parse_tags(raw, focal_length=focal_length)
    for tag in TAGS:
        value = values.get(tag.name)
        if value is None:
            continue
        if tag.kind == "ranked":
            low, high = RANGES.get(tag.name, (-math.inf, math.inf))
            high *= 2 if focal_length == "35mm" and tag.name == "FocalLength" else 1
            assert isinstance(value, float)
            assert low <= value <= high or tag.name in ("FNumber", "ExposureTime")
            assert math.isfinite(np.float32(value))
            assert tag.name not in ("FNumber", "ExposureTime") or value > 0
        else:
            assert isinstance(value, str)
            assert value
            assert not tag.words or value in (*tag.words, "other")


@settings(max_examples=300)
@given(any_raw, st.integers(1, 10**5), st.integers(1, 10**5))
def test_no_raw_value_stops_the_other_readers(
    raw: dict[str, object], width: int, height: int
) -> None:
    capture_key(Exif(raw))
    not_a_camera(raw)
    assert pixel_size_differs(raw, width, height) in (True, False)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (Rational(1, 60), 1 / 60),
        (Rational(1, 0), None),
        (Rational(10**400, 1), None),
        ((100, 0, 0), 100.0),
        ((), None),
        (((100, 0),), None),
        ((Rational(1, 2), Rational(1, 3)), 0.5),
        (Rational("a", 0), None),
        ({"a": 1}, None),
        ("1/60", 1 / 60),
        (" 5.6\0junk", 5.6),
        (b"5.6", 5.6),
        ("1/0", None),
        ("__import__('os')", None),
        ("1e400", None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
    ],
)
def test_numbers_are_matched_never_evaluated(raw: object, expected: float | None) -> None:
    assert to_number(raw) == expected


@pytest.mark.parametrize(
    ("raw", "name", "expected"),
    [
        ({"FNumber": Rational(0, 0), "ApertureValue": Rational(4, 1)}, "FNumber", 4.0),
        ({"ApertureValue": Rational(0, 1)}, "FNumber", None),
        ({"ShutterSpeedValue": Rational(6, 1)}, "ExposureTime", 1 / 64),
        ({"ShutterSpeedValue": Rational(-1, 1)}, "ExposureTime", 2.0),
        ({"ExposureTime": Rational(1, 60)}, "ExposureTime", 1 / 60),
        ({"ExposureTime": Rational(0, 1)}, "ExposureTime", None),
        ({"PhotographicSensitivity": (400, 0)}, "ISO", 400.0),
        ({"PhotographicSensitivity": 65535, "ISOSpeed": 102400}, "ISO", 102400.0),
        ({"PhotographicSensitivity": 65535}, "ISO", None),
        (
            {"PhotographicSensitivity": 65535, "RecommendedExposureIndex": 204800},
            "ISO",
            204800.0,
        ),
        ({"PhotographicSensitivity": 0, "StandardOutputSensitivity": 100}, "ISO", 100.0),
        ({"MaxApertureValue": Rational(0, 10)}, "MaxApertureValue", None),
        ({"ExposureBiasValue": Rational(-1, 3)}, "ExposureBiasValue", -1 / 3),
        ({"ExposureBiasValue": Rational(-1, 1)}, "ExposureBiasValue", -1.0),
        ({"ExposureBiasValue": Rational(1, -3)}, "ExposureBiasValue", -1 / 3),
        ({"ExposureTime": Rational(0, 0)}, "ExposureTime", None),
        ({"FNumber": ()}, "FNumber", None),
        ({"Make": "alps   \0", "Model": "Glory3    \0\0"}, "Model", "ALPS Glory3"),
        ({"BrightnessValue": Rational(-1, 1)}, "BrightnessValue", None),
        ({"BrightnessValue": Rational(-3, 2)}, "BrightnessValue", -1.5),
        ({"BrightnessValue": Rational(0xFFFFFFFF, 1)}, "BrightnessValue", None),
        ({"FocalLength": Rational(0, 1)}, "FocalLength", None),
        ({"FocalLengthIn35mmFilm": 28}, "FocalLength", None),
        ({"BrightnessValue": (Rational(-1, 1),)}, "BrightnessValue", None),
        ({"Flash": 0}, "Flash", "not_fired"),
        ({"Flash": 16}, "Flash", "not_fired"),
        ({"Flash": 24}, "Flash", "auto_not_fired"),
        ({"Flash": 25}, "Flash", "fired"),
        ({"Flash": 89}, "Flash", "fired"),
        ({"Flash": 32}, "Flash", "no_flash_function"),
        ({"Flash": 4096}, "Flash", None),
        ({"MeteringMode": 3}, "MeteringMode", "spot"),
        ({"MeteringMode": 0}, "MeteringMode", None),
        ({"MeteringMode": 255}, "MeteringMode", "other"),
        ({"MeteringMode": 7}, "MeteringMode", None),
        ({"MeteringMode": 2.5}, "MeteringMode", None),
        ({"ExposureMode": 2}, "ExposureMode", "auto_bracket"),
        ({"ExposureMode": 3}, "ExposureMode", None),
        ({"WhiteBalance": 1}, "WhiteBalance", "manual"),
        ({"WhiteBalance": 7}, "WhiteBalance", None),
        ({"SceneCaptureType": 3}, "SceneCaptureType", "night"),
        ({"SceneCaptureType": 4}, "SceneCaptureType", None),
    ],
)
def test_values_follow_the_standard(raw: dict[str, object], name: str, expected: object) -> None:
    value = parse_tags(raw).get(name)
    assert value == (pytest.approx(expected) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(
    ("field", "expected"),
    [(28, 28.0), (b"28", 28.0), (0, None), (65535, None), (None, None)],
)
def test_focal_lengths_of_35_mm_film_stand_alone(field: object, expected: float | None) -> None:
    raw = {"FocalLength": Rational(4, 1), "FocalLengthIn35mmFilm": field}
    assert parse_tags(raw, focal_length="35mm").get("FocalLength") == expected
    assert parse_tags(raw)["FocalLength"] == 4.0


def test_an_unknown_focal_length_is_refused() -> None:
    with pytest.raises(UserError, match="focal_length: '50mm' is not actual or 35mm"):
        parse_tags({}, focal_length="50mm")  # type: ignore[arg-type]


def test_a_raw_file_without_exif_has_no_tags() -> None:
    assert parse_tags(load_exif(b"not an image").raw) == {}


def test_the_documentation_has_every_row_of_the_tables() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tags.md").read_text()
    rows = {
        cells[0].strip("`"): cells for cells in map(_cells, page.splitlines()) if len(cells) == 5
    }
    for tag in TAGS:
        _, kind, unit, sources, classes = rows[tag.name]
        assert kind == tag.kind
        assert unit == tag.unit
        if isinstance(tag, RankedTag):
            fields = [f"`{s.field}` {s.low:g} to {s.high:g}" for s in tag.sources]
            assert sources == "; ".join(fields)
            assert not classes
            continue
        assert isinstance(tag, CategoricalTag)
        assert sources == f"`{tag.name}`"
        most = f"the {tag.frequent} most frequent"
        words = ", ".join(tag.words) or most
        some = f"{most} of " if len(tag.words) > tag.frequent else ""
        assert classes == some + words + f", {OTHER}" * tag.other
    other = FOCAL_LENGTHS["35mm"]
    assert f"`{other.field}` {other.low:g} to {other.high:g}" in page
    for rule in RULES:
        assert f"| {rule.kind} |" in page


PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from data_pipelines.pipeline import record_batches
from data_pipelines.prepare.run import Options, prepare
from data_pipelines.records import open_records
from data_pipelines.tags import TAGS, Rational, parse_tags
from data_pipelines.targets import coded_targets, coded_values

photos, old, out = map(Path, sys.argv[1:])
report = prepare([photos], out, Options(validation_fraction=0.3), workers=1)
new, before = open_records(out), open_records(old)
source = before.source("train")
batch = next(iter(record_batches(new, "train", 2, 0, 1)))
earlier = next(iter(record_batches(before, "train", 2, 0, 1)))
energies = new.columns("train").values["FlashEnergy"]
rows = {path: i for i, path in enumerate(new.columns("train").path)}
print(json.dumps({
    "tags": [tag.name for tag in TAGS],
    "parsed": parse_tags({"FlashEnergy": Rational(3, 2)}),
    "reported": report["tags"]["FlashEnergy"],
    "targets": [target.name for target in new.targets],
    "labels": sorted(np.concatenate([new.labels(s)[:, 0] for s in new.splits]).tolist()),
    "batch": [float(x) for x in batch["targets"][:, 0]],
    "expected": [float(energies[rows[path]]) for path in batch["path"]],
    "old_targets": [target.name for target in before.targets],
    "old_record": repr(source[0]["tags"]["FlashEnergy"]),
    "old_column": [repr(float(x)) for x in before.columns("train").values["FlashEnergy"]],
    "old_labels": before.labels("train").tobytes().hex(),
    "old_batch": list(earlier["targets"].shape),
    "coded_targets": [[t.name, t.kind, len(t.classes)] for t in coded_targets()],
    "coded": coded_values(json.loads(sys.stdin.read())),
}))
"""
NEW_ROW = '    _ranked("FlashEnergy", "BCPS", Source("FlashEnergy", 0.01, 1000)),\n'


@pytest.mark.parametrize("indexed", [True, False])
def test_one_row_adds_a_ranked_tag(
    make_photo: Callable[..., Path], tmp_path: Path, indexed: bool
) -> None:
    for i in range(6):
        energy = {piexif.ExifIFD.FlashEnergy: (i + 1, 2)}
        make_photo(f"photos/{i}.jpg", time=f"2022:05:0{i + 1} 10:00:00", seed=i, camera=energy)
    old = tmp_path / "old"
    prepare([tmp_path / "photos"], old, Options(validation_fraction=0.3), workers=1)
    if not indexed:
        for index in old.glob("index-*.npz"):
            index.unlink()
    program = tmp_path / "program"
    shutil.copytree(Path(data_pipelines.__file__).parent, program / "data_pipelines")
    table, start = program / "data_pipelines/tags.py", "TAGS: Final[tuple[Tag, ...]] = (\n"
    text = table.read_text()
    assert start in text
    # The first row, so that everything that goes by position would shift.
    table.write_text(text.replace(start, start + NEW_ROW))
    coded = [2.8, 6, 0.01, 200.0, 50.0, 0, 3, 4.0, -1.0, 5, 3, 1, 7.5, 4]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "photos", old, tmp_path / "new"],
        input=json.dumps(coded),
        env={**os.environ, "PYTHONPATH": str(program)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    names = [tag.name for tag in TAGS]
    assert said["tags"] == said["targets"] == ["FlashEnergy", *names]
    assert said["parsed"] == {"FlashEnergy": 1.5}
    assert (said["reported"]["kind"], said["reported"]["max"]) == ("ranked", 3.0)
    assert said["labels"] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert said["batch"] == said["expected"]
    # Records made before open, lack the tag, and keep their targets.
    assert said["old_targets"] == names
    assert said["old_record"] == "nan"
    assert set(said["old_column"]) == {"nan"}
    assert bytes.fromhex(said["old_labels"]) == open_records(old).labels("train").tobytes()
    assert said["old_batch"] == [2, len(names)]
    # The released labels are read as before.
    assert said["coded"] == coded_values(coded)
    released = [[target.name, target.kind, len(target.classes)] for target in coded_targets()]
    assert said["coded_targets"] == released


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
