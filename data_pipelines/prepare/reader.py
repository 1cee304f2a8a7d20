"""From one photo to windows with tag values, or to the reason why it is of no use.

**Orientation is not applied.** A camera held upright stores the sensor's rows as they are and asks
viewers to turn them. Demosaicing, read-out noise and the 8x8 grid of the JPEG file are tied to the
sensor's rows, so turned pixels would show these traces mirrored or transposed, in some photos only.
Windows are cut at multiples of the coding blocks, so that each begins where a block begins.
"""

import dataclasses
import functools
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.exif import Exif, capture_key, exif_of_image
from data_pipelines.images import WINDOW, ImageError, can_be_cropped, open_image, to_rgb
from data_pipelines.prepare.jpeg_windows import block_size, cut_windows
from data_pipelines.prepare.not_cameras import not_a_camera, pixel_size_differs
from data_pipelines.prepare.options import REASONS, Options
from data_pipelines.prepare.sidecars import Entry
from data_pipelines.prepare.sidecars.sdaie import TENSOR_SUFFIX, read_tensor
from data_pipelines.prepare.window_quality import window_problem
from data_pipelines.tags import parse_tags
from data_pipelines.targets import coded_values

ALIGNMENT: Final = 16
"""Windows start at multiples of this: JPEG codes colour in blocks of mostly 16 pixels."""

# Twice the windows that are wanted are tried, so that a sky or a wall costs no photo.
_TRIES: Final = 2
# Level 1 is within 10% of the size of the default level 6 at a quarter of its time.
_PNG_COMPRESSION: Final = 1


@dataclasses.dataclass(frozen=True)
class Reject:
    """A file that is not used.

    Attributes:
      reason: One of `options.REASONS`.
      detail: One line for people.
      skipped: Windows that were looked at in vain, by reason.
    """

    reason: str
    detail: str
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo that can be used.

    Attributes:
      photo: Id, from the image data without metadata: the same for copies of an image.
      camera: Canonical make and model, empty if unknown. This, the time and the digest find bursts
        and are never stored in records.
      seconds: Capture time from an arbitrary origin, None if unknown.
      digest: Hash of the EXIF block, 0 if there is none.
      values: Valid tag values by name.
      width: Of the stored pixels.
      height: Of the stored pixels.
      size_differs: Whether EXIF states another size.
      corners: (x, y) of each window, in raster order.
      windows: The files, JPEG or PNG.
      skipped: Windows that were skipped, by reason.
    """

    photo: int
    camera: str
    seconds: float | None
    digest: int
    values: Mapping[str, str | float]
    width: int
    height: int
    size_differs: bool
    corners: tuple[tuple[int, int], ...]
    windows: tuple[bytes, ...]
    skipped: Mapping[str, int]


def read_photo(
    data: bytes, options: Options, *, name: str = "", sidecar: Entry | None = None
) -> Photo | Reject:
    """Reads a photo and cuts its windows; never raises on a bad file.

    Args:
      data: The file.
      options: Which photos, which windows.
      name: Of the file; only released tensors (.pkl) are told by it.
      sidecar: What another file says of the photo; used where the file itself has no usable EXIF.
    """
    try:
        return _read(data, options, name, sidecar)
    except ImageError as error:
        memory = isinstance(error.__cause__, MemoryError)
        return Reject("out_of_memory" if memory else error.reason, str(error))
    except MemoryError:
        return Reject("out_of_memory", f"more than {options.memory_per_file} MiB needed")


def _read(data: bytes, options: Options, name: str, sidecar: Entry | None) -> Photo | Reject:
    if sidecar is not None and sidecar.coded is not None:
        tensor = name.endswith(TENSOR_SUFFIX)
        image = Image.fromarray(read_tensor(data)) if tensor else _open(data, options)
        values, exif = coded_values(sidecar.coded), Exif({})
    else:
        image = _open(data, options)
        exif = _with_sidecar(exif_of_image(image), sidecar)
        values = parse_tags(exif.raw, focal_length=options.focal_length)
    if min(image.size) < options.min_side:
        size = f"{image.width} x {image.height} pixels"
        return Reject("too_small", f"{size}, at least {options.min_side} a side are wanted")
    size_differs = pixel_size_differs(exif.raw, image.width, image.height)
    for reason, detail in _objections(exif, values, size_differs):
        if reason in options.reject:
            return Reject(reason, detail)
    photo = content_id(data)
    cut = _cutter(data, image, options)
    rng = np.random.default_rng([options.seed, photo])
    windows, skipped = _usable_windows(cut, options.windows_per_photo, rng)
    if not windows:
        counts = ", ".join(f"{count} {problem}" for problem, count in skipped.items())
        return Reject("no_usable_window", f"windows that were tried: {counts}", skipped)
    key = capture_key(exif)
    return Photo(
        photo=photo,
        camera=key.camera,
        seconds=key.seconds,
        digest=int(key.digest[:16], 16) >> 1 if key.digest else 0,
        values=values,
        width=cut.width,
        height=cut.height,
        size_differs=size_differs,
        corners=tuple(windows),
        windows=tuple(windows.values()),
        skipped=skipped,
    )


def _open(data: bytes, options: Options) -> Image.Image:
    if len(data) > options.max_bytes:
        raise ImageError("too_many_bytes", f"more than {options.max_bytes:,} bytes")
    return open_image(data, max_pixels=options.max_pixels)


def _with_sidecar(exif: Exif, sidecar: Entry | None) -> Exif:
    """Completes EXIF that has no usable value from a sidecar."""
    if sidecar is None or parse_tags(exif.raw):
        return exif
    return Exif({**sidecar.raw, **exif.raw}, exif.digest)


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


def content_id(data: bytes) -> int:
    """Returns a number that only copies of an image share, in [0, 2^63).

    Of a JPEG file everything but its metadata is hashed, so a copy that lost its EXIF, or whose
    EXIF was edited, still counts as the same image; of other files, every byte.
    """
    digest = hashlib.sha256()
    for piece in _without_metadata(memoryview(data)):
        digest.update(piece)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def _without_metadata(data: memoryview) -> Iterator[memoryview]:
    """Yields the pieces of a JPEG file outside application and comment segments."""
    position = 0
    if data[:2] == b"\xff\xd8":
        position = 2
        while position + 4 <= len(data) and data[position] == 0xFF:
            marker = data[position + 1]
            end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
            if marker == 0xDA:  # the scan begins: everything after it is image
                break
            if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
                yield data[position:end]
            position = end
    yield data[position:]


class _Cutter(NamedTuple):
    """How windows of a photo are cut.

    Attributes:
      width: Of the stored pixels.
      height: Of the stored pixels.
      align: x and y of corners are multiples of these.
      cut: Corners -> for each window its pixels, and its file if that is there already.
    """

    width: int
    height: int
    align: tuple[int, int]
    cut: Callable[
        [Sequence[tuple[int, int]]],
        Iterator[tuple[np.ndarray, bytes | None]],
    ]


def _cutter(data: bytes, image: Image.Image, options: Options) -> _Cutter:
    """Decides between moving the DCT blocks of a JPEG file and decoding."""
    block = block_size(data) if options.encoding == "dct" and image.format == "JPEG" else None
    if block is not None:
        align = (max(ALIGNMENT, block[0]), max(ALIGNMENT, block[1]))
        return _Cutter(*image.size, align, functools.partial(_transplanted, data))
    align = (ALIGNMENT, ALIGNMENT)
    if can_be_cropped(image):
        return _Cutter(*image.size, align, functools.partial(_cropped, image))
    pixels = to_rgb(image)  # not always of the size that the header says: containers turn images
    height, width = pixels.shape[:2]
    return _Cutter(width, height, align, functools.partial(_sliced, pixels))


def _transplanted(
    data: bytes, corners: Sequence[tuple[int, int]]
) -> Iterator[tuple[np.ndarray, bytes | None]]:
    for window in cut_windows(data, corners, WINDOW):
        with Image.open(io.BytesIO(window), formats=("JPEG",)) as decoded:
            yield np.asarray(decoded), window


def _cropped(
    image: Image.Image, corners: Sequence[tuple[int, int]]
) -> Iterator[tuple[np.ndarray, bytes | None]]:
    for x, y in corners:
        yield to_rgb(image, (x, y, x + WINDOW, y + WINDOW)), None


def _sliced(
    pixels: np.ndarray, corners: Sequence[tuple[int, int]]
) -> Iterator[tuple[np.ndarray, bytes | None]]:
    for x, y in corners:
        yield pixels[y : y + WINDOW, x : x + WINDOW], None


def _usable_windows(
    cutter: _Cutter, count: int, rng: np.random.Generator
) -> tuple[dict[tuple[int, int], bytes], dict[str, int]]:
    """Cuts windows until enough can be used.

    Returns:
      Files of the windows by corner, in raster order, and how many were skipped by reason.
    """
    corners = choose_windows(cutter.width, cutter.height, _TRIES * count, rng, align=cutter.align)
    skipped: Counter[str] = Counter()
    usable: dict[tuple[int, int], bytes] = {}
    for corner, (pixels, window) in zip(corners, cutter.cut(corners), strict=True):
        problem = window_problem(pixels)
        if problem:
            skipped[problem] += 1
            continue
        usable[corner] = window if window is not None else _encode_png(pixels)
        if len(usable) == count:
            break
    return dict(sorted(usable.items(), key=lambda item: item[0][::-1])), dict(skipped)


def choose_windows(
    width: int,
    height: int,
    count: int,
    rng: np.random.Generator,
    *,
    align: tuple[int, int] = (ALIGNMENT, ALIGNMENT),
) -> list[tuple[int, int]]:
    """Chooses windows that do not overlap, at corners aligned to the coding blocks.

    The windows are cells of a grid that is shifted at random, as far as no row or column is lost.

    Args:
      width: Of the photo, at least `WINDOW`.
      height: Of the photo, at least `WINDOW`.
      count: At most so many; fewer if no more fit.
      rng: Random numbers.
      align: x and y of corners are multiples of these divisors of `WINDOW`.

    Returns:
      (x, y) of each window's top left pixel, in random order.
    """
    columns, rows = width // WINDOW, height // WINDOW
    left = align[0] * int(rng.integers((width % WINDOW) // align[0] + 1))
    top = align[1] * int(rng.integers((height % WINDOW) // align[1] + 1))
    cells = rng.choice(columns * rows, size=min(count, columns * rows), replace=False)
    return [
        (left + WINDOW * (cell % columns), top + WINDOW * (cell // columns))
        for cell in cells.tolist()
    ]


def _encode_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=_PNG_COMPRESSION)
    return file.getvalue()


def photo_to_json(photo: Photo) -> dict[str, Any]:
    """Returns everything but the windows' bytes, for a JSON file; of the windows, their sizes."""
    row = {f.name: getattr(photo, f.name) for f in dataclasses.fields(photo)}
    return {**row, "windows": [len(window) for window in photo.windows]}


def photo_from_json(row: Mapping[str, Any], data: bytes | memoryview) -> Photo:
    """Reads what `photo_to_json` wrote, given the bytes of all windows one after the other."""
    windows, start = [], 0
    for size in row["windows"]:
        windows.append(bytes(data[start : start + size]))
        start += size
    corners = tuple((x, y) for x, y in row["corners"])
    return Photo(**{**row, "corners": corners, "windows": tuple(windows)})
