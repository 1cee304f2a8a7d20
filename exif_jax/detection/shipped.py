"""The detectors that are shipped with the package: one folder each in `exif_jax/shipped`."""

from pathlib import Path
from typing import Final

from data_pipelines.errors import UserError
from data_pipelines.object_storage import path_of

FOLDER: Final = Path(__file__).resolve().parent.parent / "shipped"
DEFAULT: Final = "binary"


def shipped_detectors() -> list[str]:
    """Names of the detectors shipped, sorted; none in a checkout before they were made."""
    return sorted(path.parent.name for path in FOLDER.glob("*/detector.json"))


def find_detector(name: str | Path | None) -> Path:
    """The directory of a detector.

    Args:
        name: of one shipped, or a directory: a detector's, or the workdir of a run; None: the
            default one of those shipped. A folder called like one shipped is given as ./NAME.

    Raises:
        UserError: there is none; the message lists those shipped.
    """
    shipped = shipped_detectors()
    if name is None and DEFAULT not in shipped:
        raise UserError(
            "no detector is shipped with this version of exif-jax; give the directory of one, "
            "--detector RUN/detector: README tells how it is trained"
        )
    if name is None or str(name) in shipped:
        return FOLDER / str(name or DEFAULT)
    directory = path_of(name)
    if not (directory / "detector.json").is_file() and (directory / "detector").is_dir():
        directory = directory / "detector"
    if not directory.is_dir():
        known = f"shipped are {', '.join(shipped)}" if shipped else "none is shipped"
        raise UserError(f"{directory}: no such detector directory, nor a shipped one; {known}")
    return directory
