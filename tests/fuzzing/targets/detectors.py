"""Detector folders: detector.json and model.safetensors changed, then judged by."""

import hashlib
import json
from pathlib import Path

from numpy.random import Generator

from exif_jax.cli import __main__ as cli
from exif_jax.models.storage import ARRAYS
from tests.fuzzing import made
from tests.fuzzing.target import Case, Target, run_command
from tests.fuzzing.texts import NUMBERS, changed, damaged, dumped, text

FACTS = "detector.json"
_FLAGS = ((), ("--json",), ("--no-stability",), ("--prior=0.5",), ("--csv", "t.csv"))
_FLAGS += (("--html", "p.html"), ("--out", "out"), ("--heatmap", "maps"))
_THRESHOLDS = ("threshold", "score_of", "patches", "verdicts", "threshold_details", "prepare")


def changed_arrays(rng: Generator, data: bytes) -> bytes:
    """Arrays of a safetensors file: its JSON, or its bytes."""
    size = int.from_bytes(data[:8], "little")
    if rng.integers(2):
        return damaged(rng, data)
    if rng.integers(3) == 0:  # the numbers alone
        return data[: 8 + size] + damaged(rng, data[8 + size :])[: len(data) - 8 - size]
    head = dumped(changed(rng, json.loads(data[8 : 8 + size])))
    return len(head).to_bytes(8, "little") + head + data[8 + size :]


def changed_model(rng: Generator, files: Case, description: str) -> Case:
    """A model folder with its description, its arrays or both changed; the hash mostly fits."""
    facts = json.loads(files[description])
    arrays = files[ARRAYS]
    what = int(rng.choice([0, 0, 0, 1, 2]))
    if what != 0:
        arrays = changed_arrays(rng, arrays)
        facts["sha256"] = {ARRAYS: hashlib.sha256(arrays).hexdigest()}
    if what != 1:
        if rng.integers(2):
            known = [key for key in (*_THRESHOLDS, "model", "targets", "kind") if key in facts]
            key = known[int(rng.integers(len(known)))]
            facts[key] = changed(rng, facts[key])
        elif rng.integers(3) == 0:
            facts[_THRESHOLDS[int(rng.integers(len(_THRESHOLDS)))]] = (
                NUMBERS[int(rng.integers(len(NUMBERS)))] if rng.integers(2) else text(rng)
            )
        else:
            facts = changed(rng, facts)
    description_bytes = dumped(facts)
    if rng.integers(10) == 0:
        description_bytes = damaged(rng, description_bytes)
    return {description: description_bytes, ARRAYS: arrays}


def make(rng: Generator) -> Case:
    """A binary or one-class detector, and flags."""
    source = made.detector() if rng.integers(3) else made.one_class_detector()
    case = changed_model(rng, made.files_of(source), FACTS)
    flags = _FLAGS[int(rng.integers(len(_FLAGS)))] if rng.integers(2) else ()
    return {**case, "flags": dumped(flags)}


def run(case: Case, folder: Path) -> str:
    """Judges three pictures by it."""
    made.put_files({n: data for n, data in case.items() if n != "flags"}, folder / "detector")
    flags = [str(folder / w) if "." in w or not w.startswith("-") else w for w in _flags(case)]
    words = ["detect", str(made.pictures()), "--detector", str(folder / "detector"), *flags]
    status, out, _ = run_command(cli.main, words)
    if "--json" in flags:
        for line in out.splitlines():
            json.loads(line, parse_constant=_refuse)
    return ("judged", "judged, with errors", "refused")[status]


def _flags(case: Case) -> list[str]:
    flags: list[str] = json.loads(case.get("flags", b"[]"))
    return flags


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


TARGET = Target(make, run, cases=30, seconds=90.0)
