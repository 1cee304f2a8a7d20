"""What a compiled program takes on one device, and bounds of its time from published figures."""

import dataclasses
import re
import time
from dataclasses import dataclass
from typing import Any

import jax

from exif_jax.chips import Chip
from exif_jax.planning.collectives import Collective, collectives
from exif_jax.planning.programs import Program

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|Ran out of memory|[Oo]ut of memory")
_SIZE = r"([\d.]+)([KMGT]?)"
_USED = re.compile(rf"Used {_SIZE} of {_SIZE} hbm|\({_SIZE}\) exceeds available HBM \({_SIZE}\)")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Memory:
    """Bytes of one device.

    Attributes:
        arguments: of the call.
        outputs: of it.
        aliased: outputs that take the place of arguments.
        temporaries: at most, between.
        code: of the program.
        other: that the compiler counts beyond these, such as what it keeps apart for itself.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    other: int

    @property
    def peak(self) -> int:
        """All that is in memory while the program runs."""
        parts = self.arguments + self.outputs - self.aliased + self.temporaries
        return parts + self.code + self.other


@dataclass(frozen=True)
class Cost:
    """What one call of a program takes, on one device.

    Attributes:
        program: that was compiled.
        memory: of one device.
        flops: floating-point operations.
        bytes_accessed: between memory and cores, by the compiler's reckoning.
        collectives: what devices exchange.
        compile_seconds: here.
    """

    program: Program
    memory: Memory
    flops: float
    bytes_accessed: float
    collectives: list[Collective]
    compile_seconds: float

    def bounds(self, chip: Chip | None) -> dict[str, float | None]:
        """Seconds that a call takes at least, by what each part of the chip can do at its best."""
        if chip is None:
            return {"arithmetic": None, "memory": None, "interconnect": None}
        sent = sum(each.sent_bytes for each in self.collectives)
        return {
            "arithmetic": self.flops / chip.flops,
            "memory": self.bytes_accessed / chip.hbm_bandwidth,
            "interconnect": sent / chip.link_bandwidth,
        }


@dataclass(frozen=True)
class TooLarge:
    """A program that the compiler refused because memory does not hold it.

    Attributes:
        program: that was compiled.
        used: bytes that it would take on one device; None: the compiler did not say.
        available: bytes that there are for it; None: likewise.
        compile_seconds: until then.
    """

    program: Program
    used: int | None
    available: int | None
    compile_seconds: float


def compiled_cost(program: Program) -> Cost | TooLarge:
    """Compiles a program and reads what it takes."""
    began = time.monotonic()
    try:
        compiled = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if not _OUT_OF_MEMORY.search(str(error)):
            raise
        return _too_large(program, str(error), time.monotonic() - began)
    seconds = time.monotonic() - began
    cost = _first(compiled.cost_analysis())
    return Cost(
        program,
        _memory(compiled.memory_analysis()),
        float(cost.get("flops", 0.0)),
        float(cost.get("bytes accessed", 0.0)),
        collectives(compiled.as_text() or "", program.devices),
        seconds,
    )


def _memory(found: Any) -> Memory:
    parts = Memory(
        found.argument_size_in_bytes,
        found.output_size_in_bytes,
        found.alias_size_in_bytes,
        found.temp_size_in_bytes,
        found.generated_code_size_in_bytes,
        0,
    )
    whole = getattr(found, "peak_memory_in_bytes", 0)
    return dataclasses.replace(parts, other=max(0, whole - parts.peak))


def _first(analysis: Any) -> dict[str, float]:
    """The cost of the program; a list of one in some releases."""
    found = analysis[0] if isinstance(analysis, list) else analysis
    return found or {}


def _too_large(program: Program, message: str, seconds: float) -> TooLarge:
    found = _USED.search(message)
    if found is None:
        return TooLarge(program, None, None, seconds)
    sizes = [text for text in found.groups() if text is not None]
    used, available = (round(float(sizes[i]) * _UNITS[sizes[i + 1]]) for i in (0, 2))
    return TooLarge(program, used, available, seconds)
