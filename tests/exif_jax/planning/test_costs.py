"""Memory, bounds of time, and what is said of a program that does not fit."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from exif_jax.chips import TPUS
from exif_jax.planning.collectives import Collective
from exif_jax.planning.costs import Cost, Memory, TooLarge, compiled_cost
from exif_jax.planning.programs import Program
from exif_jax.planning.report import misfit


def program(lower=None):
    return Program("step", "a training step", 1, 1, 16, lower or (lambda: None), True)


def test_what_the_compiler_says_of_a_product():
    def lower():
        x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
        return jax.jit(jnp.matmul).lower(x, x)

    cost = compiled_cost(program(lower))
    assert isinstance(cost, Cost)
    assert cost.memory.arguments == 2 * 4 * 64**2 and cost.memory.outputs == 4 * 64**2
    assert cost.memory.peak >= 3 * 4 * 64**2
    assert cost.flops == pytest.approx(2 * 64**3, rel=0.01)
    assert cost.bytes_accessed >= 3 * 4 * 64**2 and cost.collectives == []
    assert set(cost.bounds(None).values()) == {None}


def test_bounds_are_amounts_over_published_peaks():
    memory = Memory(10, 20, 5, 100, 1, 2)
    exchanged = [Collective("all-reduce", 2, 100, 150.0), Collective("all-gather", 1, 8, 50.0)]
    cost = Cost(program(), memory, 197e12, 819e9 * 2, exchanged, 1.0)
    assert memory.peak == 128
    bounds = cost.bounds(TPUS["v5e"])
    assert bounds == {"arithmetic": 1, "memory": 2, "interconnect": pytest.approx(200 / 200e9)}


@pytest.mark.parametrize(
    ("message", "used"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (30.50G) exceeds available HBM (15.75G).",
            30.5 * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: XLA:TPU compile error. Used 512.0M of 15.75G hbm.", 2**29),
        ("RESOURCE_EXHAUSTED: too much", None),
    ],
)
def test_a_program_that_memory_does_not_hold(message, used):
    def lower():
        raise jax.errors.JaxRuntimeError(message)

    found = compiled_cost(program(lower))
    assert isinstance(found, TooLarge) and found.used == used
    assert found.available == (None if used is None else 15.75 * 2**30)


def test_other_errors_of_the_compiler_are_not_hidden():
    def lower():
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    with pytest.raises(jax.errors.JaxRuntimeError, match="broken"):
        compiled_cost(program(lower))


@pytest.mark.parametrize(("needs", "said"), [(20e9, "it needs 20.00 GB of 17.18"), (None, "more")])
def test_one_line_says_what_does_not_fit(needs, said):
    rows = {"encode": {"fits": True}, "step": {"fits": False, "peak_memory_bytes": needs}}
    plan = {"topology": "v5e:4x4", "hbm_bytes": 2**34, "programs": rows}
    assert "step does not fit on v5e:4x4" in misfit(plan) and said in misfit(plan)
    assert "--batch auto" in misfit(plan)
    assert misfit({**plan, "programs": {"step": {"fits": True}}}) == ""


def test_chips_name_their_source():
    for chip in TPUS.values():
        assert all(value for value in dataclasses.asdict(chip).values())
        assert chip.source.startswith("https://")
