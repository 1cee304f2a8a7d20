"""From one photo to windows with tag values, or to the reason why it is of no use.

**Orientation is not applied.** A camera held upright stores the sensor's rows as they are and asks
viewers to turn them. Demosaicing, read-out noise and the 8x8 grid of the JPEG file are tied to the
sensor's rows, so turned pixels would show these traces mirrored or transposed, in some photos only.
Windows are cut at multiples of the coding blocks, so that each begins where a block begins.
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from PIL import Image

from data_pipelines.exif import Exif, capture_key, exif_of_image
from data_pipelines.images import WINDOW, ImageError, can_be_cropped, open_image, to_rgb
from data_pipelines.prepare.content_ids import content_id
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows
from data_pipelines.prepare.looks import BlockLook, Look, look_of_pixels
from data_pipelines.prepare.not_cameras import not_a_camera, pixel_size_differs
from data_pipelines.prepare.options import REASONS, Options
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.prepare.sidecars.sdaie import TENSOR_SUFFIX, read_tensor
from data_pipelines.prepare.window_quality import window_problem
from data_pipelines.skipped import format_counts
from data_pipelines.tags import parse_tags
from data_pipelines.targets import coded_values

ALIGNMENT: Final = 16
"""Windows start at multiples of this: JPEG codes colour in blocks of mostly 16 pixels."""

# Twice the windows that are wanted are tried, so that a sky or a wall costs no photo.
_TRIES: Final = 2
# Level 1 is within 10% of the size of the default level 6 at a quarter of its time.
_PNG_COMPRESSION: Final = 1

Corner = tuple[int, int]
Cut = Callable[[Sequence[Corner]], Iterable[tuple[np.ndarray, bytes | None]]]
"""Corners -> for each window its pixels, and its file if that is there already."""


@dataclasses.dataclass(frozen=True)
class Reject:
    """A file that is not used.

    Attributes:
        reason: one of `options.REASONS`.
        detail: one line for people.
        skipped: windows that were looked at in vain, by reason.
    """

    reason: str
    detail: str
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class PreparedPhoto:
    """A photo that can be used.

    Attributes:
        photo: id, the same for copies of an image only, see `content_ids`.
        camera: canonical make and model, empty if unknown. This, the time and the digest find
            bursts and are never stored in records.
        seconds: capture time by the camera's clock from an arbitrary origin, None if unknown.
        digest: hash of the EXIF block, 0 if there is none.
        values: valid tag values by name.
        width, height: of the stored pixels.
        size_differs: whether EXIF states another size.
        corners: (x, y) of each window, in raster order.
        windows: the files, JPEG or PNG.
        skipped: windows that were skipped, by reason.
        zone: seconds by which the camera's clock is ahead of UTC, None if unknown; earlier versions
            read none.
    """

    photo: int
    camera: str
    seconds: float | None
    digest: int
    values: Mapping[str, str | float]
    width: int
    height: int
    size_differs: bool
    corners: tuple[Corner, ...]
    windows: tuple[bytes, ...]
    skipped: Mapping[str, int]
    zone: float | None = None
    look: Look | None = None


def read_photo(
    data: bytes, options: Options, *, name: str = "", sidecar: Entry | None = None
) -> PreparedPhoto | Reject:
    """Reads a photo and cuts its windows; never raises on a bad file.

    By its name only a released tensor (.pkl) is told. What a sidecar says of the photo is used
    where the file itself has no usable EXIF.
    """
    try:
        return _read(data, options, name, sidecar)
    except ImageError as error:
        return rejected(error)
    except MemoryError:
        return Reject("out_of_memory", f"more than {options.memory_per_file} MiB needed")


def rejected(error: ImageError) -> Reject:
    """A file that cannot be read; one that wants too much memory for whatever reason, by that."""
    memory = isinstance(error.__cause__, MemoryError)
    return Reject("out_of_memory" if memory else error.reason, str(error))


def _read(
    data: bytes, options: Options, name: str, sidecar: Entry | None
) -> PreparedPhoto | Reject:
    coded = None if sidecar is None else sidecar.coded
    if coded is not None and name.endswith(TENSOR_SUFFIX):
        image = Image.fromarray(read_tensor(data))
    else:
        image = open_image(data, max_bytes=options.max_bytes, max_pixels=options.max_pixels)
    exif, values = _described(image, options, sidecar)
    if min(image.size) < options.min_side:
        size = f"{image.width} x {image.height} pixels"
        return Reject("too_small", f"{size}, at least {options.min_side} a side are wanted")
    size_differs = pixel_size_differs(exif.raw, *image.size)
    for reason, detail in _objections(exif, values, size_differs):
        if reason in options.reject:
            return Reject(reason, detail)
    blocks = _blocks(data, image, options)
    seen = BlockLook(image.size, _tables(image)) if blocks else None
    if blocks is None and not can_be_cropped(image):
        # Not always of the size that the header says: containers turn images.
        image = Image.fromarray(to_rgb(image))
    (width, height), (across, down) = image.size, blocks or (ALIGNMENT, ALIGNMENT)
    align = max(ALIGNMENT, across), max(ALIGNMENT, down)
    photo, count = content_id(data, image), options.windows_per_photo
    rng = np.random.default_rng([options.seed, photo])
    corners = choose_windows(width, height, _TRIES * count, rng, align=align)
    windows, skipped = _usable_windows(corners, _cut(data, image, seen), count)
    if not windows:
        detail = f"windows that were tried: {format_counts(skipped)}"
        return Reject("no_usable_window", detail, skipped)
    key = capture_key(exif, {} if coded is not None else values)
    return PreparedPhoto(
        photo=photo,
        camera=key.camera,
        seconds=None if key.time is None else key.time.seconds,
        digest=int(key.digest[:16], 16) >> 1 if key.digest else 0,
        values=values,
        width=width,
        height=height,
        size_differs=size_differs,
        corners=tuple(windows),
        windows=tuple(windows.values()),
        skipped=skipped,
        zone=None if key.time is None else key.time.zone,
        look=seen.look(len(data)) if seen else look_of_pixels(image, len(data)),
    )


def _described(
    image: Image.Image, options: Options, sidecar: Entry | None
) -> tuple[Exif, dict[str, str | float]]:
    """EXIF and tag values of a photo; a sidecar completes EXIF that has no usable value."""
    if sidecar is not None and sidecar.coded is not None:
        return Exif({}), coded_values(sidecar.coded)
    exif = exif_of_image(image)
    values = parse_tags(exif.raw, focal_length=options.focal_length)
    if sidecar is not None and not values:
        exif = Exif({**sidecar.raw, **exif.raw}, exif.digest)
        values = parse_tags(exif.raw, focal_length=options.focal_length)
    return exif, values


def _objections(
    exif: Exif, values: Mapping[str, str | float], size_differs: bool
) -> Iterator[tuple[str, str]]:
    """Yields what speaks against a photo: reasons that options can switch, with details."""
    if exif.problem:
        yield exif.problem, REASONS[exif.problem]
    if (maker := not_a_camera(exif.raw)) is not None:
        yield "not_a_camera", maker
    if not values:
        yield "no_tags", "EXIF without one valid value of a tag that is learned"
    if size_differs:
        stated = " x ".join(str(exif.raw.get(f"Pixel{axis}Dimension")) for axis in "XY")
        yield "size_mismatch", f"EXIF states {stated} pixels: resized or cropped"


def _blocks(data: bytes, image: Image.Image, options: Options) -> Corner | None:
    """The coding blocks that are moved instead of decoding an image, None if it is decoded."""
    return block_size(data) if options.encoding == "dct" and image.format == "JPEG" else None


def _tables(image: Image.Image) -> list[Sequence[int]]:
    """The quantisation tables of Y, Cb, Cr of an opened JPEG file.

    One that a damaged file lacks is made up: cutting windows will say what is wrong.
    """
    tables, layers = image.quantization, image.layer[:3]  # type: ignore[attr-defined]
    return [tables.get(number, (1,) * 64) for *_, number in layers]


def _cut(data: bytes, image: Image.Image, seen: BlockLook | None) -> Cut:
    """Returns what cuts windows: by moving the blocks of a JPEG file, or by decoding."""
    if seen is not None:
        return lambda corners: _transplanted(data, corners, seen)
    return lambda corners: _decoded(image, corners)


def _transplanted(
    data: bytes, corners: Sequence[Corner], seen: BlockLook
) -> Iterator[tuple[np.ndarray, bytes]]:
    for window in cut_windows(data, corners, WINDOW, seen.visit):
        with Image.open(io.BytesIO(window), formats=("JPEG",)) as decoded:
            yield np.asarray(decoded), window


def _decoded(image: Image.Image, corners: Sequence[Corner]) -> Iterator[tuple[np.ndarray, None]]:
    for x, y in corners:
        yield to_rgb(image, (x, y, x + WINDOW, y + WINDOW)), None


def _usable_windows(
    corners: Sequence[Corner], cut: Cut, count: int
) -> tuple[dict[Corner, bytes], dict[str, int]]:
    """Cuts windows until enough can be used: their files by corner, in raster order.

    The second are the windows that were skipped, by reason.
    """
    skipped: Counter[str] = Counter()
    usable: dict[Corner, bytes] = {}
    for corner, (pixels, window) in zip(corners, cut(corners), strict=True):
        if problem := window_problem(pixels):
            skipped[problem] += 1
            continue
        if window is None:
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG", compress_level=_PNG_COMPRESSION)
            window = file.getvalue()
        usable[corner] = window
        if len(usable) == count:
            break
    return dict(sorted(usable.items(), key=lambda item: item[0][::-1])), dict(skipped)


def choose_windows(
    width: int,
    height: int,
    count: int,
    rng: np.random.Generator,
    *,
    align: Corner = (ALIGNMENT, ALIGNMENT),
) -> list[Corner]:
    """Chooses windows that do not overlap, at corners aligned to the coding blocks.

    The windows, at most `count`, are cells of a grid that is shifted at random, as far as no row or
    column is lost. Their corners (x, y), multiples of the divisors `align` of `WINDOW`, come in
    random order.
    """
    columns, rows = width // WINDOW, height // WINDOW
    left = align[0] * int(rng.integers((width % WINDOW) // align[0] + 1))
    top = align[1] * int(rng.integers((height % WINDOW) // align[1] + 1))
    cells = rng.choice(columns * rows, size=min(count, columns * rows), replace=False)
    return [
        (left + WINDOW * (cell % columns), top + WINDOW * (cell // columns))
        for cell in cells.tolist()
    ]


def to_row(result: PreparedPhoto | Reject) -> dict[str, Any]:
    """Returns everything but the windows' bytes, for JSON; of the windows, their sizes."""
    row = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    if isinstance(result, Reject):
        return {"reject": row}
    look = result.look and dataclasses.asdict(result.look)
    return {"photo": {**row, "windows": [len(window) for window in result.windows], "look": look}}


def from_row(row: Mapping[str, Any], windows: bytes | memoryview) -> PreparedPhoto | Reject:
    """Reads what `to_row` wrote, given the bytes of the photo's windows one after the other."""
    if "reject" in row:
        return Reject(**row["reject"])
    photo, start, files = row["photo"], 0, []
    for size in photo["windows"]:
        files.append(bytes(windows[start : start + size]))
        start += size
    corners = tuple((x, y) for x, y in photo["corners"])
    look = Look(**photo["look"]) if photo.get("look") else None
    return PreparedPhoto(**{**photo, "corners": corners, "windows": tuple(files), "look": look})


def sizes_of_windows(row: Mapping[str, Any]) -> Sequence[int]:
    """Bytes of each window of a row."""
    sizes: Sequence[int] = row.get("photo", {}).get("windows", ())
    return sizes
