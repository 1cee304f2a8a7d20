"""What devices exchange in a compiled program, read from its text (HLO)."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

KINDS: Final = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# %name = TYPE all-reduce(OPERANDS), ATTRIBUTES; TYPE may be a tuple. Of a pair of asynchronous
# instructions only -start is read. Layouts hold parentheses, "f32[8]{0:T(8,128)S(1)}".
_INSTRUCTION = re.compile(
    r"^\s*(?:ROOT )?%?[\w.-]+ = (?P<type>.+?) (?P<kind>"
    + "|".join(KINDS)
    + r")(?P<start>-start)?\("
)
# The TPU's compiler repeats a collective in every computation that runs while it is under way.
_CHAIN = re.compile(r'chain_id="(\d+)"')
_SHAPE = re.compile(r"\b(pred|(?:s|u|f|bf|c)\d+[a-z0-9]*)\[([\d,]*)\]")
_GROUPS_LISTED = re.compile(r"replica_groups=\{\{([\d,]*)\}")
_GROUPS_COUNTED = re.compile(r"replica_groups=\[(\d+),(\d+)\]")


@dataclass(frozen=True)
class Collective:
    """All collectives of one kind in a program.

    Attributes:
        kind: such as all-reduce.
        count: of its instructions, each of which may exchange many arrays.
        bytes: of their results on one device, together.
        sent_bytes: that one device must send, at least.
    """

    kind: str
    count: int
    bytes: int
    sent_bytes: float


def collectives(text: str, devices: int) -> list[Collective]:
    """The collectives of a compiled program by kind, in alphabetical order.

    Those inside a loop are counted once.

    Args:
        text: `as_text()` of it.
        devices: over which a collective goes that names no groups.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    chains: set[tuple[str, str]] = set()
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        chain = _CHAIN.search(line)
        if chain is not None:
            if (match["kind"], chain[1]) in chains:
                continue
            chains.add((match["kind"], chain[1]))
        size = _result_bytes(match["type"], match["kind"], match["start"] is not None)
        sent = _sent(match["kind"], size, _group_size(line, devices))
        found.setdefault(match["kind"], []).append((size, sent))
    return [
        Collective(kind, len(each), sum(size for size, _ in each), sum(sent for _, sent in each))
        for kind, each in sorted(found.items())
    ]


def _result_bytes(type_: str, kind: str, starts: bool) -> int:
    sizes = [_bytes(*shape) for shape in _SHAPE.findall(type_)]
    if starts and kind != "all-reduce":
        # (operands, results), for permutations with two words of context behind.
        parts = _elements(type_)
        if len(parts) > 1:
            sizes = [_bytes(*shape) for shape in _SHAPE.findall(parts[1])]
    return sum(sizes)


def _elements(type_: str) -> list[str]:
    """Elements of a tuple's type, outermost level."""
    if not type_.startswith("("):
        return [type_]
    depth, parts = 0, [""]
    for letter in type_[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _bytes(dtype: str, shape: str) -> int:
    digits = re.search(r"\d+", dtype)
    bits = 8 if digits is None else int(digits[0])
    return -(-math.prod(_numbers(shape)) * bits // 8)


def _numbers(text: str) -> Iterable[int]:
    return (int(number) for number in text.split(",") if number)


def _group_size(line: str, devices: int) -> int:
    counted, listed = _GROUPS_COUNTED.search(line), _GROUPS_LISTED.search(line)
    if counted:
        return int(counted[2])
    return len(list(_numbers(listed[1]))) or devices if listed else devices


def _sent(kind: str, size: int, group: int) -> float:
    """Bytes that each device of a group must send, whatever the algorithm.

    An all-reduce is no less than a reduce-scatter and an all-gather (Chan et al., "Collective
    communication", Concurrency and Computation 19, 2007).
    """
    if group == 1:
        return 0.0
    match kind:
        case "all-reduce":
            return 2 * size * (group - 1) / group
        case "all-gather" | "all-to-all" | "ragged-all-to-all":
            return size * (group - 1) / group
        case "reduce-scatter":
            return size * (group - 1)
    return float(size)
