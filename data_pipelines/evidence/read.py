"""All evidence of one file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from data_pipelines.evidence.camera import camera_evidence
from data_pipelines.evidence.credentials import c2pa_evidence
from data_pipelines.evidence.embedded import Embedded, read_embedded
from data_pipelines.evidence.generators import generator_evidence
from data_pipelines.evidence.item import Evidence, unreadable
from data_pipelines.evidence.source_type import source_type_evidence
from data_pipelines.exif import exif_of_image
from data_pipelines.images import ImageError, open_image, read_bytes


def read_evidence(path: str | Path, data: bytes | None = None) -> tuple[Evidence, ...]:
    """Reads what a file's metadata says of the picture's origin; never raises on a bad file.

    The evidence on camera EXIF comes first and is always there; the rest only where something was
    found. No pixel is decoded.

    Args:
        path: file, local or remote; not touched if `data` is given.
        data: the file's bytes, if they were read already.

    Returns:
        At least one piece.
    """
    try:
        data = read_bytes(path) if data is None else data
    except ImageError as error:
        return (unreadable("file", "The file", error),)
    found: list[Evidence] = []
    image, embedded = None, Embedded("")
    with _said(found, "camera_exif", "EXIF"):
        image = open_image(data)
        found.append(camera_evidence(exif_of_image(image), image))
    with _said(found, "limits", "Metadata"):
        embedded = read_embedded(data, image)
    with _said(found, "generator", "Texts"):
        found += generator_evidence(embedded.texts)
    with _said(found, "digital_source_type", "XMP"):
        found += source_type_evidence(embedded.texts)
    with _said(found, "c2pa", "C2PA metadata"):
        found += c2pa_evidence(data, embedded)
    if embedded.notes:
        text = f"Not all metadata was read: {'; '.join(embedded.notes)}."
        found.append(Evidence("limits", "nothing", text, {"notes": embedded.notes}))
    return tuple(found)


@contextlib.contextmanager
def _said(found: list[Evidence], kind: str, what: str) -> Iterator[None]:
    """Turns any failure of one kind into a sentence, so that it stops no other."""
    try:
        yield
    except Exception as error:
        found.append(unreadable(kind, what, error))
