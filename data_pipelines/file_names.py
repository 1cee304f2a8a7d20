"""What the name of a photo's file tells where its EXIF has no time: a time, or its place in a row.

Cameras number photos one by one (`DSC01234.JPG`, `IMG_1234.JPG`), phones write the time into the
name (`IMG_20230102_101112.jpg`, `PXL_20230102_091112345.jpg`), and so do programs that save or sort
photos (`2023-01-02 10.11.12.jpg`).
"""

import hashlib
import re
from typing import Final

from data_pipelines.capture_times import ClockTime, parse_time

_TIME = re.compile(
    r"(?<!\d)(?P<date>(?:19|20)\d\d(?P<d>[-_.]?)(?:0\d|1[0-2])(?P=d)[0-3]\d)"
    r"(?:[-_.T ]{0,3}| at )"
    r"(?P<clock>[0-2]\d(?P<c>[-_.:]?)[0-5]\d(?P=c)[0-5]\d)(?:[-_.]?(?P<part>\d{3}))?(?!\d)"
)
_NUMBER = re.compile(r"(?P<before>.*?)(?P<number>\d{1,15})\D*\Z", re.DOTALL)
# What programs add to the name of a copy.
_COPY = re.compile(r"(?:\s*\(\d{1,3}\)|[\s_-]+copy(?:\s*\d{1,3})?)+\Z", re.IGNORECASE)
_MAX_NAME: Final = 255
_IN_UTC: Final = "pxl_"  # Pixel phones write it, all others the time of the clock
NO_PLACE: Final = -1
"""Place of a file whose name has no number."""


def time_in(name: str) -> ClockTime | None:
    """Returns the time in the name of a file, None if there is none."""
    stem = _stem(name)
    if (match := _TIME.search(stem)) is None:
        return None
    digits = ("".join(c for c in match[part] if c.isdigit()) for part in ("date", "clock"))
    time = parse_time("T".join(digits) + (f".{match['part']}" if match["part"] else ""))
    in_utc = time is not None and stem.lower().startswith(_IN_UTC)
    return ClockTime(time.seconds, 0.0) if time is not None and in_utc else time


def time_or_named(time: ClockTime | None, camera: str, name: str) -> ClockTime | None:
    """Returns when a photo was taken: by its EXIF, else by its name if it is known of which camera.

    Names of other files, such as those that a program made in a row, say nothing of photos.
    """
    return time or (time_in(name) if camera else None)


def place_in_series(name: str) -> int:
    """Returns a number that differs by one between files of a folder that are numbered in a row.

    It is the number in the name, counted from where a hash of the folder and of the name before the
    number says, in [0, 2^63): series of a million files do not meet by chance. The number is the
    last in the name but for those that mark a copy; `IMG_1234 (1).jpg` is number 1234 again.
    Capitals, and what follows the number, make no difference.
    """
    match = _NUMBER.match(_COPY.sub("", _stem(name)))
    if match is None:
        return NO_PLACE
    folder = name.rpartition("/")[0]
    series = f"{folder}/{match['before'].lower()}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(series, digest_size=8).digest()
    return (int.from_bytes(digest, "big") + int(match["number"])) % 2**63


def _stem(name: str) -> str:
    """The end of a name without folders and extension; in archives, names may be of any length."""
    return name.rpartition("/")[2].rpartition(".")[0][-_MAX_NAME:]
