"""The labels that the authors of SDAIE released, and the photos that go with them.

`exif_tags.json` holds 17 values for each photo, of which the last fourteen are the label vector
in the order of `RELEASED`; the photos are PyTorch tensors.
"""

import io
import math
from typing import Any, Final

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.images import ImageError
from data_pipelines.prepare.sidecars.entries import Entry
from data_pipelines.prepare.sidecars.values import normalise, without_controls
from data_pipelines.targets import RELEASED, coded_values

NUM_VALUES: Final = 17
SHAPE: Final = (3, 256, 256)
TENSOR_SUFFIX: Final = ".pkl"
"""Of the photos; no other photos are tensors."""
_TAIL: Final = slice(-len(RELEASED), None)
_NAMES: Final = frozenset(map(str.lower, RELEASED))
_REMEDY: Final = "give exif_tags.json as it was released"
# Labels of the file that differ from the tag's name, normalised.
_LABELS: Final = {"whitebalancemode": "whitebalance"}

BY_ID: Final = False


def recognises(value: object) -> bool:
    """Whether a JSON value is the row of a photo."""
    row = _row(value)
    return row is not None and any(_number(v) is not None for v in row[_TAIL])


def key_of(key: str | None, value: Any) -> str | None:
    """Returns the photo that an entry is of, None if it is malformed."""
    return key if key and _row(value) is not None else None


def read(value: dict[str, Any] | list[Any]) -> Entry:
    """Reads the label vector of a photo, the last fourteen of 17 values.

    Raises:
        UserError: a class id does not exist, or the columns are in another order.
    """
    names = list(value) if isinstance(value, dict) else ["" for _ in value]
    values = list(value.values()) if isinstance(value, dict) else value
    for tag, name in zip(RELEASED, names[_TAIL], strict=True):
        label = _LABELS.get(normalise(name), normalise(name))
        if label != tag.lower() and label in _NAMES:
            raise UserError(
                f"column {without_controls(name)!r} is where {tag!r} is expected; {_REMEDY}"
            )
    coded = tuple(map(_number, values[_TAIL]))
    try:
        coded_values(coded)
    except UserError as error:
        raise UserError(f"{error}; {_REMEDY}") from error
    return Entry({}, coded)


def _row(value: object) -> list[Any] | None:
    if isinstance(value, dict):
        value = list(value.values())
    return value if isinstance(value, list) and len(value) == NUM_VALUES else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_tensor(data: bytes) -> np.ndarray:
    """Reads a photo, uint8 [256, 256, 3], that was saved as a PyTorch tensor [3, 256, 256].

    Nothing in the file is executed: PyTorch loads with `weights_only=True`.

    Raises:
        ImageError: the file holds anything else ("undecodable").
        UserError: PyTorch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "reading photos that are PyTorch tensors (.pkl) needs PyTorch: "
            "pip install 'exif-jax[torch]'"
        ) from error
    try:
        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types, pickle's among them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError("undecodable", f"not a PyTorch tensor ({reason})") from error
    if not torch.is_tensor(tensor):
        raise ImageError("undecodable", f"holds no tensor but a {type(tensor).__name__}")
    if tensor.dtype != torch.uint8 or tuple(tensor.shape) != SHAPE:
        raise ImageError(
            "undecodable",
            f"a tensor {tensor.dtype} {list(tensor.shape)}, expected torch.uint8 {list(SHAPE)}",
        )
    try:
        pixels = tensor.numpy()
    except Exception as error:  # a tensor without values, or a sparse one
        raise ImageError("undecodable", "a tensor that is not plain") from error
    return np.ascontiguousarray(pixels.transpose(1, 2, 0))
