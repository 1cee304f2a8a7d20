"""EM between two iterations, kept on disk if asked: an interrupted fit continues exactly."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_pipelines.files import write_bytes
from exif_jax.gmm.frame import Frame
from exif_jax.gmm.maximisation import EMState
from exif_jax.gmm.mixture import GaussianMixture
from exif_jax.models.storage import flatten, unflatten
from exif_jax.training.mapping import to_host

# Called after an iteration: iterations done, mean log-likelihood before the last, the mixture now.
Observer = Callable[[int, float, GaussianMixture], None]


class Progress:
    """State and history of one run of EM.

    Attributes:
        state: None before the start.
        history: mean log-likelihood before each iteration, in working coordinates.
    """

    def __init__(self, path: Path | None, identity: dict[str, Any]) -> None:
        """Loads what is saved at `path`.

        Args:
            path: a file; None: nothing is kept.
            identity: of the fit: data, model and settings; JSON-serialisable.

        Raises:
            ValueError: the file holds another fit, or is damaged.
        """
        self.state: EMState | None = None
        self.history: list[float] = []
        self._path, self._identity = path, json.loads(json.dumps(identity))
        if path is not None and path.exists():
            self._load(path)

    def finished(self, max_iters: int) -> bool:
        """Whether EM has converged or done so many iterations."""
        return len(self.history) >= max_iters or (
            self.state is not None and bool(to_host(self.state.converged))
        )

    def advance(self, state: EMState, frame: Frame, observe: Observer | None) -> None:
        """Takes over the state after another iteration.

        The observer hears of it before it is saved: killed in between, the iteration is done and
        told again.
        """
        self.state = state
        self.history.append(float(to_host(state.log_likelihood)))
        if observe is not None:
            mean = self.history[-1] + frame.log_scale
            observe(len(self.history), mean, frame.outward(to_host(state.gmm)))
        if self._path is not None and jax.process_index() == 0:
            self._save(self._path)

    def _save(self, path: Path) -> None:
        assert self.state is not None
        state = to_host(self.state)
        arrays = {
            "state": {**vars(state), "gmm": state.gmm.to_arrays()},
            "history": np.array(self.history),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, save(flatten(arrays), {"identity": json.dumps(self._identity)}))

    def _load(self, path: Path) -> None:
        try:
            with safe_open(path, "np") as file:
                identity = json.loads(file.metadata()["identity"])
                arrays = unflatten({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            state = arrays["state"]
            kind = identity.get("covariance_type", "full")
            gmm = GaussianMixture.from_arrays(state.pop("gmm"), kind)
            loaded = EMState(gmm=gmm, **state)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: no saved state of EM, or damaged ({error})") from error
        differing = [
            f"{name}: {identity.get(name)!r} there, {self._identity.get(name)!r} now"
            for name in sorted(identity.keys() | self._identity.keys())
            if identity.get(name) != self._identity.get(name)
        ]
        if differing:
            raise ValueError(
                f"{path} holds another fit ({'; '.join(differing)}): choose another checkpoint, or "
                "remove it to start again"
            )
        self.state = loaded
        self.history = arrays["history"].tolist()


def saved_iterations(directory: Path) -> int:
    """EM iterations that a `checkpoint` directory of `fit` holds, over all its starts."""
    count = 0
    for path in directory.glob("*.safetensors"):
        with safe_open(path, "np") as file:
            count += file.get_slice("history").get_shape()[0]
    return count
