"""What the training loop itself takes: memory over many tiny steps, and time a step.

The network is one number, so nearly all that is measured is the loop: batches of Grain, the
dispatch, losses looked at, train lines with their times, an evaluation and a checkpoint now and
then. Memory that grows with the steps would end a long run.
"""

import gc
import os
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import Report, command_line

from data_pipelines.pipeline import Batches
from exif_jax.config import PretextConfig
from exif_jax.training.loop import Stage, fit
from exif_jax.training.mapping import data_mesh
from exif_jax.training.step import initial_state, map_train_step
from exif_jax.training.timeline import in_words, read_timeline, seconds_by_cause

# On a CPU, on an accelerator, with --quick.
SIZES = {"steps": (10_000, 10_000, 40), "every": (1000, 1000, 10), "log_every": (20, 20, 2)}
_BATCH = 8
_NOTE = """Resident memory of the process when the loop came to a step. After the first thousand,
all is compiled and every buffer is full."""


def _loss(params: Any, frozen: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict]:
    return jnp.mean(jnp.square(params["x"] - batch["target"])), {}


def _load(index: int) -> dict[str, Any]:
    return {"target": np.float32(index % 7), "path": f"{index}.jpg"}


def measure(sizes: Any, saves: int) -> tuple[list[dict[str, Any]], str]:
    """A row for every so many steps, and what there is to say of them.

    Args:
        sizes: of the report.
        saves: steps between two checkpoints and evaluations.
    """
    optimizer, mesh = optax.adam(1e-3), data_mesh(jax.devices()[:1])
    mapped, rows, began = map_train_step(_loss, optimizer, mesh), [], time.perf_counter()
    done = 0

    def step(*arguments: Any) -> Any:
        nonlocal done, began
        if done % sizes.every == 0:
            gc.collect()
            now = time.perf_counter()
            spent = {"ms a step": 1e3 * (now - began) / sizes.every} if done else {}
            rows.append({"step": done, "resident, MB": _resident() / 1e6, **spent})
            began = time.perf_counter()
        done += 1
        return mapped(*arguments)

    stage = Stage(
        state=initial_state({"x": jnp.zeros(())}, optimizer),
        frozen={},
        step=step,
        mesh=mesh,
        data=Batches(grain.MapDataset.range(100_000).map(_load), _BATCH, threads=1),
        evaluators=[lambda params: {"loss": float(params["x"])}],
        export=lambda params, step, numbers: None,
        keep_best=False,
    )
    schedule = PretextConfig(
        steps=sizes.steps + 1,
        log_every=sizes.log_every,
        eval_every=saves,
        checkpoint_every=saves,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(stage, schedule, Path(folder))
        account = in_words(seconds_by_cause(read_timeline(Path(folder))))
    late = [row["resident, MB"] for row in rows[1:]]
    count = rows[-1]["step"] - rows[1]["step"]
    growth = f"From step {rows[1]['step']} on: {late[-1] - late[0]:+.2f} MB in {count} steps."
    return rows, f"{growth} Its account of itself: {account}."


def _resident() -> int:
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    found = re.search(r"VmRSS:\s*(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints the table and writes the results."""
    report = Report("loop", command_line(__doc__).parse_args(argv), SIZES)
    sizes = report.sizes
    report.add("Steps alone", *measure(sizes, 2 * sizes.steps), _NOTE)
    report.add("With a checkpoint and an evaluation every so often", *measure(sizes, sizes.every))


if __name__ == "__main__":
    main()
