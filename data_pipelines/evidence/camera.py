"""Whether EXIF names a camera and its settings, and whether that fits the picture."""

import functools
import io
from collections.abc import Iterator, Mapping
from typing import Any, Final

from PIL import Image

from data_pipelines.evidence.item import Evidence, quote
from data_pipelines.exif import Exif
from data_pipelines.prepare.not_cameras import not_a_camera, pixel_size_differs
from data_pipelines.tags import Value, parse_tags

_KIND: Final = "camera_exif"
_PROBLEMS: Final = {
    "damaged_exif": "EXIF is damaged and could not be read.",
    "exif_too_large": "EXIF is larger than any camera's and was not read.",
}
_CAMERA_FORMATS: Final = frozenset({"JPEG", "HEIF", "AVIF", "TIFF"})
Table = tuple[int, ...]


def camera_evidence(exif: Exif, image: Image.Image) -> Evidence:
    """Returns what EXIF says of a camera; for every image, as its absence is worth knowing too.

    It says "photo" where EXIF names a camera and an exposure setting, also where the picture was
    resized or coded anew since, and "nothing" where a program names itself as the file's writer.

    Args:
        exif: what `exif_of_image` read.
        image: opened, for its size, format and quantisation tables.
    """
    details: dict[str, Any] = {"size": list(image.size), "format": image.format or ""}
    coding = ""
    tables = getattr(image, "quantization", None)
    if tables:
        quality = standard_quality(tables)
        details["standard_quality"] = quality
        coding = (
            " Its quantisation tables are not the standard ones."
            if quality is None
            else f" Its quantisation tables are the standard ones of quality {quality}, as most "
            "programs and some cameras use."
        )
    if exif.problem in _PROBLEMS:
        return Evidence(_KIND, "nothing", _PROBLEMS[exif.problem], details | {"status": "unread"})
    values = parse_tags(exif.raw)
    if not values:
        text = "No camera EXIF." + coding
        return Evidence(_KIND, "nothing", text, details | {"status": "absent"})
    camera = quote(values.get("Model") or values.get("Make") or "", 64)
    exposure = _exposure(values)
    problems = list(_problems(exif, image, camera, exposure))
    text = f"EXIF names a camera, {camera}" if camera else "EXIF has settings of a camera"
    text += f", and its settings, {', '.join(exposure)}" if exposure else ""
    if problems:
        text += f"; but {'; '.join(problems)}."
    elif {"PixelXDimension", "PixelYDimension"} <= exif.raw.keys():
        text += "; the size that it states is the picture's."
    else:
        text += "; it states no size to compare."
    details |= {
        "status": "inconsistent" if problems else "consistent",
        "camera": camera,
        "exposure": exposure,
        "problems": problems,
    }
    is_claimed = bool(camera and exposure) and not_a_camera(exif.raw) is None
    return Evidence(_KIND, "photo" if is_claimed else "nothing", text + coding, details)


def _exposure(values: Mapping[str, Value]) -> list[str]:
    """What a camera writes of every exposure, as people write it."""
    time, number, iso = (values.get(tag) for tag in ("ExposureTime", "FNumber", "ISO"))
    shown = []
    if isinstance(time, float):
        shown.append(f"{time:.3g} s" if time > 0.3 else f"1/{1 / time:.0f} s")
    if isinstance(number, float):
        shown.append(f"f/{number:.3g}")
    if isinstance(iso, float):
        shown.append(f"ISO {iso:.0f}")
    return shown


def _problems(exif: Exif, image: Image.Image, camera: str, exposure: list[str]) -> Iterator[str]:
    """Yields what does not fit a file as a camera wrote it."""
    if (writer := not_a_camera(exif.raw)) is not None:
        yield f"another source of the file is named too ({writer})"
    if not camera:
        yield "no camera is named"
    if not exposure:
        yield "exposure time, aperture and ISO are missing"
    if pixel_size_differs(exif.raw, *image.size):
        stated = " x ".join(quote(str(exif.raw[f"Pixel{axis}Dimension"]), 16) for axis in "XY")
        actual = " x ".join(map(str, image.size))
        yield f"EXIF states {stated} pixels, the picture has {actual} (cropped or resized since)"
    if image.format not in _CAMERA_FORMATS:
        yield f"cameras do not write {image.format} (converted since)"


def standard_quality(tables: Mapping[int, Any]) -> int | None:
    """Returns the quality at which libjpeg writes exactly these quantisation tables, or None."""
    return standard_tables().get(tuple(tuple(tables[key]) for key in sorted(tables)[:2]))


@functools.cache
def standard_tables() -> dict[tuple[Table, ...], int]:
    """Quality by tables: of colour and of grey images, as libjpeg itself writes them."""
    found: dict[tuple[Table, ...], int] = {}
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        tables = Image.open(file, formats=("JPEG",)).quantization  # type: ignore[attr-defined]
        both = tuple(tuple(tables[key]) for key in sorted(tables))
        found |= {both: quality, both[:1]: quality}
    return found
