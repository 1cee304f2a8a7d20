"""The plan of a stage: compiles its programs, and tells what they take as JSON and as text."""

import dataclasses
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, Final

from data_pipelines.errors import UserError
from exif_jax.config import EncoderConfig, OneClassConfig
from exif_jax.planning.batches import largest_fitting
from exif_jax.planning.costs import Cost, TooLarge, compiled_cost
from exif_jax.planning.input_rate import measured_input_rate
from exif_jax.planning.programs import Program, planned
from exif_jax.planning.topologies import Topology

Say = Callable[[str], None]
_NEVER_RUN: Final = "computed by the compiler, never run"
_RATE: Final = "images_per_second_at_most"


def make_plan(
    config: Any,
    topology: Topology,
    model: EncoderConfig | None,
    *,
    auto_batch: bool,
    step_only: bool,
    say: Say,
) -> dict[str, Any]:
    """Compiles the programs of a stage and tells what they take.

    Args:
        config: of the stage.
        topology: to compile for.
        model: see `planned`.
        auto_batch: whether to find the largest batch that fits, in place of the configuration's.
        step_only: whether to leave out feature extraction.
        say: told what is being compiled.

    Returns:
        The plan, as `--json` gives it.

    Raises:
        UserError: see `planned`; `auto_batch` for the one-class stage.
    """
    known: dict[int, Cost | TooLarge] = {}
    if auto_batch:
        config, known = _with_largest_batch(config, topology, model, say)
    plan = planned(config, topology, model)
    wanted = [program for program in plan.programs if program.in_step or not step_only]
    done = [
        (known.get(program.images) if program.in_step else None)
        or _compiled(program, topology, say)
        for program in wanted
    ]
    step = [cost for cost in done if cost.program.in_step]
    rows = {cost.program.name: _facts([cost], topology) for cost in done}
    total = _facts(step, topology)
    rate = total.pop(_RATE, None)
    is_em = isinstance(config, OneClassConfig)
    hosts = step[0].program.hosts
    per_host = None if rate is None else rate / hosts
    return {
        "stage": plan.stage,
        "topology": topology.name,
        "devices": total.pop("devices"),
        "hosts": hosts,
        "batch_size": None if is_em else config.batch_size,
        "computed": _NEVER_RUN,
        "compiler": topology.compiler,
        "version": importlib.metadata.version("exif-jax"),
        "chip": dataclasses.asdict(topology.chip) if topology.chip else None,
        "assumptions": list(plan.assumptions),
        "fits": all(row["fits"] for row in rows.values()),
        "hbm_bytes": topology.hbm_bytes,
        **total,
        _RATE: rate,
        "images_per_second_per_host_at_most": per_host,
        "input_images_per_second_per_host": {
            # Rows of EM are read once; what reads images is feature extraction.
            "needed": rows.get("encode", {}).get(_RATE) if is_em else per_host,
            "measured_here": measured_input_rate(config, plan.extractor),
        },
        "programs": rows,
    }


def _compiled(program: Program, topology: Topology, say: Say) -> Cost | TooLarge:
    minutes = "" if topology.can_run else "; minutes, about 3 for a training step on two idle cores"
    say(
        f"compiling {program.name} ({program.what}) for {program.devices} devices of "
        f"{topology.name}{minutes} ..."
    )
    return compiled_cost(program)


def _with_largest_batch(
    config: Any, topology: Topology, model: EncoderConfig | None, say: Say
) -> tuple[Any, dict[int, Cost | TooLarge]]:
    """The configuration with the largest batch that fits, and the steps compiled on the way."""
    if isinstance(config, OneClassConfig):
        raise UserError("--batch auto is for the training steps of pretext and binary")
    devices = len(topology.devices)
    known: dict[int, Cost | TooLarge] = {}

    def of(images: int) -> Any:
        return dataclasses.replace(config, batch_size=images * devices)

    def peak(images: int) -> int | None:
        program = planned(of(images), topology, model).programs[0]
        say(f"trying {images} images a device")
        cost = known[program.images] = _compiled(program, topology, say)
        return cost.memory.peak if isinstance(cost, Cost) else None

    images = largest_fitting(peak, topology.hbm_bytes, config.batch_size // devices)
    return of(max(1, images)), known


def _facts(costs: Sequence[Cost | TooLarge], topology: Topology) -> dict[str, Any]:
    """What programs that run one after the other take, on one device."""
    first = costs[0].program
    facts: dict[str, Any] = {
        "what": ", then ".join(cost.program.what for cost in costs),
        "devices": first.devices,
        "images": first.images,
        "fits": True,
        "compile_seconds": sum(cost.compile_seconds for cost in costs),
    }
    known = [cost for cost in costs if isinstance(cost, Cost)]
    for cost in costs:
        if isinstance(cost, TooLarge):
            return facts | {"fits": False, "peak_memory_bytes": cost.used}
    largest = max((cost.memory for cost in known), key=lambda memory: memory.peak)
    bounds = _sum_of([cost.bounds(topology.chip) for cost in known])
    seconds = None if None in bounds.values() else max(bounds.values())
    slowest = max(bounds, key=lambda name: bounds[name] or 0.0)
    exchanged: dict[str, dict[str, Any]] = {}
    for each in (each for cost in known for each in cost.collectives):
        row = exchanged.setdefault(each.kind, {"kind": each.kind, "count": 0, "bytes": 0})
        row["count"] += each.count
        row["bytes"] += each.bytes
    return facts | {
        "fits": largest.peak <= topology.hbm_bytes,
        "peak_memory_bytes": largest.peak,
        "memory_bytes": dataclasses.asdict(largest),
        "flops_per_device": sum(cost.flops for cost in known),
        "bytes_accessed_per_device": sum(cost.bytes_accessed for cost in known),
        "collectives": list(exchanged.values()),
        "bounds_seconds": bounds,
        "bound_by": None if seconds is None else slowest,
        "seconds_at_least": seconds,
        _RATE: None if seconds is None else first.images / seconds,
    }


def _sum_of(rows: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    return {
        name: None
        if any(row[name] is None for row in rows)
        else sum(row[name] or 0 for row in rows)
        for name in rows[0]
    }


def misfit(plan: dict[str, Any]) -> str:
    """One line that says what does not fit, and what to do; empty if all fits."""
    for name, row in plan["programs"].items():
        if not row["fits"]:
            needs = row["peak_memory_bytes"]
            much = "more" if needs is None else f"{needs / 1e9:.2f} GB"
            remedy = (
                "take fewer images (--batch auto finds the most that fit), fewer "
                "--config.data.patches, or more devices"
            )
            return (
                f"{name} does not fit on {plan['topology']}: it needs {much} of "
                f"{plan['hbm_bytes'] / 1e9:.2f} GB a device"
                + (f"; {remedy}" if name == "step" else "")
            )
    return ""
