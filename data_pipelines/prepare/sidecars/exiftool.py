"""What `exiftool -json` writes, with or without -n, -G, -G1, -g, -g1 or -l.

exiftool gives apertures as f-numbers and shutter speeds as seconds, also with -n.
"""

from collections.abc import Iterator
from typing import Any, Final

from data_pipelines.prepare.sidecars.entries import Entry, entry_of
from data_pipelines.prepare.sidecars.values import FIELDS, PHOTOGRAPHIC

# exiftool's name -> EXIF name, where they differ.
_RENAMED: Final = {
    "CreateDate": "DateTimeDigitized",
    "ExifImageHeight": "PixelYDimension",
    "ExifImageWidth": "PixelXDimension",
    "ExposureCompensation": "ExposureBiasValue",
    "FocalLengthIn35mmFormat": "FocalLengthIn35mmFilm",
    "ISO": "PhotographicSensitivity",
    "ISOSpeedRatings": "PhotographicSensitivity",
}
NAMES: Final = {field: field for field in FIELDS} | _RENAMED
"""EXIF name by the name that exiftool, and Flickr through it, gives a field."""
GROUPS: Final = frozenset({"exif", "ifd0", "exififd"})
"""Groups of EXIF proper. Others hold the same names: maker notes, XMP, what exiftool derives."""

BY_ID: Final = False


def recognises(value: object) -> bool:
    """Whether a JSON value is what exiftool says of one file."""
    return key_of(None, value) is not None


def key_of(key: str | None, value: Any) -> str | None:
    """Returns the file that an entry is of, None if it is malformed."""
    file = value.get("SourceFile") if isinstance(value, dict) else None
    return file if isinstance(file, str) else None


def read(value: dict[str, Any]) -> Entry:
    """Reads the fields of one file."""
    named = ((NAMES[key], value) for key, value in _ungrouped(value) if key in NAMES)
    return entry_of((field, PHOTOGRAPHIC[field](_value(value))) for field, value in named)


def _ungrouped(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields names and values of EXIF proper, or of no group at all."""
    for key, value in body.items():
        *groups, name = key.split(":")
        if not all(group.lower() in GROUPS for group in groups):
            continue
        if name.lower() in GROUPS and isinstance(value, dict):  # -g nests instead
            yield from value.items()
        else:
            yield name, value


def _value(value: Any) -> Any:
    """Returns the number of a value in long form (-l), else the value."""
    return value.get("num", value.get("val")) if isinstance(value, dict) else value
