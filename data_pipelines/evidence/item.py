"""One piece of evidence, as it is printed and stored."""

import dataclasses
from typing import Any, Final, Literal

from data_pipelines.camera_names import clean_text

Claim = Literal["photo", "generated", "nothing"]
MAX_QUOTE: Final = 200
"""Longest text of a file that is repeated."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What one part of the metadata says.

    Attributes:
        kind: "camera_exif", "generator", "digital_source_type", "c2pa", "limits" (a part was left
            unread) or "file" (nothing could be read).
        says: what that part claims the picture to be.
        text: one sentence for people. Words of the file are in it as they are, without control
            characters; who prints it escapes it.
        details: a few JSON values.
    """

    kind: str
    says: Claim
    text: str
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns it as a JSON object."""
        return dataclasses.asdict(self)


def quote(text: object, limit: int = MAX_QUOTE) -> str:
    """Returns the beginning of a text on one line, without control characters."""
    if isinstance(text, str):
        text = text[: 4 * limit].replace("\0", " ")
    return clean_text(text, max_length=limit) or ""


def unreadable(kind: str, what: str, error: Exception) -> Evidence:
    """Returns the evidence that stands for a part that could not be read."""
    text = f"{what} could not be read: {quote(str(error)) or type(error).__name__}."
    return Evidence(kind, "nothing", text, {"error": type(error).__name__})
