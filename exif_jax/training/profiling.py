"""A trace of some steps, which xprof and TensorBoard open."""

import contextlib
import re
from pathlib import Path

import jax

from data_pipelines.errors import UserError


def parse_steps(text: str) -> tuple[int, int] | None:
    """First and last step of config.profile_steps, such as 100-105 or 100; None: none.

    Raises:
        UserError: anything else.
    """
    if not text:
        return None
    found = re.fullmatch(r"\s*(\d{1,12})(?:\s*-\s*(\d{1,12}))?\s*", text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise UserError(
            f"config.profile_steps = {text!r}: not a step from 1 on, or two as 100-105, of which "
            "the second is not before the first"
        )
    return first, last


class Profile:
    """Traces the steps that are asked for, of which a continued run may do the last ones only."""

    def __init__(self, text: str, folder: Path) -> None:
        """Writes to folder/plugins/profile; `text` as for `parse_steps`.

        Raises:
            UserError: see there.
        """
        self._steps, self._folder, self._runs = parse_steps(text), folder, False

    def step(self, step: int) -> contextlib.AbstractContextManager[object]:
        """Within, a step is begun: it has its number in the trace."""
        if self._steps is None or not self._steps[0] <= step <= self._steps[1]:
            return contextlib.nullcontext()
        if not self._runs:
            jax.profiler.start_trace(str(self._folder))
            self._runs = True
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def ends_after(self, step: int) -> bool:
        """Whether the trace is to be written, once this step is done."""
        return self._runs and self._steps is not None and step >= self._steps[1]

    def stop(self) -> None:
        """Writes what was traced so far."""
        if self._runs:
            self._runs = False
            jax.profiler.stop_trace()
