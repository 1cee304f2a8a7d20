"""Bursts stay together and copies count once, whatever cameras, phones and editors write."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import piexif
import pytest
from PIL import Image

from data_pipelines import heic
from data_pipelines.errors import UserError
from data_pipelines.prepare.options import Options
from data_pipelines.prepare.report.tag_report import Report
from data_pipelines.prepare.run import REJECTS_FILE, prepare
from data_pipelines.records import open_records

MakePhoto = Callable[..., Path]


def groups_in(out: Path) -> set[frozenset[str]]:
    """Names of files by group."""
    groups: dict[int, set[str]] = {}
    records = open_records(out)
    for split in records.splits:
        columns = records.columns(split)
        for path, group in zip(columns.path, columns.group, strict=True):
            groups.setdefault(int(group), set()).add(path.rpartition("/")[2])
    return set(map(frozenset, groups.values()))


def prepared(folder: Path, out: Path, **options: Any) -> tuple[set[frozenset[str]], Report]:
    report = prepare([folder], out, Options(**{"validation_fraction": 0.5, **options}), workers=1)
    assert report["shared"]["num_groups"] == 0
    return groups_in(out), report


def photos_of(
    make_photo: MakePhoto, times: Mapping[str, str], *, first: int = 0, **more: Any
) -> None:
    """Makes different photos, given the times of capture by their names."""
    for seed, (name, time) in enumerate(times.items(), first):
        make_photo(f"photos/{name}", seed=seed, time=time, **more)


def test_dates_with_dashes_are_times(cases: Path, tmp_path: Path) -> None:
    groups, report = prepared(cases / "date_with_dashes", tmp_path / "out")
    assert groups == {frozenset(f"b{i:02d}_{j}.jpg" for j in range(3)) for i in range(6)}
    assert report["num_untimed"] == 0


@pytest.mark.parametrize(
    "times",
    [
        ("2012/12/01 10:37:28", "2012/12/01 10:37:40", "2013/12/01 10:37:28"),
        ("2012-12-01T10:37:28Z", "2012-12-01T12:37:29+02:00", "2012-12-01T10:37:28+02:00"),
        ("2012.12.01 24:00:05", "2012.12.01 00:00:15", "2012.12.02 00:00:05"),
        ("2012:12:01 10:37", "2012:12:01 10:38:00", "2012:12:01 11:37"),
    ],
)
def test_two_of_three_photos_are_a_burst(
    times: Sequence[str], tmp_path: Path, make_photo: MakePhoto
) -> None:
    photos_of(make_photo, dict(zip(["a.jpg", "b.jpg", "c.jpg"], times, strict=True)))
    groups, _ = prepared(tmp_path / "photos", tmp_path / "out")
    assert groups == {frozenset({"a.jpg", "b.jpg"}), frozenset({"c.jpg"})}


def test_zones_and_fractions_in_fields_of_their_own(tmp_path: Path, make_photo: MakePhoto) -> None:
    for i, (hour, zone, part) in enumerate((("10", "Z", "9"), ("12", "+02:00", "1"))):
        camera = {
            piexif.ExifIFD.OffsetTimeOriginal: zone,
            piexif.ExifIFD.SubSecTimeOriginal: part,
        }
        times = {f"{i}_{second}.jpg": f"2012:12:01 {hour}:00:0{second + i}" for second in (0, 4)}
        photos_of(make_photo, times, first=2 * i, camera=camera)
    groups, _ = prepared(tmp_path / "photos", tmp_path / "out", burst_seconds=0.5)
    assert groups == {
        frozenset({"0_0.jpg", "1_0.jpg"}), frozenset({"0_4.jpg", "1_4.jpg"})
    }  # fmt: skip


def test_photos_without_a_time_are_grouped_by_their_names_and_counted(
    tmp_path: Path, make_photo: MakePhoto, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["IMG_20230102_101112.jpg", "IMG_20230102_101130.jpg", "IMG_20230103_101112.jpg"]
    in_row = ["DSC01234.JPG", "DSC01235.JPG", "DSC01237.JPG", "portrait.jpg"]
    names = [*named, *in_row, "other/DSC01236.JPG"]
    times = ["0000:00:00 00:00:00", "    :  :     :  :  ", "2012:13:01 10:00:00", *["?"] * 5]
    for i, (name, time) in enumerate(zip(names, times, strict=True)):
        artist = {piexif.ImageIFD.Artist: str(i)}  # so that no two have the same EXIF
        make_photo(f"photos/{name}", seed=i, time=time, main=artist)
    groups, report = prepared(tmp_path / "photos", tmp_path / "out")
    assert groups == {
        frozenset(named[:2]), frozenset(named[2:]), frozenset(in_row[:2]), frozenset(in_row[2:3]),
        frozenset(in_row[3:]), frozenset({"DSC01236.JPG"}),
    }  # fmt: skip
    assert report["num_untimed"] == len(names)


def test_a_lone_series_without_times_is_refused_with_the_reason(
    tmp_path: Path, make_photo: MakePhoto
) -> None:
    photos_of(make_photo, {f"IMG_{i}.jpg": "?" for i in range(4)})
    with pytest.raises(UserError, match=r"4 have no time.*--validation-fraction 0"):
        prepared(tmp_path / "photos", tmp_path / "out")
    with pytest.raises(UserError, match=r"of one camera model, so none"):
        prepared(tmp_path / "photos", tmp_path / "out", split_by="camera")


def test_copies_count_once_whatever_stands_around_the_image(cases: Path, tmp_path: Path) -> None:
    groups, report = prepared(cases / "copies", tmp_path / "out")
    assert groups == {frozenset({"fill.jpg"}), frozenset({"motion_a.jpg"})}
    assert report["rejects"] == {"duplicate": 2}
    lines = (tmp_path / "out" / REJECTS_FILE).read_text().splitlines()
    rejects = [json.loads(line) for line in lines]
    assert [row["path"] for row in rejects] == ["fill_copy.jpg", "motion_b_without_video.jpg"]


@pytest.mark.parametrize("kind", ["png", "tif", "webp", "heic"])
def test_copies_with_other_metadata_count_once(
    kind: str, tmp_path: Path, make_photo: MakePhoto
) -> None:
    if kind == "heic" and not heic.register_opener():
        pytest.skip("pillow-heif is optional and not installed")
    photos_of(make_photo, {f"{i}.{kind}": f"202{i}:05:01 10:00:00" for i in range(3)})
    for i in range(2):
        make_photo(f"photos/copy{i}.{kind}", seed=i, time=f"203{i}:05:01 10:00:00")
    groups, report = prepared(tmp_path / "photos", tmp_path / "out")
    assert groups == {frozenset({f"{i}.{kind}"}) for i in range(3)}
    assert report["rejects"] == {"duplicate": 2}


def test_copies_that_are_kept_are_on_one_side(tmp_path: Path, make_photo: MakePhoto) -> None:
    reject = tuple(set(Options().reject) - {"duplicate"})
    photos_of(make_photo, {f"{i}.png": f"202{i}:05:01 10:00:00" for i in range(3)})
    make_photo("photos/copy.png", seed=0, time="2030:05:01 10:00:00")
    groups, _ = prepared(tmp_path / "photos", tmp_path / "out", reject=reject)
    assert groups == {frozenset({"0.png", "copy.png"}), frozenset({"1.png"}), frozenset({"2.png"})}


def test_a_photo_saved_anew_or_resized_counts_once(tmp_path: Path, make_photo: MakePhoto) -> None:
    photos_of(make_photo, {f"{i}.jpg": f"202{i}:05:01 10:00:00" for i in range(3)}, size=(600, 600))
    with Image.open(tmp_path / "photos/0.jpg") as image:
        exif = image.info["exif"]
        image.save(tmp_path / "photos/anew.jpg", quality=70, exif=exif)
        image.resize((300, 300)).save(tmp_path / "photos/small.jpg", exif=exif)
    groups, report = prepared(tmp_path / "photos", tmp_path / "out")
    assert groups == {frozenset({f"{i}.jpg"}) for i in range(3)}
    assert report["rejects"] == {"near_duplicate": 2}


def test_a_copy_that_is_left_out_still_tells_of_its_burst(
    tmp_path: Path, make_photo: MakePhoto
) -> None:
    """Of the copy in the records nobody would know that it was taken a second before another."""
    photos_of(make_photo, {"edited.jpg": "0000:00:00 00:00:00", "other.jpg": "2020:01:01 10:00:00"})
    make_photo("photos/original.jpg", seed=0, time="2022:05:01 10:00:00")
    make_photo("photos/next.jpg", seed=7, time="2022:05:01 10:00:01")
    groups, report = prepared(tmp_path / "photos", tmp_path / "out")
    assert groups == {frozenset({"edited.jpg", "next.jpg"}), frozenset({"other.jpg"})}
    assert report["rejects"] == {"duplicate": 1}
