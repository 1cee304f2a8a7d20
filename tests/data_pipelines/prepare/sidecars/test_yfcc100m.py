"""Lines of YFCC100M."""

import bz2
import gzip
import json

import pytest

from data_pipelines.errors import UserError
from data_pipelines.prepare.sidecars import load_sidecars
from data_pipelines.prepare.sidecars.yfcc100m import read
from data_pipelines.tags import parse_tags
from data_pipelines.targets import RELEASED

LINE = (
    "6110054503\tExif+IFD0.Make:NIKON+CORPORATION,Exif+IFD0.Model:NIKON+D750,"
    "Exif+IFD0.Artist:Jane+Doe,Exif+SubIFD.Exposure+Time:1%2F60+sec,Exif+SubIFD.F-Number:F2.8,"
    "Exif+SubIFD.ISO+Speed+Ratings:400,Exif+SubIFD.Date%2FTime+Original:2009%3A05%3A01+10%3A00%3A00,"
    "Exif+SubIFD.Shutter+Speed+Value:1%2F64+sec,Exif+SubIFD.Aperture+Value:F4,"
    "Exif+SubIFD.Brightness+Value:-5%2F4,Exif+SubIFD.Exposure+Bias+Value:1%2F3+EV,"
    "Exif+SubIFD.Max+Aperture+Value:f%2F2.8,Exif+SubIFD.Metering+Mode:Multi-segment,"
    "Exif+SubIFD.White+Balance:Unknown,Exif+SubIFD.Flash:Flash+fired%2C+return+detected%2C+auto,"
    "Exif+SubIFD.Focal+Length:50.0+mm,Exif+SubIFD.Focal+Length+35:75mm,"
    "Exif+SubIFD.Exif+Image+Width:3008+pixels,Exif+SubIFD.File+Source:Digital+Still+Camera+%28DSC%29,"
    "Exif+SubIFD.Exposure+Mode:Auto+exposure,Exif+SubIFD.White+Balance+Mode:Manual+white+balance,"
    "Exif+SubIFD.Scene+Capture+Type:Night+scene,Nikon+Makernote.ISO:1,GPS.GPS+Latitude:52,"
    "Exif+Thumbnail.Make:Other,Exif+SubIFD.Body+Serial+Number:SN-4711"
)
NAME = "6110054503_d26fce212e_o.jpg"


def test_values():
    raw = read(LINE).raw
    values = parse_tags(raw)
    assert values.keys() == RELEASED.keys()
    assert values == pytest.approx(
        {
            "Make": "Nikon", "Model": "Nikon D750", "ExposureTime": 1 / 60, "FNumber": 2.8,
            "ISO": 400.0, "BrightnessValue": -1.25, "ExposureBiasValue": 1 / 3,
            "MaxApertureValue": 2.970854, "MeteringMode": "pattern", "Flash": "fired",
            "FocalLength": 50.0, "ExposureMode": "auto", "WhiteBalance": "manual",
            "SceneCaptureType": "night",
        }
    )  # fmt: skip
    assert raw["DateTimeOriginal"] == "2009:05:01 10:00:00"
    assert (raw["ApertureValue"], raw["ShutterSpeedValue"]) == (4.0, 6.0)
    assert (raw["FocalLengthIn35mmFilm"], raw["PixelXDimension"]) == ("75", "3008")
    assert (raw["FileSource"], raw["Flash"]) == (3, 0x1F)
    assert not any(secret in json.dumps(raw) for secret in ("Jane", "4711", "52"))


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        ("Camera+Make:Canon", {"Make": "Canon"}),
        ("Exposure:0.017+sec+%281%2F60%29", {"ExposureTime": "1/60"}),
        ("Exposure:0.017+sec+(1/60)", {"ExposureTime": "1/60"}),
        ("Exposure.Time:1%252F60", {"ExposureTime": "1/60"}),
        ("Aperture:f/4.9", {"FNumber": "4.9"}),
        ("Aperture:28/10", {"FNumber": "28/10"}),
        ("ISO+Speed:100", {"PhotographicSensitivity": "100"}),
        ("Exposure+Bias:0+EV", {"ExposureBiasValue": "0"}),
        ("Maximum+Lens+Aperture:297/100", {"MaxApertureValue": "297/100"}),
        ("Max+Aperture+Value:f/4", {"MaxApertureValue": 4.0}),
        ("White+Balance:Auto", {"WhiteBalance": 0}),
        (
            "Date+and+Time+%28Original%29:2009:05:01 10:00:00",
            {"DateTimeOriginal": "2009:05:01 10:00:00"},
        ),
        ("Flash:Flash+did+not+fire%2C+auto+mode", {"Flash": 0x18}),
        ("Flash:Flash+did+not+fire%2C+compulsory+flash+mode", {"Flash": 0x10}),
        ("Flash:Flash+did+not+fire", {"Flash": 0}),
        ("Exif+SubIFD.Flash:Flash+did+not+fire%2C+auto", {}),  # off or auto, not known which
        ("Canon+Makernote.Exposure+Time:1", {}),
        ("ISO", {}),
        (":,::,%:%zz", {}),
    ],
)
def test_labels(pair, expected):
    assert read(pair).raw == expected


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
def test_file(write, suffix):
    lines = ["1\t", "no tab", LINE, "72157\tIso:5", "6110054504\t", ""]
    data = "\n".join(lines).encode()
    data = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[suffix](data)
    path = write(f"yfcc100m_exif{'.txt' if suffix == '.gz' else ''}{suffix}", data)
    sidecars = load_sidecars([path], [NAME, "6110054504.jpg"])
    assert sidecars.entries.keys() == {NAME, "6110054504.jpg"}
    assert sidecars.files[0].kind == "yfcc100m"
    assert (sidecars.files[0].num_entries, sidecars.files[0].num_matched) == (5, 2)
    assert sidecars.num_unmatched == 2 and sidecars.unmatched == ["1", "72157"]


@pytest.mark.parametrize("suffix", [".gz", ".bz2"])
def test_damaged_compression(write, suffix):
    data = {".gz": gzip.compress, ".bz2": bz2.compress}[suffix](LINE.encode() * 99)
    for damaged in (data[:-20], data[:20] + b"xxxx" + data[24:], b"text"):
        with pytest.raises(UserError, match="cannot be read"):
            load_sidecars([write("a.txt" + suffix, damaged)], [NAME])
