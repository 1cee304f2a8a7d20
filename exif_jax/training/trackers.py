"""Services that a run's numbers go to, beside its metrics.jsonl; none by default.

A tracker is a writer: it gets each line of metrics.jsonl. One's own is a function registered by
name in `TRACKERS`, from what is known of a run to a `Tracker`.
"""

import contextlib
import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from data_pipelines.errors import UserError
from data_pipelines.registry import Registry

_log = logging.getLogger(__name__)
_PROJECT: Final = "exif_jax"
_TAG: Final = "exif_jax.run"


class Writer(Protocol):
    """What gets the numbers of a run; `runs.MetricsLog` is one, and every tracker."""

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """Takes one line; after an interruption some come again, with the same numbers."""


class Tracker(Writer, Protocol):
    """A writer that is told how the run ended."""

    def close(self, state: str) -> None:
        """No more lines come; `state` as in `timeline.end_of`."""


@dataclass(frozen=True)
class Tracked:
    """A run, as its trackers know it.

    Attributes:
        identity: the same for all starts of the run, and no other.
        workdir: of it.
        config: its fields by dotted name.
    """

    identity: str
    workdir: Path
    config: Mapping[str, Any]


class Wandb:
    """Weights & Biases; its own variables say where, such as WANDB_PROJECT and WANDB_MODE."""

    def __init__(self, run: Tracked) -> None:
        """Begins the run there, or goes on with it."""
        wandb = imported("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=run.identity,
            resume="allow",
            name=run.workdir.name,
            dir=str(run.workdir),
            config=dict(run.config),
        )
        # By our own step: lines that come again are not refused, and validation has its own.
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """See `Writer`."""
        self._run.log({"step": step, **{f"{split}/{name}": x for name, x in numbers.items()}})

    def close(self, state: str) -> None:
        """See `Tracker`."""
        self._run.finish(exit_code=int(state != "finished"))


class Mlflow:
    """MLflow; its own variables say where, such as MLFLOW_TRACKING_URI."""

    _STATES: Final = {"finished": "FINISHED", "failed": "FAILED"}

    def __init__(self, run: Tracked) -> None:
        """Begins the run there, or goes on with it, which a tag tells."""
        client = imported("mlflow").MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        found = client.search_runs([number], f"tags.`{_TAG}` = '{run.identity}'")
        self._client = client
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            return
        tags = {_TAG: run.identity}
        self._id = client.create_run(number, tags=tags, run_name=run.workdir.name).info.run_id
        for field, value in run.config.items():
            client.log_param(self._id, field, str(value)[:500])

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """See `Writer`."""
        for name, value in numbers.items():
            self._client.log_metric(self._id, f"{split}/{name}", value, step=step)

    def close(self, state: str) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._id, self._STATES.get(state, "KILLED"))


TRACKERS: Registry[Callable[[Tracked], Tracker]] = Registry(
    "tracker", {"wandb": Wandb, "mlflow": Mlflow}
)


def imported(name: str) -> Any:
    """A tracker's package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"config.trackers: {name} cannot be imported ({error}): pip install {name}, or leave "
            "it out"
        ) from error


def check_trackers(text: str) -> list[str]:
    """The names in config.trackers, such as wandb,mlflow.

    Raises:
        UserError: one is not known, or its package is not installed.
    """
    found = list(dict.fromkeys(filter(None, (word.strip() for word in text.split(",")))))
    for name in found:
        if TRACKERS[name] in (Wandb, Mlflow):
            imported(name)
    return found


class Trackers:
    """All that a run asks for; one that fails is left out from then on, and training goes on."""

    def __init__(self, text: str, run: Callable[[], Tracked]) -> None:
        """Opens those of config.trackers.

        Raises:
            UserError: see `check_trackers`.
        """
        self._open: dict[str, Tracker] = {}
        asked: Sequence[str] = check_trackers(text)
        described = run() if asked else None
        for name in asked:
            with self._surviving(name):
                assert described is not None
                self._open[name] = TRACKERS[name](described)

    def write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        """See `Writer`."""
        for name, tracker in list(self._open.items()):
            with self._surviving(name):
                tracker.write(step, split, numbers)

    def close(self, state: str) -> None:
        """See `Tracker`."""
        for name, tracker in list(self._open.items()):
            with self._surviving(name):
                tracker.close(state)
        self._open.clear()

    @contextlib.contextmanager
    def _surviving(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a service or its library raises
            self._open.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            _log.warning("%s gets no more of this run: %s", name, reason)
