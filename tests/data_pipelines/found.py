"""What sources give, in short: for the tests of finding and reading files."""

from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.items import Item
from data_pipelines.sources import find_files, read_item

LIMIT = 10**6


def write(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(path.name.encode("utf-8", "surrogateescape") if data is None else data)
    return path


def find_items(sources, **kwargs) -> list[Item]:
    return find_files(sources, **kwargs).items


def names(*sources, **kwargs) -> list[str]:
    return [item.name for item in find_items(sources, **kwargs)]


def contents(*sources) -> dict[str, bytes]:
    return {item.name: read_item(item, max_bytes=LIMIT) for item in find_items(sources)}


def reason(item: Item, max_bytes: int = LIMIT) -> str:
    with pytest.raises(ImageError) as caught:
        read_item(item, max_bytes=max_bytes)
    return caught.value.reason


def refusal(*sources) -> str:
    with pytest.raises(UserError) as caught:
        find_items(sources)
    message = str(caught.value)
    assert "\n" not in message
    return message
