import argparse
import json
from pathlib import Path

import pytest

from data_pipelines import tag_report
from data_pipelines.records import PREPARE_FILE
from data_pipelines.tag_report import PhotoSummary, build_report, format_report, load_report
from data_pipelines.tags import TAGS, build_targets
from exif_jax.errors import UserError

PHOTOS = [
    PhotoSummary(
        {"Make": "Canon" if i else "Rare", "FNumber": float(i + 1), "WhiteBalance": "auto"},
        num_windows=2,
        split="validation" if i == 0 else "train",
        group=i // 2,
        camera="Canon EOS" if i else "",
    )
    for i in range(5)
]
TARGETS = build_targets([photo.values for photo in PHOTOS if photo.split == "train"])
REPORT = build_report(PHOTOS, TARGETS, ["no_exif", "too_small", "no_exif"])


def test_everything_is_counted() -> None:
    assert REPORT["num_files"] == 8
    assert REPORT["num_photos"] == 5
    assert REPORT["num_windows"] == 10
    assert REPORT["rejects"] == {"no_exif": 2, "too_small": 1}
    assert REPORT["splits"] == {
        "train": {"num_photos": 4, "num_windows": 8, "num_groups": 3, "num_cameras": 1},
        "validation": {"num_photos": 1, "num_windows": 2, "num_groups": 1, "num_cameras": 0},
    }


def test_every_tag_is_described() -> None:
    tags = REPORT["tags"]
    assert list(tags) == [tag.name for tag in TAGS]
    assert tags["Make"]["classes"] == {"Canon": 4, "other": 1}
    assert tags["FNumber"]["coverage"] == 1.0
    assert (tags["FNumber"]["min"], tags["FNumber"]["max"]) == (1.0, 5.0)
    assert tags["FNumber"]["quantiles"]["0.5"] == 3.0
    assert tags["ISO"] == {"kind": "ranked", "num": 0, "coverage": 0.0, "unit": "ISO"}


def test_useless_tags_are_warned_of() -> None:
    warnings = "\n".join(REPORT["warnings"])
    assert "ISO: no photo has it" in warnings
    assert "WhiteBalance: 100% of its values are auto" in warnings
    assert "Make" not in warnings
    assert "FNumber" not in warnings


def test_the_text_is_aligned_and_complete() -> None:
    text = format_report(REPORT)
    assert "5 photos of 8 files, 10 windows, 3 files rejected" in text
    rows = [line for line in text.splitlines() if "%  " in line]
    assert len(rows) == len(TAGS)
    assert len({line.index("%  ") for line in rows}) == 1
    assert "no_exif" in text
    assert "Canon 4, other 1" in text


def test_the_command_prints_text_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PREPARE_FILE).write_text('{"schema_version": 1}')
    (tmp_path / tag_report.REPORT_FILE).write_text(json.dumps(REPORT))
    parser = argparse.ArgumentParser()
    tag_report.add_arguments(parser)
    assert tag_report.run(parser.parse_args([str(tmp_path)])) == 0
    assert capsys.readouterr().out.strip() == format_report(REPORT)
    assert tag_report.run(parser.parse_args([str(tmp_path), "--json"])) == 0
    assert json.loads(capsys.readouterr().out) == REPORT


def test_no_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prepared records"):
        load_report(tmp_path)
    (tmp_path / PREPARE_FILE).write_text('{"schema_version": 1}')
    (tmp_path / tag_report.REPORT_FILE).write_text("{}")
    with pytest.raises(UserError, match="damaged"):
        load_report(tmp_path)
