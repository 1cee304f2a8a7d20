"""What the fields of `Options` declare: flags, ranges, JSON."""

import argparse
import json

import pytest

from data_pipelines.errors import UserError
from data_pipelines.prepare.options import PLANNING, SWITCHES, Options, add_flags, options_of

# What the previous release wrote of its defaults, in command.json and prepare.json.
STORED = {
    "windows_per_photo": 4,
    "encoding": "dct",
    "reject": [
        *("damaged_exif", "duplicate", "exif_too_large", "no_exif", "no_tags", "not_a_camera")
    ],
    "min_side": 256,
    "max_bytes": 268435456,
    "max_pixels": 150000000,
    "seconds_per_file": 60.0,
    "memory_per_file": 4096,
    "focal_length": "actual",
    "validation_fraction": 0.1,
    "split_by": "photo",
    "burst_seconds": 60.0,
    "min_count": 1,
    "max_classes": None,
    "seed": 0,
}


def given(*words: str) -> Options:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser)
    return options_of(parser.parse_args(words))


def test_what_is_stored_is_what_the_previous_release_stored() -> None:
    assert json.loads(json.dumps(Options().to_json())) == STORED
    assert Options.from_json(STORED) == Options() == given()


def test_every_option_has_a_flag() -> None:
    options = Options(
        reject=("duplicate", "exif_too_large", "no_exif", "no_tags", "size_mismatch"),
        min_side=300,
        max_pixels=9,
        max_bytes=8,
        seconds_per_file=0.5,
        memory_per_file=512,
        windows_per_photo=2,
        encoding="pixels",
        focal_length="35mm",
        max_classes=3,
        min_count=4,
        validation_fraction=0.25,
        split_by="camera",
        burst_seconds=0.0,
        seed=5,
    )
    flags = "--reject size_mismatch --accept not_a_camera --accept damaged_exif --min-side 300 "
    flags += "--accept near_duplicate "
    flags += "--max-pixels 9 --max-bytes 8 --seconds-per-file 0.5 --memory-per-file 512 "
    flags += "--windows-per-photo 2 --encoding pixels --focal-length 35mm --max-classes 3 "
    flags += "--min-count 4 --validation-fraction 0.25 --split-by camera --burst-seconds 0 --seed 5"
    assert given(*flags.split()) == options
    assert given("--split_by", "camera").split_by == "camera"
    assert {*options.to_json()} == {*STORED, "accept"}
    assert Options.from_json(options.to_json()) == options


def test_options_that_matter_late() -> None:
    late = {"validation_fraction", "split_by", "burst_seconds", "min_count", "max_classes"}
    assert set(PLANNING) == late


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("windows_per_photo", 0),
        ("validation_fraction", 1.0),
        ("validation_fraction", -0.1),
        ("validation_fraction", float("nan")),
        ("split_by", "lens"),
        ("encoding", "jpeg"),
        ("focal_length", None),
        ("burst_seconds", -1.0),
        ("seed", -1),
        ("seed", None),
        ("max_pixels", 0),
        ("max_classes", 0),
        ("min_side", 255),
        ("memory_per_file", 255),
        ("seconds_per_file", 0.0),
    ],
)
def test_options_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{name}: .* is not "):
        Options(**{name: value})  # type: ignore[arg-type]


def test_every_switch_is_an_option() -> None:
    assert set(Options().reject) == {name for name, (default, _) in SWITCHES.items() if default}
    with pytest.raises(UserError, match="reject"):
        Options(reject=("ugly",))
