"""The one training loop of the gradient stages: resume, step, log, evaluate, checkpoint."""

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grain
import jax
import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import write_json
from exif_jax.training.checkpoints import Checkpoints
from exif_jax.training.curves import training_curves
from exif_jax.training.mapping import replicate, shard, to_host
from exif_jax.training.runs import MetricsLog
from exif_jax.training.step import Params, StepFn, TrainState

_log = logging.getLogger(__name__)
_UNCHECKED_STEPS = 2  # losses are looked at this many steps late, so that devices never wait


@dataclass(frozen=True)
class Stage:
    """What a gradient stage gives to the loop.

    Attributes:
        state: before the first step.
        frozen: parameters that the step reads and never changes.
        step: mapped and compiled (state, frozen, batch, key) -> (state, metrics).
        mesh: over whose devices state and batches are laid out.
        data: endless batches of this process; `path` and `error` entries stay on the host.
        evaluate: parameters (on the host) -> named numbers of the validation data, `loss` among
            them.
        export: writes parameters (on the host) for use; gets the last validation's numbers.
        keep_best: export only when the validation loss is lower than ever before in the run;
            otherwise export whenever a checkpoint is written.
    """

    state: TrainState
    frozen: Params
    step: StepFn
    mesh: jax.sharding.Mesh
    data: grain.IterDataset
    evaluate: Callable[[Params], dict[str, float]]
    export: Callable[[Params, int, dict[str, float]], None]
    keep_best: bool


class Schedule(Protocol):
    """What the loop reads of a configuration: steps, seed, and what happens how often, in steps."""

    steps: int
    seed: int
    log_every: int
    eval_every: int
    checkpoint_every: int


def fit(stage: Stage, schedule: Schedule, workdir: Path) -> None:
    """Trains until the last step, from the newest checkpoint of the workdir if there is one.

    An interrupted run, continued, goes through the same states and writes the same metrics as an
    uninterrupted one.

    Args:
        stage: model, data and evaluation.
        schedule: the configuration of the run.
        workdir: of the run; gets checkpoints/, metrics.jsonl, TensorBoard events, and skipped.jsonl
            if images could not be read.

    Raises:
        UserError: the loss became infinite or NaN; the last checkpoint is intact, and
            nonfinite.json names the step and the files of its batch.
    """
    key = jax.random.key(schedule.seed)
    iterator = iter(stage.data)
    checkpoints = Checkpoints(workdir / "checkpoints")
    try:
        state, start = replicate(stage.state, stage.mesh), checkpoints.latest()
        if start is not None and start >= schedule.steps:
            _log.info("this run is finished: %d steps are done", start)
            return
        if start is not None:
            state = checkpoints.restore(start, state, iterator)
            _log.info("continuing after step %d", start)
        else:
            start = 0
        with MetricsLog(workdir, start) as metrics_log:
            _train(stage, schedule, state, start, key, iterator, checkpoints, metrics_log, workdir)
        if jax.process_index() == 0:
            training_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    finally:
        checkpoints.close()


def _train(
    stage: Stage,
    schedule: Schedule,
    state: TrainState,
    start: int,
    key: jax.Array,
    iterator: Iterator[dict[str, Any]],
    checkpoints: Checkpoints,
    metrics_log: MetricsLog,
    workdir: Path,
) -> None:
    frozen = replicate(stage.frozen, stage.mesh)
    key = replicate(key, stage.mesh)
    unchecked: deque[tuple[int, Any, list[str]]] = deque()
    skipped = _Skipped(workdir)

    def check(keep: int) -> None:
        """Looks at the losses of all but the last `keep` steps; logs those that are due."""
        while len(unchecked) > keep:
            step, metrics, paths = unchecked.popleft()
            loss = float(metrics["loss"])
            progress.set_postfix(loss=f"{loss:.4f}", refresh=False)
            if not np.isfinite(loss):
                _stop_at_nonfinite(step, loss, paths, workdir)
            if step % schedule.log_every == 0 or step == schedule.steps:
                metrics_log.write(step, "train", {k: float(v) for k, v in metrics.items()})

    def evaluate(step: int) -> dict[str, float]:
        params = to_host(state.params)
        best = metrics_log.lowest("validation", "loss")
        numbers = stage.evaluate(params)
        metrics_log.write(step, "validation", numbers)
        if stage.keep_best and (best is None or numbers["loss"] < best):
            stage.export(params, step, numbers)
        return numbers

    def save(step: int) -> None:
        # The export comes first: a checkpoint of the last step means that nothing is left to do.
        if not stage.keep_best:
            stage.export(to_host(state.params), step, numbers)
        metrics_log.flush()
        checkpoints.save(step, state, iterator)

    quiet = jax.process_index() != 0
    numbers: dict[str, float] = {}
    with tqdm(
        total=schedule.steps, initial=start, unit="step", disable=quiet, dynamic_ncols=True
    ) as progress:
        for step in range(start + 1, schedule.steps + 1):
            batch = next(iterator)
            paths = [str(path) for path in batch.pop("path")]
            skipped.add(paths, batch.pop("error", None))
            state, metrics = stage.step(state, frozen, shard(batch, stage.mesh), key)
            unchecked.append((step, metrics, paths))
            check(_UNCHECKED_STEPS)
            progress.update()
            last = step == schedule.steps
            if last or step % schedule.eval_every == 0:
                check(0)
                numbers = evaluate(step)
            if last or step % schedule.checkpoint_every == 0:
                check(0)
                save(step)
        if schedule.steps == 0:
            numbers = evaluate(0)
            save(0)


def _stop_at_nonfinite(step: int, loss: float, paths: list[str], workdir: Path) -> None:
    report = workdir / "nonfinite.json"
    write_json(report, {"step": step, "loss": str(loss), "files": paths})
    shown = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
    raise UserError(
        f"the loss became {loss} at step {step} on the batch of {shown}; all its files are listed "
        f"in {report}. The last checkpoint is intact. Look at these files, or lower "
        "config.optimizer.learning_rate or set config.optimizer.clip_norm"
    )


class _Skipped:
    """Lists, once each, the files that this process could not read, in skipped.jsonl."""

    def __init__(self, workdir: Path) -> None:
        process = jax.process_index()
        self._path = workdir / (f"skipped.{process}.jsonl" if process else "skipped.jsonl")
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self._seen = {json.loads(line)["path"] for line in lines}

    def add(self, paths: list[str], errors: Any) -> None:
        new = [
            {"path": path, "reason": str(error)}
            for path, error in zip(paths, [] if errors is None else errors, strict=False)
            if str(error) and path not in self._seen
        ]
        if new:
            with self._path.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in new)
            self._seen |= {row["path"] for row in new}
            _log.warning("skipped %d unreadable images so far, see %s", len(self._seen), self._path)
