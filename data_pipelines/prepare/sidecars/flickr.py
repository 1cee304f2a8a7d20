"""Responses of the Flickr API's method flickr.photos.getExif.

Old responses name fields by EXIF tag number and hold values as stored; new ones have exiftool's
names and printed values.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

from data_pipelines.exif import CAMERA_FIELDS, MAIN_FIELDS
from data_pipelines.prepare.sidecars.entries import Entry, entry_of
from data_pipelines.prepare.sidecars.exiftool import GROUPS, NAMES
from data_pipelines.prepare.sidecars.values import APEX, PHOTOGRAPHIC

_SPACES: Final = GROUPS | {"tiff"}
_BY_NUMBER: Final = {str(number): name for number, name in (MAIN_FIELDS | CAMERA_FIELDS).items()}

BY_ID: Final = True


def recognises(value: object) -> bool:
    """Whether a JSON value is a response, or the photo or the fields of one."""
    if _fields(value) is not None:
        return True
    return isinstance(value, dict) and value.get("stat") in ("ok", "fail")


def key_of(key: str | None, value: Any) -> str | None:
    """Returns the id of the photo that a response is of, None if it is a failure or malformed.

    The key is the id under which a file of several responses has it.
    """
    if _fields(value) is None:
        return None
    number: object = key
    if isinstance(value, dict):
        photo = value.get("photo")
        number = (photo if isinstance(photo, dict) else value).get("id", key)
    if isinstance(number, bool) or not isinstance(number, int | str):
        return ""
    return str(number)


def _fields(value: object) -> list[Any] | None:
    """Returns the list of fields of a response, of its photo, or of that list itself."""
    if isinstance(value, dict) and isinstance(value.get("photo"), dict):
        value = value["photo"]
    if isinstance(value, dict):
        value = value.get("exif")
        return value if isinstance(value, list) else None
    is_list = isinstance(value, list) and value and all(map(_is_field, value[:3]))
    return value if is_list else None  # type: ignore[return-value]


def _is_field(value: object) -> bool:
    return isinstance(value, dict) and "tagspace" in value and "tag" in value


def read(value: Any) -> Entry:
    """Reads the fields of a response."""
    return entry_of(itertools.chain.from_iterable(map(_values, _fields(value) or ())))


def _values(field: Any) -> Iterator[tuple[str, Any]]:
    """Yields what is read of one field: as it is stored, then as Flickr shows it."""
    if not _is_field(field) or str(field["tagspace"]).lower() not in _SPACES:
        return
    tag = str(field["tag"])
    name, readers = (_BY_NUMBER.get(tag), APEX) if tag.isdigit() else (NAMES.get(tag), PHOTOGRAPHIC)
    if name is not None:
        for key in ("raw", "clean"):
            yield name, readers[name](_content(field, key))


def _content(field: Mapping[str, Any], key: str) -> Any:
    value = field.get(key)
    return value.get("_content") if isinstance(value, dict) else value
