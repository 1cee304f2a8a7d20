"""Everything that decides the content of the records, and how the command line asks for it.

A field of `Options` is the only place that declares an option: its default, what it may be, its
flag and the help of that. The flag of `min_side` is --min-side.
"""

import argparse
import dataclasses
import math
import typing
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
    "near_duplicate": (
        True,
        "another file of the same photo is better: this one was saved anew, resized or cropped",
    ),
}
"""Reasons that can be switched: whether they reject a photo by default, and their meaning."""

_LATER: Final = frozenset({"near_duplicate"})
"""Reasons that earlier versions did not know. JSON tells where they do not reject, so that what
these versions left is continued by the same command."""

REASONS: Final[dict[str, str]] = {
    **{name: meaning for name, (_, meaning) in SWITCHES.items()},
    "unreadable": "the file cannot be opened or read",
    "empty_file": "no bytes",
    "too_many_bytes": "larger than --max-bytes",
    "not_an_image": "no image of a known format",
    "raw_file": "a camera's raw file, or one like it, under any name: only a preview could be read",
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


def _option(default: Any, help: str, **facts: Any) -> Any:
    """Declares a field of `Options`.

    Args:
        default: its value if not given; None also means that None is allowed.
        help: of its flag; the default is added unless it is told.
        facts: `least` and `below`, the bounds of a number (by default from 1 up); `heading` of the
            first of a group of flags; `planning`, whether it matters only after all photos were
            read; `also`, another spelling of the flag.
    """
    help = help if "(default: " in help else f"{help} (default: %(default)s)"
    return dataclasses.field(default=default, metadata={"help": help, **facts})


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides the content of the records. `reject`: which of `SWITCHES` reject a photo."""

    reject: tuple[str, ...] = tuple(sorted(name for name, row in SWITCHES.items() if row[0]))

    min_side: int = _option(
        WINDOW, "reject photos with a shorter side in pixels", least=WINDOW, heading="which photos"
    )
    max_pixels: int = _option(MAX_PIXELS, "reject photos with more pixels, before decoding them")
    max_bytes: int = _option(MAX_BYTES, "reject larger files")
    seconds_per_file: float = _option(60.0, "reject files that take longer", least=0.001)
    memory_per_file: int = _option(
        4096, "reject files whose reader needs more memory (default: %(default)s MiB)", least=256
    )

    windows_per_photo: int = _option(
        4,
        "windows cut from a photo, at most (default: %(default)s); they do not overlap, and flat, "
        "black or clipped ones are skipped and counted",
        heading="what is stored of them",
    )
    encoding: Literal["dct", "pixels"] = _option(
        "dct",
        "dct: windows of JPEG photos keep their DCT blocks, quickest and smallest; pixels: all are "
        "decoded and stored as PNG",
    )
    focal_length: Literal["actual", "35mm"] = _option(
        "actual", "millimetres of the lens, or of its 35 mm equivalent"
    )
    max_classes: int | None = _option(
        None,
        "makes, and models, that get a class besides 'other' (default: 6 makes, 5 models)",
        planning=True,
    )
    min_count: int = _option(
        1, "makes and models of fewer training photos are 'other'", planning=True
    )

    validation_fraction: float = _option(
        0.1,
        "about this fraction of the photos",
        least=0,
        below=1,
        planning=True,
        heading="what is held out for validation",
    )
    split_by: Literal["photo", "camera"] = _option(
        "photo",
        "what is never on both sides of the split: a photo and its burst, or a whole camera model, "
        "which tells how well learning carries over to new cameras",
        planning=True,
        also="--split_by",
    )
    burst_seconds: float = _option(
        60.0,
        "photos of one camera that follow each other within this time are one burst; of photos "
        "without a time, those of a folder that are numbered in a row",
        least=0,
        planning=True,
    )
    seed: int = _option(0, "of the choice of windows and of the split", least=0)

    def __post_init__(self) -> None:
        if set(self.reject) - SWITCHES.keys():
            raise UserError(f"reject: {self.reject!r} is not among {', '.join(SWITCHES)}")
        for field in _declared():
            value, words = getattr(self, field.name), _words(field)
            least, below = field.metadata.get("least", 1), field.metadata.get("below", math.inf)
            allowed = f"at least {least}" + (f" and below {below}" if below < math.inf else "")
            if words:
                valid, allowed = value in words, " or ".join(words)
            else:
                valid = least <= value < below if value is not None else field.default is None
            if not valid:
                raise UserError(f"{field.name}: {value!r} is not {allowed}")

    def to_json(self) -> dict[str, Any]:
        """Returns the options as plain values for a JSON file."""
        accepted = sorted(_LATER.difference(self.reject))
        return {
            **dataclasses.asdict(self),
            "reject": sorted(set(self.reject) - _LATER),
            **({"accept": accepted} if accepted else {}),
        }

    @classmethod
    def from_json(cls, obj: dict[str, Any]) -> "Options":
        """Reads what `to_json` wrote."""
        values = {name: value for name, value in obj.items() if name != "accept"}
        reject = {*obj["reject"], *_LATER.difference(obj.get("accept", ()))}
        return cls(**{**values, "reject": tuple(sorted(reject))})


def _declared() -> list[dataclasses.Field[Any]]:
    """The options with a flag of their own."""
    return [field for field in dataclasses.fields(Options) if field.metadata]


def _words(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """The words that an option may be; empty for numbers."""
    kind = typing.get_type_hints(Options)[field.name]
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


PLANNING: Final = tuple(field.name for field in _declared() if field.metadata.get("planning"))
"""Options that matter only after all photos were read."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags of all options; `options_of` reads what they were given."""
    switched = ", ".join(name for name, (default, _) in SWITCHES.items() if default)
    group = parser.add_argument_group("for which reasons photos are rejected")
    for flag, help in (
        ("--accept", f"do not reject for this reason, see below (rejected: {switched})"),
        ("--reject", "reject for this reason too"),
    ):
        group.add_argument(
            flag,
            action="append",
            default=[],
            choices=sorted(SWITCHES),
            help=f"{help}; may be repeated",
        )
    for field in _declared():
        declared, words = field.metadata, _words(field)
        if "heading" in declared:
            group = parser.add_argument_group(declared["heading"])
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            *filter(None, [declared.get("also")]),
            type=str if words else float if isinstance(field.default, float) else int,
            choices=words or None,
            default=field.default,
            metavar=None if words else "S" if "seconds" in field.name else "N",
            help=declared["help"],
        )


def options_of(args: argparse.Namespace) -> Options:
    """Reads the options from what the flags of `add_flags` were given.

    Raises:
        UserError: one is out of its range.
    """
    reject = (set(Options().reject) | set(args.reject)) - set(args.accept)
    given = {field.name: getattr(args, field.name) for field in _declared()}
    return Options(reject=tuple(sorted(reject)), **given)
