"""EM between two iterations, kept on disk if asked: an interrupted fit continues exactly."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_pipelines.files import write_bytes
from exif_jax.gmm.frame import Frame
from exif_jax.gmm.maximisation import EMState
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.models.storage import flatten, unflatten


def save_state(
    path: Path,
    identity: Mapping[str, Any],
    state: EMState,
    history: Sequence[float],
    frame: Frame,
) -> None:
    """Writes a state, the log-likelihoods that led to it and its coordinates, atomically."""
    arrays = {
        "state": {**vars(state), "gmm": state.gmm.to_arrays()},
        "history": np.array(history),
        "frame": frame.to_arrays(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(flatten(arrays), {"identity": json.dumps(identity)}))


def load_state(path: Path, identity: Mapping[str, Any]) -> tuple[EMState, list[float]]:
    """What `save_state` wrote.

    Args:
        path: the file.
        identity: of the fit: data, model and settings; JSON-serialisable.

    Raises:
        ValueError: the file holds another fit, or is damaged.
    """
    try:
        with safe_open(path, "np") as file:
            found = json.loads(file.metadata()["identity"])
            arrays = unflatten({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        state = arrays["state"]
        kind = found.get("covariance_type", "full")
        gmm = GaussianMixture.from_arrays(state.pop("gmm"), kind)
        loaded = EMState(gmm=gmm, **state)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: no saved state of EM, or damaged ({error})") from error
    wanted = json.loads(json.dumps(identity))
    differing = [
        f"{name}: {found.get(name)!r} there, {wanted.get(name)!r} now"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError(
            f"{path} holds another fit ({'; '.join(differing)}): choose another checkpoint, or "
            "remove it to start again"
        )
    return loaded, arrays["history"].tolist()


def saved_frame(path: Path, frame: Frame) -> Frame:
    """The working coordinates of a saved state, where they are `frame` but for rounding.

    Else `frame` itself: `load_state` then tells, by its fingerprint, that the data are others.
    """
    try:
        with safe_open(path, "np") as file:
            names = [name for name in file.keys() if name.startswith("frame/")]  # noqa: SIM118
            arrays = {name.removeprefix("frame/"): file.get_tensor(name) for name in names}
        saved = Frame(**{"upper": None, **arrays})
    except (SafetensorError, OSError, TypeError):
        return frame
    return saved if saved.is_near(frame) else frame


def saved_iterations(directory: Path) -> int:
    """EM iterations that a `checkpoint` directory of `fit` holds, over all its starts."""
    count = 0
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            count += file.get_slice("history").get_shape()[0]
    return count
