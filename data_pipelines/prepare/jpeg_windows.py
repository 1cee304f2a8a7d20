"""Windows of a JPEG, cut without decoding: the original's DCT blocks in a file of their own.

Quantisation, chroma sampling, the 8x8 grid and the sensor's traces stay the camera's, and a window
takes a quarter of the bytes of a lossless image. It is quicker than decoding as well: no inverse
transform, no colour conversion. Decoded, a window equals the same place of the decoded photo, but
for the outermost pixels, where subsampled colour is interpolated from outside it.
"""

from collections.abc import Sequence
from typing import Final

from data_pipelines import jpeg_files, libjpeg
from data_pipelines.images import ImageError, decode_image

# By TJSAMP: 4:4:4, 4:2:2, 4:2:0, grey, 4:4:0, 4:1:1, 4:4:1.
_BLOCK: Final = ((8, 8), (16, 8), (16, 16), (8, 8), (8, 16), (32, 8), (8, 32))
_YCBCR: Final = 1


def block_size(data: bytes) -> tuple[int, int] | None:
    """Returns width and height of a JPEG file's coding blocks; corners of windows are multiples.

    None where windows cannot be moved: the file is not YCbCr (records hold three channels), its
    chroma sampling is unusual, or the header is damaged (decoding it will say how).
    """
    sampling, colours = libjpeg.read_header(data) or (-1, -1)
    known = 0 <= sampling < len(_BLOCK) and colours == _YCBCR
    return _BLOCK[sampling] if known else None


def cut_windows(
    data: bytes,
    corners: Sequence[tuple[int, int]],
    side: int,
    visit: libjpeg.Visit | None = None,
) -> list[bytes]:
    """Cuts windows in one pass over a JPEG file, each into a file without any metadata.

    Args:
        data: the file; of several pictures the first one counts.
        corners: (x, y) of each window, multiples of `block_size`, the window inside the photo.
        side: of the square windows, in pixels.
        visit: is also given all coefficients of the file, some of them twice where its end is odd.

    Raises:
        ImageError: "undecodable", also where the image only ends early or some of its data is
            wrong; or "out_of_memory".
    """
    try:
        return _cut(jpeg_files.completed(data), corners, side, visit)
    except libjpeg.JpegError as error:
        reason = "out_of_memory" if error.is_memory else "undecodable"
        raise ImageError(reason, str(error)) from error


def _cut(
    data: bytes, corners: Sequence[tuple[int, int]], side: int, visit: libjpeg.Visit | None
) -> list[bytes]:
    strictly = libjpeg.LIMIT_SCANS | libjpeg.STOP_ON_WARNING
    windows, warning = libjpeg.cut(data, corners, side, strictly, visit)
    if not warning:
        return windows
    if problem := jpeg_files.damage_behind(warning, data):
        raise ImageError("undecodable", problem)
    if not jpeg_files.is_left_over(warning):
        decode_image(data)  # raises if the image is damaged
    # Only the first warning can be asked for, and it is known to be harmless.
    windows, warning = libjpeg.cut(data, corners, side, libjpeg.LIMIT_SCANS, visit)
    if len(windows) < len(corners):
        raise ImageError("undecodable", warning)
    return windows
