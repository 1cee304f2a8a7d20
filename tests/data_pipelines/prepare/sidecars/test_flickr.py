"""Responses of the Flickr API, of both generations."""

import json

import pytest

from data_pipelines.errors import UserError
from data_pipelines.prepare.sidecars import load_sidecars
from data_pipelines.tags import parse_tags

ID, NAME = "6110054503", "6110054503_d26fce212e_o.jpg"


def field(space, tag, raw, clean=None):
    out = {"tagspace": space, "tagspaceid": 0, "tag": tag, "label": "", "raw": {"_content": raw}}
    return out if clean is None else out | {"clean": {"_content": clean}}


NEW = [
    field("JFIF", "ResolutionUnit", "None"),
    field("IFD0", "Make", "Canon"),
    field("IFD0", "Model", "Canon EOS 20D"),
    field("IFD0", "Artist", "Jane Doe"),
    field("ExifIFD", "ExposureTime", "1/60", "0.017 sec (1/60)"),
    field("ExifIFD", "FNumber", 2.8, "f/2.8"),
    field("ExifIFD", "ISO", 100),
    field("ExifIFD", "Flash", "Off, Did not fire", 16),
    field("ExifIFD", "FocalLength", "30.0 mm", "30 mm"),
    field("ExifIFD", "ExposureCompensation", "-1/3", "-1/3 EV"),
    field("ExifIFD", "MaxApertureValue", 2.8),
    field("ExifIFD", "MeteringMode", "Multi-segment"),
    field("ExifIFD", "ExposureMode", "Auto"),
    field("ExifIFD", "WhiteBalance", "Auto"),
    field("ExifIFD", "SceneCaptureType", "Standard"),
    field("ExifIFD", "SerialNumber", "SN-4711"),
    field("MakerNotes", "ISO", 1),
    field("XMP-exif", "FocalLengthIn35mmFormat", 1),
    field("GPS", "GPSLatitude", "52"),
]
OLD = [
    field("TIFF", 271, "Canon"),
    field("TIFF", "272", "Canon EOS 20D"),
    field("EXIF", "33434", "10/600", "0.017 sec (1/60)"),
    field("EXIF", 33437, "28/10", "f/2.8"),
    field("EXIF", "34855", "100"),
    field("EXIF", "37385", "16", "Flash did not fire, compulsory flash mode"),
    field("EXIF", "37386", "30/1", "30 mm"),
    field("EXIF", "37380", "-1/3", "-1/3 EV"),
    field("EXIF", "37381", "2970854/1000000"),
    field("EXIF", "37383", "5"),
    field("EXIF", "41986", "0"),
    field("EXIF", "41987", "0"),
    field("EXIF", "41990", "0"),
    field("EXIF", "37500", "maker note"),
    field("GPS", "34855", "1"),
]
EXPECTED = {
    "Make": "Canon", "Model": "Canon EOS 20D", "ExposureTime": 1 / 60, "FNumber": 2.8, "ISO": 100.0,
    "Flash": "not_fired", "FocalLength": 30.0, "ExposureBiasValue": -1 / 3,
    "MaxApertureValue": 2.970854, "MeteringMode": "pattern", "ExposureMode": "auto",
    "WhiteBalance": "auto", "SceneCaptureType": "standard",
}  # fmt: skip


def response(fields, number=ID):
    return {"photo": {"id": number, "secret": "zz", "camera": "", "exif": fields}, "stat": "ok"}


@pytest.mark.parametrize("fields", [NEW, OLD], ids=["named", "numbered"])
def test_values(write, fields):
    sidecars = load_sidecars([write("a.json", response(fields))], [NAME])
    assert parse_tags(sidecars.entries[NAME].raw) == pytest.approx(EXPECTED)
    text = json.dumps(sidecars.entries[NAME].raw)
    assert not any(secret in text for secret in ("Jane", "SN-4711", "maker", "52"))


@pytest.mark.parametrize(
    "content",
    [
        response(NEW, int(ID)),
        [response(NEW), {"stat": "fail", "code": 2}],
        [{"stat": "fail"}, response(NEW)["photo"]],
        {ID: response(NEW), "7": {"stat": "fail"}},
        {"7": {"stat": "fail"}, ID: NEW},
        json.dumps(response(NEW)) + "\n" + json.dumps({"stat": "fail"}) + "\n{broken\n",
        "\ufeff" + json.dumps(response(NEW)),
    ],
    ids=["one", "list", "photos", "object", "fields", "lines", "bom"],
)
def test_containers(write, content):
    sidecars = load_sidecars([write("a.json", content)], ["x/" + NAME, "other.jpg"])
    assert sidecars.entries.keys() == {"x/" + NAME}
    assert sidecars.files[0].kind == "flickr" and sidecars.files[0].num_matched == 1
    assert sidecars.num_unmatched == 0


def test_clean_is_the_fallback(write):
    fields = [field("ExifIFD", "ExposureTime", None, "0.017 sec (1/60)"), 5, {"tag": "ISO"}]
    fields += [{"tagspace": "ExifIFD", "tag": "FNumber", "raw": "", "clean": {"_content": "f/2.8"}}]
    raw = load_sidecars([write("a.json", response(fields))], [NAME]).entries[NAME].raw
    assert raw == {"ExposureTime": "1/60", "FNumber": "2.8"}


def test_only_failures(write):
    with pytest.raises(UserError, match="none of its 1 entries is about"):
        load_sidecars([write("a.json", {"stat": "fail", "code": 2})], [NAME])
