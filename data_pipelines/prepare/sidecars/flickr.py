"""Responses of the Flickr API's method flickr.photos.getExif.

Old responses name fields by EXIF tag number and hold values as stored; new ones have exiftool's
names and printed values.
"""

from collections.abc import Mapping
from typing import Any, Final

from data_pipelines.exif import CAMERA_FIELDS, MAIN_FIELDS
from data_pipelines.prepare.sidecars.entries import Entry, Item
from data_pipelines.prepare.sidecars.exiftool import GROUPS, NAMES
from data_pipelines.prepare.sidecars.values import APEX, PHOTOGRAPHIC

_SPACES: Final = GROUPS | {"tiff"}
_BY_NUMBER: Final = {str(number): name for number, name in (MAIN_FIELDS | CAMERA_FIELDS).items()}


def recognises(value: object) -> bool:
    """Whether a JSON value is a response, or the photo or the fields of one."""
    if _fields(value) is not None:
        return True
    return isinstance(value, dict) and value.get("stat") in ("ok", "fail")


def item(key: str | None, value: object) -> Item | None:
    """Returns the entry of a response, None if it is a failure or malformed.

    Args:
      key: The id under which a file of several responses has it.
      value: The response.
    """
    fields = _fields(value)
    if fields is None:
        return None
    number: object = key
    if isinstance(value, dict):
        photo = value.get("photo")
        number = (photo if isinstance(photo, dict) else value).get("id", key)
    if isinstance(number, bool) or not isinstance(number, int | str):
        number = ""
    return Item(str(number), fields)


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


def read(body: list[Any]) -> Entry:
    """Reads the fields of a response."""
    raw: dict[str, Any] = {}
    for field in body:
        if not _is_field(field) or str(field["tagspace"]).lower() not in _SPACES:
            continue
        tag = str(field["tag"])
        name, readers = (
            (_BY_NUMBER.get(tag), APEX) if tag.isdigit() else (NAMES.get(tag), PHOTOGRAPHIC)
        )
        if name is None or name in raw:
            continue
        for text in (_content(field, "raw"), _content(field, "clean")):
            value = readers[name](text)
            if value is not None:
                raw[name] = value
                break
    return Entry(raw)


def _content(field: Mapping[str, Any], key: str) -> Any:
    value = field.get(key)
    return value.get("_content") if isinstance(value, dict) else value
