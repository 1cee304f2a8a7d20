"""Everything that decides the content of the records."""

import dataclasses
from typing import Any, Final, Literal

from data_pipelines.errors import UserError
from data_pipelines.images import MAX_BYTES, MAX_PIXELS, WINDOW

SWITCHES: Final[dict[str, tuple[bool, str]]] = {
    "no_exif": (True, "the file has no EXIF, and no sidecar has any for it"),
    "damaged_exif": (True, "EXIF is there but cannot be read"),
    "exif_too_large": (True, "more than 1 MiB of EXIF: no camera writes that"),
    "no_tags": (True, "EXIF without one valid value of a tag that is learned"),
    "not_a_camera": (True, "made or re-saved by a scanner, screenshot tool, game or editor"),
    "size_mismatch": (
        False,
        "not of the size in EXIF: cropped, or resized, which erases what a camera left",
    ),
    "duplicate": (True, "the same image data as another photo"),
}
"""Reasons that can be switched: whether they reject a photo by default, and their meaning."""

REASONS: Final[dict[str, str]] = {
    **{name: meaning for name, (_, meaning) in SWITCHES.items()},
    "unreadable": "the file cannot be opened or read",
    "empty_file": "no bytes",
    "too_many_bytes": "larger than --max-bytes",
    "not_an_image": "no image of a known format",
    "heic_not_supported": "a HEIC image, and pillow-heif is not installed: exif-jax[heic]",
    "too_many_pixels": "more than --max-pixels",
    "too_small": "a side shorter than --min-side",
    "undecodable": "damaged or cut short",
    "unsupported_pixels": "pixel values without a fixed range, such as floating point",
    "no_usable_window": "every window that was tried is flat, black or clipped",
    "timed_out": "not read within --seconds-per-file",
    "out_of_memory": "not read within --memory-per-file",
    "crashed": "the process that read it died",
}
"""Every reason for rejecting a file, and what it means."""


PLANNING: Final = (
    "validation_fraction",
    "split_by",
    "burst_seconds",
    "min_count",
    "max_classes",
)
"""Options that matter only after all photos were read."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the content of the records.

    Attributes:
      windows_per_photo: Windows of 256x256 cut from a photo, at most.
      encoding: "dct": windows of JPEG photos keep the original's DCT blocks, others are PNG;
        "pixels": all are decoded and stored as PNG.
      reject: Which of `SWITCHES` reject a photo.
      min_side: Photos with a shorter side are rejected; at least a window's.
      max_bytes: Larger files are rejected.
      max_pixels: Photos with more are rejected before they are decoded.
      seconds_per_file: A file that takes longer is rejected.
      memory_per_file: Mebibytes that the process that reads a file may take up.
      focal_length: "actual" millimetres, or those of the "35mm" equivalent.
      validation_fraction: About this fraction of the photos is held out, in [0, 1).
      split_by: "photo": a photo's windows and its burst stay on one side; "camera": all photos of a
        camera model do.
      burst_seconds: Photos of one camera with no larger gap between them are one burst.
      min_count: Makes and models of fewer training photos are "other".
      max_classes: Makes, and models, that get a class besides "other"; None: 6 and 5, the published
        numbers.
      seed: Of the choice of windows and of the split.
    """

    windows_per_photo: int = 4
    encoding: Literal["dct", "pixels"] = "dct"
    reject: tuple[str, ...] = tuple(sorted(name for name, row in SWITCHES.items() if row[0]))
    min_side: int = WINDOW
    max_bytes: int = MAX_BYTES
    max_pixels: int = MAX_PIXELS
    seconds_per_file: float = 60.0
    memory_per_file: int = 4096
    focal_length: Literal["actual", "35mm"] = "actual"
    validation_fraction: float = 0.1
    split_by: Literal["photo", "camera"] = "photo"
    burst_seconds: float = 60.0
    min_count: int = 1
    max_classes: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.reject) - SWITCHES.keys())
        checks = {
            "windows_per_photo": (self.windows_per_photo >= 1, "at least 1"),
            "encoding": (self.encoding in ("dct", "pixels"), "dct or pixels"),
            "reject": (not unknown, f"among {', '.join(SWITCHES)}"),
            "min_side": (self.min_side >= WINDOW, f"at least {WINDOW}, a window's side"),
            "max_bytes": (self.max_bytes >= 1, "at least 1"),
            "max_pixels": (self.max_pixels >= 1, "at least 1"),
            "seconds_per_file": (self.seconds_per_file > 0, "above 0"),
            "memory_per_file": (self.memory_per_file >= 256, "at least 256 (MiB)"),
            "focal_length": (self.focal_length in ("actual", "35mm"), "actual or 35mm"),
            "validation_fraction": (0 <= self.validation_fraction < 1, "from 0 to below 1"),
            "split_by": (self.split_by in ("photo", "camera"), "photo or camera"),
            "burst_seconds": (self.burst_seconds >= 0, "0 or more"),
            "min_count": (self.min_count >= 1, "at least 1"),
            "max_classes": (self.max_classes is None or self.max_classes >= 1, "at least 1"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (valid, allowed) in checks.items():
            if not valid:
                raise UserError(f"{name}: {getattr(self, name)!r} is not {allowed}")

    def to_json(self) -> dict[str, Any]:
        """Returns the options as plain values for a JSON file."""
        return {**dataclasses.asdict(self), "reject": sorted(set(self.reject))}

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> "Options":
        """Reads what `to_json` wrote."""
        return cls(**{**obj, "reject": tuple(obj["reject"])})
