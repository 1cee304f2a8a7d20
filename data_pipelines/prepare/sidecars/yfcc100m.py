"""The EXIF list of YFCC100M: a line for each photo, its id, a tab and all fields.

Fields are separated by commas, a field's key and value by a colon, the category and the name in a
key by a period, and each of these is URL-encoded: "Exif+SubIFD.Focal+Length:50.0+mm". The list was
printed by metadata-extractor; Flickr's labels without a category are understood as well.
"""

import re
import urllib.parse
from typing import Final

from data_pipelines.prepare.sidecars.entries import Entry, entry_of
from data_pipelines.prepare.sidecars.exiftool import NAMES
from data_pipelines.prepare.sidecars.values import APEX, normalise

_CATEGORIES: Final = frozenset({"exif", "exifsubifd", "exififd0", "exififd", "ifd0", "tiff"})
# Labels, normalised -> EXIF name, where they differ, beside those of exiftool.
_LABELS: Final = {
    "aperture": "FNumber",
    "cameramake": "Make",
    "cameramodel": "Model",
    "cameramodelname": "Model",
    "dateandtimedigitized": "DateTimeDigitized",
    "dateandtimeoriginal": "DateTimeOriginal",
    "exposure": "ExposureTime",
    "exposurebias": "ExposureBiasValue",
    "focallength35": "FocalLengthIn35mmFilm",
    "focallength35mm": "FocalLengthIn35mmFilm",
    "manufacturer": "Make",
    "maxaperture": "MaxApertureValue",
    "maximumaperture": "MaxApertureValue",
    "maximumlensaperture": "MaxApertureValue",
    "shutterspeed": "ShutterSpeedValue",
    "whitebalancemode": "WhiteBalance",
}
_NAMES: Final = {normalise(name): field for name, field in NAMES.items()} | _LABELS
# Flickr labels the plain ISO number so; the EXIF field of that name is rare.
_NAMES["isospeed"] = "PhotographicSensitivity"
# metadata-extractor calls the light source "White Balance".
_LIGHT_SOURCE: Final = "whitebalance"

_LINE = re.compile(r"([0-9]{1,20})\t(.*)", re.DOTALL)
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

BY_ID: Final = True


def recognises(line: str) -> bool:
    """Whether a line holds a wanted field."""
    return key_of(None, line) is not None and bool(read(line).raw)


def key_of(key: str | None, line: str) -> str | None:
    """Returns the id of the photo that a line is of, None if it is malformed."""
    match = _LINE.fullmatch(line)
    return match[1] if match else None


def read(line: str) -> Entry:
    """Reads the fields of a line, with or without the id."""
    match = _LINE.fullmatch(line)
    pairs = (pair.partition(":") for pair in (match[2] if match else line).split(","))
    named = ((_field(key), text) for key, colon, text in pairs if colon)
    return entry_of((field, APEX[field](_decode(text))) for field, text in named if field)


def _field(key: str) -> str | None:
    category, period, name = key.partition(".")
    if period and normalise(_decode(category)) in _CATEGORIES:
        label = normalise(_decode(name))
        return None if label == _LIGHT_SOURCE else _NAMES.get(label)
    return _NAMES.get(normalise(_decode(key)))


def _decode(text: str) -> str:
    text = urllib.parse.unquote_plus(text)
    # Should a copy be encoded twice: no wanted value has such a sequence of its own.
    return urllib.parse.unquote_plus(text) if _ESCAPE.search(text) else text
