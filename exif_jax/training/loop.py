"""The one training loop of the gradient stages: resume, step, log, evaluate, checkpoint."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import read_json_lines, write_json
from data_pipelines.mirrors import shown
from data_pipelines.pipeline import Batches
from data_pipelines.skipped import SkippedRow, skipped_row
from data_pipelines.storage import valid_text
from exif_jax.training.checkpoints import Checkpoints
from exif_jax.training.mapping import replicate, shard, to_host
from exif_jax.training.preemption import Due, Watch
from exif_jax.training.profiling import Profile
from exif_jax.training.runs import CHECKPOINTS, MetricsLog, open_skipped
from exif_jax.training.step import Batch, Params, StepFn, TrainState
from exif_jax.training.telemetry import Meter, Telemetry, knows_peak, step_flops

_log = logging.getLogger(__name__)
_UNCHECKED_STEPS = 2  # losses are looked at this many steps late, so that devices never wait
_HOST_ENTRIES = ("path", "reason", "error")  # of a batch, which stay on the host

Evaluator = Callable[[Params], dict[str, float]]
"""Parameters (on the host) -> named numbers, in the validation split of the metrics.

All processes call it and get the same; it may divide the work by `training.shares`.
"""


@dataclass(frozen=True)
class Stage:
    """What a gradient stage gives to the loop; `stages.pretext.build` and `.binary.build` make one.

    Without the loop, a stage is trained like this:

        state, frozen, key = stage.place(jax.random.key(0))
        for batch in itertools.islice(stage.data, 100):
            state, metrics = stage.step(state, frozen, stage.put(batch), key)

    With a state of step 100, `stage.data.after(100)` goes on.

    Attributes:
        state: before the first step, on the host or one device.
        frozen: parameters that the step reads and never changes.
        step: mapped and compiled (state, frozen, batch, key) -> (state, metrics).
        mesh: over whose devices state and batches are laid out.
        data: endless batches of this process, from any step on; `path`, and `reason` and `error` of
            files that could not be read, stay on the host.
        evaluators: each gives numbers of the validation data; one of them gives `loss`.
        export: writes parameters (on the host) for use; gets the last validation's numbers.
        keep_best: export only when the validation loss is lower than ever before in the run;
            otherwise export every `checkpoint_every` steps.
        unread: by path, rows of the files that evaluators could not read in this process, which
            these put there; the loop adds them to the list of skipped files.
        undivided: `step` without `accumulate`, which computes the same, if that has parts; its
            FLOPs are counted, and it is never compiled.
    """

    state: TrainState
    frozen: Params
    step: StepFn
    mesh: jax.sharding.Mesh
    data: Batches
    evaluators: Sequence[Evaluator]
    export: Callable[[Params, int, dict[str, float]], None]
    keep_best: bool
    unread: dict[str, SkippedRow] = field(default_factory=dict)
    undivided: StepFn | None = None

    def place(self, key: jax.Array) -> tuple[TrainState, Params, jax.Array]:
        """State, frozen parameters and a key, on all devices; the state given away may be donated.

        The stage's own state is copied, so that it stays whole.
        """
        state = jax.tree.map(np.array, to_host(self.state))
        return (
            replicate(state, self.mesh),
            replicate(self.frozen, self.mesh),
            replicate(key, self.mesh),
        )

    def put(self, batch: dict[str, Any]) -> Batch:
        """A batch of `data` on the devices, without what stays on the host."""
        arrays = {name: x for name, x in batch.items() if name not in _HOST_ENTRIES}
        placed: Batch = shard(arrays, self.mesh)
        return placed

    def evaluate(self, params: Params) -> dict[str, float]:
        """The numbers of all evaluators."""
        numbers: dict[str, float] = {}
        for evaluator in self.evaluators:
            numbers |= evaluator(params)
        return numbers


class Schedule(Protocol):
    """What the loop reads of a configuration: steps, seed, and what happens how often, in steps."""

    steps: int
    seed: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    checkpoint_minutes: float
    hang_minutes: float
    profile_steps: str
    trackers: str


def fit(stage: Stage, schedule: Schedule, workdir: Path, watch: Watch | None = None) -> TrainState:
    """Trains until the last step, from the newest checkpoint of the workdir if there is one.

    An interrupted run, continued, goes through the same states and writes the same metrics as an
    uninterrupted one; on another number of processes or devices, up to rounding. Before it
    evaluates, it saves: an evaluation that was interrupted is done again, and nothing else.

    Args:
        stage: model, data and evaluation.
        schedule: the configuration of the run.
        workdir: of the run; gets checkpoints/, metrics.jsonl, TensorBoard events, and skipped.jsonl
            if images could not be read; time.jsonl, see `timeline`.
        watch: hears of SIGTERM and of the other processes; by default nobody does.

    Returns:
        The state after the last step, on the devices.

    Raises:
        UserError: the loss became infinite or NaN; the last checkpoint is intact, and
            nonfinite.json names the step and the files of its batch.
        Exit: the run was told to stop, and what was computed is saved.
    """
    telemetry = Telemetry.of(workdir, schedule, schedule.trackers)
    try:
        state = _fit(stage, schedule, workdir, watch or Watch(), telemetry)
    except BaseException as error:
        telemetry.end(error)
        raise
    telemetry.end(None)
    telemetry.tell_goodput()
    return state


def _fit(
    stage: Stage, schedule: Schedule, workdir: Path, watch: Watch, telemetry: Telemetry
) -> TrainState:
    state, frozen, key = stage.place(jax.random.key(schedule.seed))
    clock = telemetry.clock
    checkpoints = Checkpoints(workdir / CHECKPOINTS)
    try:
        newest = checkpoints.latest()
        start = newest or 0
        whole = _last_validation(workdir) >= start or not _is_evaluated(start, schedule)
        if newest is not None:
            with clock.within("restore"):
                state = checkpoints.restore(newest, state)
            if start >= schedule.steps and whole:
                _log.info("this run is finished: %d steps are done", start)
                return state
            _log.info("continuing after step %d", start)
        telemetry.timeline.begin(start)
        with MetricsLog(workdir, start) as metrics_log:
            run = _Run(stage, schedule, workdir, state, checkpoints, metrics_log, watch, telemetry)
            with contextlib.closing(stage.data.after(start)) as batches:
                state = run.train(frozen, key, batches, start, whole)
        clock.switch("save")
        if jax.process_index() == 0:
            from exif_jax.training.curves import training_curves  # matplotlib, only now

            training_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    finally:
        checkpoints.close()
    return state


class _Run:
    """One call of `fit`: the state, and what is written of it."""

    def __init__(
        self,
        stage: Stage,
        schedule: Schedule,
        workdir: Path,
        state: TrainState,
        checkpoints: Checkpoints,
        metrics_log: MetricsLog,
        watch: Watch,
        telemetry: Telemetry,
    ) -> None:
        self._telemetry, self._clock = telemetry, telemetry.clock
        self._profile = Profile(schedule.profile_steps, workdir / "tensorboard")
        self._shown: dict[str, str] = {}
        self._compiled = False
        self._watch, self._saved_step = watch, checkpoints.latest()
        self._stage, self._schedule, self._workdir = stage, schedule, workdir
        self._state, self._checkpoints, self._metrics_log = state, checkpoints, metrics_log
        self._unchecked: deque[tuple[int, Any, list[str]]] = deque()
        self._skipped = open_skipped(workdir)

    def train(
        self,
        frozen: Params,
        key: jax.Array,
        iterator: Iterator[dict[str, Any]],
        start: int,
        whole: bool,
    ) -> TrainState:
        """Trains from a step, whose evaluation may be missing, to the last."""
        schedule = self._schedule
        self._clock.switch("train")
        self._meter = Meter(self._clock, start)
        self._loader = ThreadPoolExecutor(1, "batches")
        with tqdm(
            total=schedule.steps,
            initial=start,
            unit="step",
            disable=jax.process_index() != 0,
            dynamic_ncols=True,
        ) as self._progress:
            self._watch.begin(
                start,
                self._before_end,
                alone=jax.process_count() == 1,
                checkpoint_minutes=schedule.checkpoint_minutes,
                hang_minutes=schedule.hang_minutes,
            )
            try:
                if start and not whole:
                    self._evaluate(start)
                for step in range(start + 1, schedule.steps + 1):
                    with self._profile.step(step):
                        self._step(step, frozen, key, iterator)
                    if step == start + 1:
                        self._watch.release()
                        self._learn_flops(frozen, key)
                    self._check(_UNCHECKED_STEPS)
                    if self._profile.ends_after(step):
                        self._check(0)
                        with self._clock.within("save"):
                            self._profile.stop()
                    self._progress.update()
                    self._do_what_is_due(step)
                if schedule.steps == 0:
                    self._do_what_is_due(0)
            finally:
                self._profile.stop()
                self._watch.finish()
                self._loader.shutdown(wait=False, cancel_futures=True)
        return self._state

    def _step(
        self, step: int, frozen: Params, key: jax.Array, iterator: Iterator[dict[str, Any]]
    ) -> None:
        loading = self._loader.submit(next, iterator)
        with self._clock.within("wait"):
            wanted = self._watch.wait_for(loading)
        while (due := self._watch.next_step() if wanted else Due.STOP) is not Due.GO:
            self._save(step - 1)
            if due is Due.STOP:
                raise self._watch.stopped()
        batch = loading.result()
        paths = [str(path) for path in batch["path"]]
        self._skipped.add(_unreadable(batch))
        self._batch = self._stage.put(batch)
        with contextlib.nullcontext() if self._compiled else self._clock.compiling():
            self._state, metrics = self._stage.step(self._state, frozen, self._batch, key)
        self._compiled = True
        self._unchecked.append((step, metrics, paths))

    def _learn_flops(self, frozen: Params, key: jax.Array) -> None:
        """Once the first step is compiled and begun, so that devices need not wait for it."""
        step, flops = self._stage.undivided or self._stage.step, None
        if knows_peak() and hasattr(step, "lower"):
            flops = step_flops(step, self._state, frozen, self._batch, key)
        self._meter.know(next(iter(self._batch.values())).shape[0], flops)

    def _do_what_is_due(self, step: int) -> None:
        evaluated = _is_evaluated(step, self._schedule)
        due = evaluated or step % self._schedule.checkpoint_every == 0
        if due and not evaluated:
            self._check(0)
            self._export(step, self._metrics_log.last("validation"))
        if due:
            self._save(step)
        if evaluated:
            self._evaluate(step)

    def _save(self, step: int) -> None:
        """Saves the state after a step, unless that was done."""
        if self._saved_step != step:
            self._check(0)
            with self._clock.within("save"):
                self._metrics_log.flush()
                self._checkpoints.save(step, self._state)
            self._saved_step = step
            self._telemetry.timeline.add("saved", step)
        self._watch.saved()

    def _before_end(self) -> None:
        """Closes what the end of the process, in another thread, would leave half-written."""
        self._progress.close()
        self._checkpoints.wait()
        self._telemetry.end(self._watch.stopped())

    def _check(self, keep: int) -> None:
        """Looks at the losses of all but the last `keep` steps; logs those that are due."""
        while len(self._unchecked) > keep:
            step, metrics, paths = self._unchecked.popleft()
            loss = float(metrics["loss"])
            self._progress.set_postfix(loss=f"{loss:.4f}", **self._shown, refresh=False)
            if not np.isfinite(loss):
                _stop_at_nonfinite(step, loss, paths, self._workdir)
            if step % self._schedule.log_every == 0 or step == self._schedule.steps:
                measured = self._meter.line(step)
                self._shown = {
                    "images/s": f"{measured['images_per_second']:.4g}",
                    "wait": f"{measured['input_wait']:.0%}",
                }
                self._write(step, "train", {k: float(v) for k, v in metrics.items()} | measured)

    def _write(self, step: int, split: str, numbers: dict[str, float]) -> None:
        for writer in (self._metrics_log, self._telemetry.trackers):
            writer.write(step, split, numbers)

    def _evaluate(self, step: int) -> None:
        with self._clock.within("evaluate"):
            self._measure(step)
        self._telemetry.timeline.add("evaluated", step)

    def _measure(self, step: int) -> None:
        params = to_host(self._state.evaluated)
        best = self._metrics_log.lowest("validation", "loss")
        with self._watch.evaluating():
            numbers = self._stage.evaluate(params)
        self._skipped.add(self._stage.unread.values())
        if self._stage.keep_best and (best is None or numbers["loss"] < best):
            self._stage.export(params, step, numbers)
        elif step == self._schedule.steps or step % self._schedule.checkpoint_every == 0:
            self._export(step, numbers)
        # At the very end: the line says that all of this is done.
        self._write(step, "validation", numbers)
        self._metrics_log.flush()

    def _export(self, step: int, numbers: dict[str, float]) -> None:
        """Where it is not only the best that is exported."""
        if not self._stage.keep_best:
            with self._clock.within("save"):
                self._stage.export(to_host(self._state.evaluated), step, numbers)


def _is_evaluated(step: int, schedule: Schedule) -> bool:
    """Whether an evaluation belongs to a step."""
    return step == schedule.steps or (step > 0 and step % schedule.eval_every == 0)


def _last_validation(workdir: Path) -> int:
    """Newest step whose evaluation, and what belongs to it, is done; -1 if there is none."""
    rows = read_json_lines(workdir / "metrics.jsonl")
    return max((row["step"] for row in rows if row["split"] == "validation"), default=-1)


def _stop_at_nonfinite(step: int, loss: float, paths: list[str], workdir: Path) -> None:
    report = workdir / "nonfinite.json"
    write_json(report, {"step": step, "loss": str(loss), "files": [*map(valid_text, paths)]})
    some = ", ".join(paths[:4]) + (f" and {len(paths) - 4} more" if len(paths) > 4 else "")
    raise UserError(
        f"the loss became {loss} at step {step} on the batch of {some}; all its files are listed "
        f"in {shown(report)}. The last checkpoint is intact. Look at these files, or lower "
        "config.optimizer.learning_rate or set config.optimizer.clip_norm"
    )


def _unreadable(batch: dict[str, Any]) -> Iterator[SkippedRow]:
    """Rows of the files of a batch that could not be read; records always can."""
    if "reason" in batch:
        for path, reason, error in zip(
            *(map(str, batch[name]) for name in _HOST_ENTRIES), strict=True
        ):
            if reason:
                yield skipped_row(path, reason, error)
