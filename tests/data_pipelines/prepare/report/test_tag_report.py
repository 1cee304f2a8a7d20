import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.prepare.options import REASONS
from data_pipelines.prepare.report import tag_report
from data_pipelines.prepare.report.tag_report import (
    format_report,
    load_report,
)
from data_pipelines.records import PREPARE_FILE
from data_pipelines.tags import TAGS
from tests.data_pipelines.prepare.report.reports import Values, report_of

REJECTS = [("no_exif", "a.jpg", ""), ("too_small", "b.jpg", "100x80"), ("no_exif", "c.jpg", "")]
SIDECARS = {
    "files": [{"path": "exif.csv", "kind": "csv", "num_entries": 5, "num_matched": 4}],
    "num_unmatched": 1,
    "unmatched": ["gone.jpg"],
}
PHOTOS: list[Values] = [
    {"Make": "Rare", "FNumber": 1.0, "WhiteBalance": "auto"},
    *(
        {"Make": "Canon", "Model": "Canon EOS", "FNumber": i + 2.0, "WhiteBalance": "auto"}
        for i in range(4)
    ),
]
REPORT = report_of(PHOTOS, REJECTS, held=(0, 4), differing=1, sidecars=SIDECARS)


def test_everything_is_counted() -> None:
    assert REPORT["num_files"] == 8
    assert REPORT["num_photos"] == 5
    assert REPORT["num_windows"] == 10
    assert REPORT["rejects"] == {"no_exif": 2, "too_small": 1}
    assert REPORT["reject_examples"]["too_small"] == [["b.jpg", "100x80"]]
    assert REPORT["splits"] == {
        "train": {"num_photos": 3, "num_windows": 6, "num_groups": 2, "num_cameras": 1},
        "validation": {"num_photos": 2, "num_windows": 4, "num_groups": 2, "num_cameras": 1},
    }
    assert REPORT["shared"] == {"num_groups": 1, "num_cameras": 1}
    assert REPORT["skipped_windows"] == {"flat": 5, "black": 3}
    assert REPORT["num_size_differs"] == 1
    assert REPORT["num_untimed"] == 0
    assert REPORT["sidecars"] == SIDECARS


def test_photos_without_a_time_are_counted_and_told() -> None:
    report = report_of(PHOTOS, untimed=2)
    assert report["num_untimed"] == 2
    text = format_report(report)
    assert "photos without a time in EXIF: 2" in text
    assert "2 of 5 photos have no time in EXIF" in text
    del report["num_untimed"]  # earlier versions did not count them
    report["warnings"] = []
    assert "time in EXIF" not in format_report(report)


def test_it_is_json_without_nan() -> None:
    assert json.loads(json.dumps(REPORT, allow_nan=False)) == REPORT


def test_every_tag_is_described() -> None:
    tags = REPORT["tags"]
    assert list(tags) == [tag.name for tag in TAGS]
    assert tags["Make"]["classes"] == {"Canon": 4, "other": 1}
    assert tags["Make"]["values"] == {"Canon": 4, "Rare": 1}
    assert "values" not in tags["WhiteBalance"]
    assert tags["FNumber"]["coverage"] == 1.0
    assert (tags["FNumber"]["min"], tags["FNumber"]["max"]) == (1.0, 5.0)
    assert tags["FNumber"]["quantiles"]["0.5"] == 3.0
    assert tags["ISO"] == {"kind": "ranked", "num": 0, "coverage": 0.0, "unit": "ISO"}


@pytest.mark.parametrize(
    ("name", "values", "scale"),
    [
        ("ISO", [100.0, 200.0, 6400.0], "log"),
        ("ExposureTime", [1 / 8000, 1 / 60, 30.0], "log"),
        ("ExposureBiasValue", [-2.0, 0.0, 0.0, 1 / 3], "linear"),
        ("FocalLength", [50.0, 50.0], "log"),
        ("BrightnessValue", [0.0], "linear"),
    ],
)
def test_histograms_hold_every_value(name: str, values: list[float], scale: str) -> None:
    histogram = report_of([{name: value} for value in values])["tags"][name]["histogram"]
    edges = histogram["edges"]
    assert histogram["scale"] == scale
    assert sum(histogram["counts"]) == len(values)
    assert len(edges) == len(histogram["counts"]) + 1
    assert edges[0] <= min(values) <= max(values) <= edges[-1]
    steps = np.diff(np.log(edges) if scale == "log" else edges)
    np.testing.assert_allclose(steps, steps[0])
    assert steps[0] > 0


def test_makes_and_models_sum_to_the_photos_and_are_bounded() -> None:
    photos: list[Values] = [{"Make": "Canon", "Model": f"Canon {i}"} for i in range(20)]
    photos += [{"Make": f"Make {i}"} for i in range(30)]
    photos += [{"ISO": 100.0}, {"Make": "other", "Model": "other X"}]
    makes = report_of(photos)["makes_models"]
    assert sum(n for models in makes.values() for n in models.values()) == len(photos)
    assert next(iter(makes)) == "Canon"
    assert len(makes["Canon"]) == 13
    assert makes["Canon"]["other"] == 8
    assert len(makes) == 21
    assert list(makes)[-1] == "other"


def test_no_make_is_unknown_make() -> None:
    assert report_of([{"ISO": 100.0}])["makes_models"] == {"unknown": {"unknown": 1}}


def test_values_without_a_class_are_in_none() -> None:
    words = ("auto", "auto", "manual", "manual", "new")
    tag = report_of([{"WhiteBalance": word} for word in words], held=())["tags"]["WhiteBalance"]
    assert tag["num"] == 5
    assert tag["classes"] == {"auto": 2, "manual": 2}


def _warnings(photos: Sequence[Values], **kwargs: Any) -> str:
    return "\n".join(report_of(photos, **kwargs)["warnings"])


def test_useless_tags_are_warned_of() -> None:
    warnings = "\n".join(REPORT["warnings"])
    assert "ISO: no photo has it" in warnings
    assert "WhiteBalance: 100% of its values are auto" in warnings
    assert "Make:" not in warnings.replace("Make: no training photo is of class other", "")
    assert "FNumber" not in warnings
    assert "only 5 photos" in warnings


def test_rare_tags_are_warned_of() -> None:
    photos = [
        {"FNumber": 1.0 + i % 7, **({"ISO": 100.0 + i} if i < 21 else {})} for i in range(500)
    ]
    assert "ISO: 21 of 500 photos have it, too rare" in _warnings(photos)
    assert "FNumber" not in _warnings(photos)
    assert "ISO" not in _warnings(photos[:40])


def test_constant_values_are_shown_as_photographers_write_them() -> None:
    assert "ExposureTime: 100% of its values are 1/60 s" in _warnings([{"ExposureTime": 1 / 60}])


def test_classes_that_only_validation_has_are_warned_of() -> None:
    photos: list[Values] = [{"Make": "Rare"}, *({"Make": f"Make {i % 6}"} for i in range(60))]
    assert "Make: no training photo is of class other" in _warnings(photos, held=(0,))
    assert "no training photo is of class" not in _warnings(photos, held=(1,))


def test_the_collection_is_warned_of() -> None:
    photos: list[Values] = [{"ISO": 100.0 * (1 + i % 5)} for i in range(30)]
    many = [("no_exif", f"{i}.jpg", "") for i in range(31)]
    assert "31 of 61 files were rejected" in _warnings(photos, rejects=many)
    assert "were rejected" not in _warnings(photos, rejects=many[:30])
    assert "no photo is held out" in _warnings(photos, held=())
    assert "--reject size_mismatch" in _warnings(photos, differing=2)
    assert "bursts are in both splits" in _warnings(photos, held=(0,))
    whole = _warnings(photos, held=(0, 1))
    assert not any(word in whole for word in ("bursts", "held out", "size_mismatch"))


def test_shared_cameras_are_no_warning() -> None:
    photos: list[Values] = [{"Model": f"M {i % 3}", "ISO": 1.0 + i} for i in range(40)]
    report = report_of(photos, held=(0, 1))
    assert report["shared"] == {"num_groups": 0, "num_cameras": 2}
    assert "camera" not in "\n".join(report["warnings"])


@pytest.mark.parametrize("photos", [[], [{}], [{"ISO": 100.0}], [{"Make": "A"}] * 3])
def test_little_is_no_error(photos: list[Values]) -> None:
    for held in ((), range(len(photos))):
        report = report_of(photos, held=held)
        json.dumps(report, allow_nan=False)
        assert format_report(report).startswith(f"{len(photos)} photos of {len(photos)} files, ")


def test_the_text_is_aligned_and_complete() -> None:
    text = format_report(REPORT)
    assert text.startswith("5 photos of 8 files, 10 windows, 3 files rejected\n")
    rows = [line for line in text.splitlines() if "%  " in line]
    assert len(rows) == len(TAGS)
    assert len({line.index("%  ") for line in rows}) == 1
    columns = [line.index(" groups") for line in text.splitlines() if " groups" in line]
    assert len(columns) == 3
    assert len(set(columns)) == 1
    assert "Canon 4, other 1" in text
    assert f"no_exif                    2  {REASONS['no_exif']}" in text
    assert "such as b.jpg: 100x80" in text
    assert "windows left out: flat 5, black 3" in text
    assert "photos not of the size that EXIF states: 1" in text
    assert "exif.csv (csv): 4 of 5 entries" in text


def test_names_cannot_steer_the_terminal() -> None:
    photos: list[Values] = [{"Make": "A\x1b[31m", "Model": "\u202eB"}]
    text = format_report(report_of(photos, [("no_exif", "a\x1b]0;x\x07\udcff.jpg", "\r")]))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "A\\x1b[31m" in text


def _parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    tag_report.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def records_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / PREPARE_FILE).write_text('{"schema_version": 1}')
    (folder / tag_report.REPORT_FILE).write_text(json.dumps(REPORT))
    return folder


def test_the_command_prints_text_or_json(
    records_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tag_report.run(_parse(str(records_dir))) == 0
    assert capsys.readouterr().out.strip() == format_report(REPORT)
    assert tag_report.run(_parse(str(records_dir), "--json")) == 0
    assert json.loads(capsys.readouterr().out) == REPORT


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_writes_a_page_and_says_where(
    records_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    page = tmp_path / "page.html"
    words = ["--json"] if as_json else []
    assert tag_report.run(_parse(str(records_dir), "--html", str(page), *words)) == 0
    out, err = capsys.readouterr()
    assert str(page) in (err if as_json else out)
    if as_json:
        assert json.loads(out) == REPORT
    else:
        assert out.startswith("5 photos of 8 files")
    assert "<h1>Tag report of holiday</h1>" in page.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["holiday", "page.html"]


def test_help_teaches() -> None:
    parser = argparse.ArgumentParser()
    tag_report.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    for words in ("gs://", "--json", "--html FILE", "rejected and why", "before training"):
        assert words in text


def test_no_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prepared records"):
        load_report(tmp_path)
    (tmp_path / PREPARE_FILE).write_text('{"schema_version": 1}')
    (tmp_path / tag_report.REPORT_FILE).write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        load_report(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("splits", {"train": None}),
        ("tags", {"ISO": {"kind": "moon", "num": 1, "coverage": 1}}),
        ("rejects", [1]),
        ("makes_models", {"Canon": {"EOS": "many"}}),
        ("sidecars", {"files": 3}),
    ],
)
def test_a_damaged_report_is_one_line(records_dir: Path, field: str, value: object) -> None:
    path = records_dir / tag_report.REPORT_FILE
    path.write_text(json.dumps({**REPORT, field: value}))
    with pytest.raises(UserError, match=r"tag_report\.json: damaged .*; run `exif-jax prepare`"):
        tag_report.run(_parse(str(records_dir), "--html", str(records_dir / "page.html")))
