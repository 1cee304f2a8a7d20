"""What the loop measures of itself: seconds by cause, rates, memory and the use of the chip."""

import contextlib
import logging
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import jax

from exif_jax.chips import chip_of
from exif_jax.config import flat, to_json
from exif_jax.training import timeline as time_of
from exif_jax.training.timeline import Timeline
from exif_jax.training.trackers import Tracked, Trackers

_log = logging.getLogger(__name__)

# Of a train line, what differs each time that the same steps are done.
MEASURED: Final = ("images_per_second", "step_seconds", "input_wait", "device_memory_gib", "mfu")

_COMPILING: Final = "/jax/core/compile/"
_compiled = [0.0]  # seconds of this process


@cache
def _listen() -> None:
    """JAX tells how long it traces, lowers and compiles; its listeners stay for good."""

    def hear(event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith(_COMPILING):
            _compiled[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(hear)


class Clock:
    """Seconds by cause: at any moment time goes to one of them; what JAX compiles, to `compile`."""

    def __init__(self, cause: str, before: float = 0.0) -> None:
        """Begins, with the seconds that the cause has taken before."""
        _listen()
        self._lock, self._cause = threading.Lock(), cause
        self._seconds = {"compile": 0.0, cause: before}
        self._since, self._compiled = time.monotonic(), _compiled[0]

    def switch(self, cause: str) -> str:
        """From now on time goes to this cause; gives the one before."""
        with self._lock:
            self._settle()
            before, self._cause = self._cause, cause
            self._seconds.setdefault(cause, 0.0)
        return before

    @contextlib.contextmanager
    def within(self, cause: str) -> Iterator[None]:
        """Time of the block goes to this cause."""
        before = self.switch(cause)
        try:
            yield
        finally:
            self.switch(before)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Time of the block goes to `compile` at once; what of it JAX did not compile, back."""
        heard, began, before = _compiled[0], time.monotonic(), self.switch("compile")
        try:
            yield
        finally:
            self.switch(before)
            other = max(0.0, time.monotonic() - began - (_compiled[0] - heard))
            with self._lock:
                self._seconds["compile"] -= other
                self._seconds[before] += other

    def read(self) -> dict[str, float]:
        """Seconds by cause so far."""
        with self._lock:
            self._settle()
            return dict(self._seconds)

    def _settle(self) -> None:
        now, compiled = time.monotonic(), _compiled[0]
        self._seconds[self._cause] += now - self._since
        # Heard of when it is done; other threads may have read the clock meanwhile.
        moved = min(compiled - self._compiled, self._seconds[self._cause])
        self._seconds[self._cause] -= moved
        self._seconds["compile"] += moved
        self._since, self._compiled = now, compiled


class Meter:
    """What train lines say of the steps since the line before.

    Evaluation, saving and compiling are no part of it.
    """

    def __init__(self, clock: Clock, step: int) -> None:
        """Begins after a step."""
        self._clock, self._step, self._before = clock, step, clock.read()
        self._images = 0
        self._peak_seconds: float | None = None  # that a step takes at the peak of the chip

    def know(self, images: int, flops: float | None) -> None:
        """Learns how many images a step takes, and FLOPs on each device."""
        chip = chip_of(jax.local_devices()[0].device_kind)
        self._images = images
        if chip is not None and flops:
            self._peak_seconds = flops / chip.flops

    def line(self, step: int) -> dict[str, float]:
        """`MEASURED` of the steps until this one."""
        now, steps = self._clock.read(), step - self._step
        spent = {c: now.get(c, 0.0) - self._before.get(c, 0.0) for c in ("train", "wait")}
        seconds = max(sum(spent.values()), 1e-9)
        self._step, self._before = step, now
        numbers = {
            "images_per_second": self._images * steps / seconds,
            "step_seconds": seconds / steps,
            "input_wait": spent["wait"] / seconds,
            "device_memory_gib": device_memory() / 2**30,
        }
        if self._peak_seconds is not None:
            numbers["mfu"] = self._peak_seconds * steps / seconds
        return numbers


def knows_peak() -> bool:
    """Whether the devices' peak is published."""
    return chip_of(jax.local_devices()[0].device_kind) is not None


def step_flops(step: Any, *arguments: Any) -> float | None:
    """FLOPs of a step on one device, as XLA counts its program; nothing is compiled for it.

    None where it cannot say.
    """
    analysis = step.lower(*arguments).cost_analysis()
    found = analysis[0] if isinstance(analysis, list) else analysis
    return float(found["flops"]) if found and found.get("flops", 0) > 0 else None


def device_memory() -> int:
    """Most bytes that were in use on the first device here; on a CPU, of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@dataclass(frozen=True)
class Telemetry:
    """What the loop tells of itself, and to whom.

    Attributes:
        clock: of this process, from when it opened the run.
        timeline: of all starts of the run.
        trackers: services that get the numbers, too.
    """

    clock: Clock
    timeline: Timeline
    trackers: Trackers

    @classmethod
    def of(cls, workdir: Path, config: Any, trackers: str) -> "Telemetry":
        """Of a run, which this process opens now unless it has; only the first process writes.

        Args:
            workdir: of the run.
            config: of it; a dataclass.
            trackers: names, see `Trackers`.
        """
        writes = jax.process_index() == 0
        clock = Clock("start", time_of.opened(workdir, writes))

        def run() -> Tracked:
            identity = time_of.identity_of(time_of.read_timeline(workdir))
            return Tracked(identity, workdir, flat(to_json(config)))

        timeline = Timeline(workdir, clock.read, writes)
        return cls(clock, timeline, Trackers(trackers if writes else "", run))

    def end(self, error: BaseException | None) -> None:
        """The run ends here, by this error if any; may be called by several threads."""
        state = self.timeline.end(error)
        if state is not None:
            self.trackers.close(state)

    def tell_goodput(self) -> None:
        """Logs where the time of the run went, if there was anything to do."""
        if self.timeline.begun and jax.process_index() == 0:
            rows = time_of.read_timeline(self.timeline.workdir)
            _log.info("%s", time_of.in_words(time_of.seconds_by_cause(rows)))
