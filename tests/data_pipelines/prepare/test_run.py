import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import piexif
import pytest

from data_pipelines.errors import UserError
from data_pipelines.prepare import parts, plan
from data_pipelines.prepare.engines import LocalEngine
from data_pipelines.prepare.options import REASONS, Options
from data_pipelines.prepare.report.tag_report import load_report
from data_pipelines.prepare.run import prepare
from data_pipelines.prepare.workspace import Workspace
from data_pipelines.records import Records, open_records
from data_pipelines.targets import RELEASED

MakePhoto = Callable[..., Path]
FIELDS = {"image", "photo", "group", "path", "x", "y", "width", "height"}
CAMERAS = ("A1", "B2", "C3")


@pytest.fixture
def photos(tmp_path: Path, make_photo: MakePhoto) -> Path:
    """Three cameras with two bursts of two photos each, a photo apart, and four bad files."""
    for i, camera in enumerate(CAMERAS):
        for j, time in enumerate(("10:00:00", "10:00:40", "15:00:00", "15:00:59")):
            make_photo(
                f"photos/{camera}/{j}.jpg",
                model=camera,
                time=f"2022:05:0{i + 1} {time}",
                seed=10 * i + j,
                size=(560, 300),
            )
    make_photo("photos/apart.JPG", make="Nikon", model="D90", seed=99)
    make_photo("photos/small.jpg", size=(200, 300))
    (tmp_path / "photos/empty.jpg").touch()
    (tmp_path / "photos/text.jpeg").write_text("hello")
    (tmp_path / "photos/notes.txt").write_text("not seen")
    cut = make_photo("photos/cut.jpg")
    cut.write_bytes(cut.read_bytes()[:-3000])
    return tmp_path / "photos"


def decode_all(records: Records, split: str) -> list[dict[str, object]]:
    source = records.source(split)
    return [records.decode(source[i]) for i in range(len(source))]


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.parent.iterdir() if path.name.startswith(f".{out.name}")]


def test_every_file_is_accounted_for(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prepare([photos], out, Options(validation_fraction=0.2))
    assert report == load_report(out)
    assert report["num_files"] == 17
    assert report["num_photos"] == 13
    assert report["num_windows"] == 12 * 2 + 1
    rejects = [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]
    assert {row["path"]: row["reason"] for row in rejects} == {
        "cut.jpg": "undecodable",
        "empty.jpg": "empty_file",
        "small.jpg": "too_small",
        "text.jpeg": "not_an_image",
    }
    assert report["rejects"] == dict.fromkeys(
        ("undecodable", "empty_file", "too_small", "not_an_image"), 1
    )
    assert REASONS.keys() >= report["rejects"].keys()
    assert leftovers(out) == []
    assert not (out / "unfinished").exists()


def test_bursts_stay_on_one_side(photos: Path, tmp_path: Path) -> None:
    for seed in range(3):
        out = tmp_path / f"out{seed}"
        prepare([photos], out, Options(validation_fraction=0.4, seed=seed, windows_per_photo=1))
        records = open_records(out)
        sides = [decode_all(records, split) for split in ("train", "validation")]
        groups = [{row["group"] for row in side} for side in sides]
        assert groups[0] and groups[1]
        assert not groups[0] & groups[1]
        burst = {f"A1/{i}.jpg" for i in (2, 3)}
        assert any(burst <= {row["path"] for row in side} for side in sides)


def test_split_by_camera_divides_no_camera(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([photos], out, Options(validation_fraction=0.3, split_by="camera"))
    records = open_records(out)
    cameras = [
        {str(row["path"]).split("/")[0] for row in decode_all(records, split)}
        for split in ("train", "validation")
    ]
    assert not cameras[0] & cameras[1]


def test_vocabularies_come_from_the_training_photos(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([photos], out, Options(validation_fraction=0.3, split_by="camera"))
    records = open_records(out)
    model = next(target for target in records.targets if target.name == "Model")
    validation = {str(row["path"]).split("/")[0] for row in decode_all(records, "validation")}
    assert not {f"Canon {camera}" for camera in validation} & set(model.classes)
    assert model.classes[-1] == "other"


def test_the_same_call_gives_the_same_records_whatever_the_workers(
    photos: Path, tmp_path: Path
) -> None:
    for workers in (1, 4):
        prepare([photos], tmp_path / f"out{workers}", workers=workers)
    names = sorted(path.name for path in (tmp_path / "out1").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "out4").iterdir())
    one, four = (open_records(tmp_path / f"out{workers}") for workers in (1, 4))
    assert one.targets == four.targets
    for split in one.splits:
        for a, b in zip(one.source(split), four.source(split), strict=True):
            np.testing.assert_equal(a, b)


def test_rows_are_parsed_once_whatever_the_shards(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(validation_fraction=0.4)
    prepare([photos], tmp_path / "one", options)
    parsed: list[Any] = []
    from_row, make_shards = parts.from_row, LocalEngine.make_shards

    def counted(row: Any, windows: bytes) -> Any:
        parsed.append(row)
        return from_row(row, windows)

    def without_rows(engine: LocalEngine, workspace: Workspace, shards: Any) -> None:
        for rows in list(workspace.parts.glob("*.rows")):
            rows.unlink()
        make_shards(engine, workspace, shards)

    monkeypatch.setattr(plan, "WINDOWS_PER_SHARD", 3)
    monkeypatch.setattr(parts, "from_row", counted)
    monkeypatch.setattr(LocalEngine, "make_shards", without_rows)
    report = prepare([photos], tmp_path / "many", options)
    assert len(parsed) == report["num_files"]
    one, many = (open_records(tmp_path / name) for name in ("one", "many"))
    assert len(list((tmp_path / "many").glob("*array_record*"))) > 6
    for split in one.splits:
        for a, b in zip(one.source(split), many.source(split), strict=True):
            np.testing.assert_equal(a, b)


def test_nothing_private_is_stored(tmp_path: Path, make_photo: MakePhoto) -> None:
    private = {
        "main": {
            piexif.ImageIFD.Artist: "Jane Doe",
            piexif.ImageIFD.DateTime: "2022:05:01 10:00:00",
        },
        "camera": {
            piexif.ExifIFD.BodySerialNumber: "SN123456",
            piexif.ExifIFD.CameraOwnerName: "Jane Doe",
            piexif.ExifIFD.MakerNote: b"secret note",
        },
        "GPS": {
            piexif.GPSIFD.GPSLatitude: ((51, 1), (30, 1), (26, 1)),
            piexif.GPSIFD.GPSDateStamp: "2022:05:01",
        },
    }
    for i in range(3):
        make_photo(f"photos/{i}.jpg", seed=i, time=f"2022:05:01 1{i}:00:00", **private)
    out = tmp_path / "out"
    prepare([tmp_path / "photos"], out)
    texts = [b"Jane", b"SN123456", b"secret", b"2022:05", str(tmp_path).encode(), b"eXIf", b"Exif"]
    for split in open_records(out).splits:
        for raw in open_records(out).source(split):
            assert set(raw) == {*FIELDS, "tags"}
            assert not [text for text in texts if text in repr(raw).encode() + raw["image"]]
    for path in out.iterdir():
        assert not [text for text in texts[:-1] if text in path.read_bytes()], path.name


def test_a_finished_output_is_left_alone_by_the_same_call(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty directory is as good as none
    report = prepare([photos], out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare([photos], out) == report
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_other_output_is_never_overwritten(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([photos], out)
    with pytest.raises(UserError, match=r"seed was 0, now 1.*another --out"):
        prepare([photos], out, Options(seed=1))
    with pytest.raises(UserError, match="photo directories differ"):
        prepare([photos / "A1"], out)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not output of"):
        prepare([photos], foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(UserError, match="is not output of"):
        prepare([photos], foreign / "thesis.tex")


def test_no_photos_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"no images found in .*photos"):
        prepare([tmp_path / "photos"], tmp_path / "out")
    with pytest.raises(UserError, match="no such file"):
        prepare([tmp_path / "absent"], tmp_path / "out")
    with pytest.raises(UserError, match="no images given"):
        prepare([], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_only_bad_files_are_an_error_that_counts_the_reasons(photos: Path, tmp_path: Path) -> None:
    for camera in CAMERAS:
        shutil.rmtree(photos / camera)
    (photos / "apart.JPG").unlink()
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"none of 4 files.*1 undecodable.*out.rejects.jsonl"):
        prepare([photos], out)
    assert not out.exists()
    assert leftovers(out) == []
    assert len((tmp_path / "out.rejects.jsonl").read_text().splitlines()) == 4


def test_one_burst_cannot_be_divided(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"one burst.*--validation-fraction 0"):
        prepare([photos / "A1/0.jpg", photos / "A1/1.jpg"], tmp_path / "out")
    # Nothing that was read is lost: the same command with the remedy goes on.
    report = prepare(
        [photos / "A1/0.jpg", photos / "A1/1.jpg"], tmp_path / "out", Options(validation_fraction=0)
    )
    assert list(report["splits"]) == ["train"]
    assert open_records(tmp_path / "out").splits == ("train",)


def test_several_sources_keep_their_paths_apart(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare([photos / "A1", photos / "B2"], out, Options(windows_per_photo=1))
    records = open_records(out)
    paths = {row["path"] for split in records.splits for row in decode_all(records, split)}
    assert paths == {f"{camera}/{i}.jpg" for camera in ("A1", "B2") for i in range(4)}


def test_copies_of_an_image_count_once(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "A1/0.jpg", photos / "zz_copy.jpg")
    edited = photos / "zz_edited.jpg"
    shutil.copy(photos / "A1/0.jpg", edited)
    piexif.insert(piexif.dump({"0th": {piexif.ImageIFD.Make: "Nikon"}}), str(edited))
    report = prepare([photos], tmp_path / "out")
    assert report["rejects"]["duplicate"] == 2
    rows = [json.loads(x) for x in (tmp_path / "out/rejects.jsonl").read_text().splitlines()]
    copies = [row for row in rows if row["reason"] == "duplicate"]
    assert [row["path"] for row in copies] == ["zz_copy.jpg", "zz_edited.jpg"]
    assert {row["detail"] for row in copies} == {"the same image as A1/0.jpg"}
    kept = tuple(set(Options().reject) - {"duplicate"})
    report = prepare([photos], tmp_path / "all", Options(reject=kept, validation_fraction=0.5))
    assert "duplicate" not in report["rejects"]
    records = open_records(tmp_path / "all")
    for split in records.splits:  # copies are one group, so on one side
        paths = {row["path"] for row in decode_all(records, split)}
        assert len(paths & {"A1/0.jpg", "zz_copy.jpg", "zz_edited.jpg"}) in (0, 3)


def test_archives_patterns_and_lists_are_sources_too(photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "c3.zip", "w") as archive:
        for path in sorted((photos / "C3").iterdir()):
            archive.write(path, f"C3/{path.name}")
    with tarfile.open(tmp_path / "b2.tar", "w") as tar:
        tar.add(photos / "B2", "B2")
    (tmp_path / "list.txt").write_text("photos/A1/0.jpg\nphotos/A1/gone.jpg\n")
    sources = [tmp_path / "c3.zip", tmp_path / "b2.tar", tmp_path / "list.txt", "A1/[12].jpg"]
    sources[3] = str(photos / "A1/[12].jpg")
    report = prepare(sources, tmp_path / "out", Options(windows_per_photo=1))
    assert (report["num_photos"], report["rejects"]) == (11, {"unreadable": 1})
    records = open_records(tmp_path / "out")
    paths = {row["path"] for split in records.splits for row in decode_all(records, split)}
    assert {"c3.zip/C3/0.jpg", "b2.tar/B2/3.jpg", "photos/A1/2.jpg"} <= paths


def test_sidecars_give_what_photos_lack(photos: Path, tmp_path: Path) -> None:
    rows = []
    for camera in CAMERAS:
        for path in sorted((photos / camera).iterdir()):
            piexif.remove(str(path))
            rows.append({"SourceFile": f"{camera}/{path.name}", "Make": "Leica", "FNumber": 4})
    sidecar = tmp_path / "exif.json"
    sidecar.write_text(json.dumps([*rows, {"SourceFile": "gone.jpg", "FNumber": 4}]))
    report = prepare([photos], tmp_path / "out", sidecars=[sidecar])
    assert report["num_photos"] == 13
    assert report["tags"]["FNumber"]["num"] == 13
    assert report["sidecars"]["files"] == [
        {"path": "exif.json", "kind": "exiftool", "num_entries": 13, "num_matched": 12}
    ]
    assert report["sidecars"]["num_unmatched"] == 1
    with pytest.raises(UserError, match="the sidecars differ"):
        prepare([photos], tmp_path / "out")
    sidecar.write_text("[{]")
    with pytest.raises(UserError, match=r"exif\.json.*not readable as JSON"):
        prepare([photos], tmp_path / "new", sidecars=[sidecar])
    sidecar.write_text(json.dumps([{"SourceFile": "gone.jpg", "FNumber": 4}]))
    with pytest.raises(UserError, match=r"exif\.json.*gone\.jpg"):
        prepare([photos], tmp_path / "new", sidecars=[sidecar])
    assert not (tmp_path / "new").exists()


def test_the_released_data_is_imported_as_it_is(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="the optional PyTorch is not installed")
    folder = tmp_path / "released"
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels, tensors = {}, {}
    for i in range(6):
        tensors[f"{i}.pkl"] = rng.integers(0, 256, (3, 256, 256), np.uint8)
        torch.save(torch.from_numpy(tensors[f"{i}.pkl"]), folder / f"{i}.pkl")
        row = [i % n if n else rng.uniform(1, 9) for n in RELEASED.values()]
        labels[f"{i}.jpg"] = [0, 0, 0, *row]
    torch.save({"not": "a tensor"}, folder / "other.pkl")
    (tmp_path / "exif_tags.json").write_text(json.dumps(labels))
    out = tmp_path / "out"
    report = prepare([folder], out, sidecars=[tmp_path / "exif_tags.json"])
    assert report["num_photos"] == 6
    assert sum(report["rejects"].values()) == 1
    records = open_records(out)
    for split in records.splits:
        labels_of_split = records.labels(split)
        for row, targets in zip(decode_all(records, split), labels_of_split, strict=True):
            name = str(row["path"])
            np.testing.assert_array_equal(row["image"], tensors[name].transpose(1, 2, 0))
            expected = np.float32(labels[name.replace("pkl", "jpg")][3:])
            np.testing.assert_array_equal(targets, expected)


def test_the_focal_length_is_the_configured_one(make_photo: MakePhoto, tmp_path: Path) -> None:
    both = {piexif.ExifIFD.FocalLengthIn35mmFilm: 75}
    for i in range(3):
        make_photo(f"photos/{i}.jpg", camera=both, seed=i, time=f"2022:05:01 1{i}:00:00")
    for kind, value in (("actual", 50.0), ("35mm", 75.0)):
        report = prepare([tmp_path / "photos"], tmp_path / kind, Options(focal_length=kind))
        assert report["tags"]["FocalLength"]["max"] == value


def test_rare_makes_and_models_are_other(photos: Path, tmp_path: Path) -> None:
    options = Options(validation_fraction=0, min_count=2, max_classes=2)
    prepare([photos], tmp_path / "out", options)
    targets = {target.name: target for target in open_records(tmp_path / "out").targets}
    assert targets["Make"].classes == ("Canon", "other")
    assert targets["Model"].classes == ("Canon A1", "Canon B2", "other")


def test_real_photos_are_all_accounted_for(real_data: Path, tmp_path: Path) -> None:
    folders = sorted((real_data / "dev/photos").iterdir())[:6]
    seen = sum(path.suffix == ".jpg" for folder in folders for path in folder.iterdir())
    report = prepare(folders, tmp_path / "out")
    assert report["num_photos"] + sum(report["rejects"].values()) == report["num_files"] == seen
    assert report["tags"]["Make"]["coverage"] == 1.0
    full = prepare([real_data / "dev/full/photos"], tmp_path / "full")
    assert full["num_windows"] > full["num_photos"] > 0
