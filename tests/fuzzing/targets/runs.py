"""Stages and evaluations of one step: fields of any value, and runs whose files are damaged."""

import json
import logging
from pathlib import Path

from numpy.random import Generator

from exif_jax.cli import __main__ as cli
from exif_jax.cli import entry
from exif_jax.config import flat, to_json
from tests.fuzzing import made
from tests.fuzzing.commands import TINY
from tests.fuzzing.target import Case, Target, run_command
from tests.fuzzing.texts import changed, damaged, dumped, text

# Numbers that neither take hours nor all memory where they are allowed.
_NUMBERS = ("0", "-1", "1", "2", "3", "0.5", "1.5", "-0.5", "1e-9", "1e30", "nan", "inf", "-inf")
_WORDS = (
    "",
    "x",
    "none",
    "all",
    "1-",
    "2-1",
    "1,2",
    "1,,2",
    "0-2",
    ",",
    "=",
    "a=b",
    "adam",
    "jpeg:85",
)
_WORDS += (
    "full,",
    "bic",
    "-Make",
    "ranked",
    "Make=nan",
    "b1=2",
    "cosine",
    "float16",
    "knn:",
    "x:y",
)
_TUPLES = ("()", "(1,)", "(0, 0)", "(-1, 2)", "(5, 1)", "(1, 2, 3)", "('a',)", "(1e9, 1)")
_SAFE = ("photos", "images", "extractor", "detectors", "descriptions", "extra")
_SMALL = ("--config.steps=1", "--config.checkpoint_every=1", "--config.eval_every=1")


def _commands() -> dict[str, tuple[str, ...]]:
    photos = f"--config.data.photos={made.records()}"
    images = f"--config.data.images={made.labelled()}"
    extractor = f"--config.extractor={made.extractor()}"
    return {
        "pretext": ("train", "--config=pretext", photos, *TINY, *_SMALL),
        "residual_pretext": (
            *("train", "--config=residual_pretext", photos, *_SMALL, "--config.batch_size=8"),
            *("--config.data.versions=0", "--config.model.features=4"),
        ),
        "one_class": (
            *("train", "--config=one_class", photos, extractor, "--config.steps=2"),
            *("--config.num_components=1", "--config.pca=3"),
        ),
        "binary": ("train", "--config=binary", images, extractor, *TINY[3:], *_SMALL),
        "evaluation": (
            *("eval", "--config=evaluation", images, f"--config.detectors={made.detector()}"),
            *("--config.batch_size=4",),
        ),
    }


def make(rng: Generator) -> Case:
    """A command with one or two fields of any value; or with what is changed of its run."""
    commands = _commands()
    command = list(commands)[int(rng.integers(len(commands)))]
    case: Case = {"command": command.encode()}
    if rng.integers(4) == 0:
        return {**case, "damage": str(int(rng.integers(2**31))).encode()}
    fields = flat(to_json(entry.load_config([f"--config={command}"])))
    names = [name for name in sorted(fields) if name.rpartition(".")[2] not in _SAFE]
    for _ in range(int(rng.choice([1, 1, 2]))):
        name = names[int(rng.integers(len(names)))]
        match fields[name]:
            case list() if rng.integers(4):
                values = _TUPLES
            case str() if rng.integers(4):
                values = _WORDS
            case _:
                values = _NUMBERS
        value = values[int(rng.integers(len(values)))] if rng.integers(12) else text(rng)
        case[f"--config.{name}"] = value.encode("utf-8", "surrogatepass")
    return case


def run(case: Case, folder: Path) -> str:
    """Runs the command; a second time, if the files of its run are damaged."""
    command = case.get("command", b"evaluation").decode()
    words = [*_commands()[command], f"--workdir={folder / 'run'}"]
    words += [
        f"{name}={value.decode('utf-8', 'surrogatepass')}".replace("\0", "")
        for name, value in case.items()
        if name.startswith("--")
    ]
    status = _run(words)
    if seed := case.get("damage"):
        _damage(folder / "run", int(seed))
        more = ["--config.steps=3"] if "train" in words else []
        return f"{command}: gone on with, status {_run([*words, *more])}"
    return f"{command}: status {status}"


def _damage(run_folder: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    files = [path for path in sorted(run_folder.rglob("*")) if path.is_file()]
    for _ in range(int(rng.choice([1, 1, 2]))):
        path = files[int(rng.integers(len(files)))]
        if rng.integers(8) == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.write_bytes(_changed(rng, path))


def _changed(rng: Generator, path: Path) -> bytes:
    data = path.read_bytes()
    try:
        if rng.integers(4) and path.suffix == ".json":
            return dumped(changed(rng, json.loads(data)))
        if rng.integers(4) and path.suffix == ".jsonl":
            return b"".join(dumped(changed(rng, json.loads(x))) + b"\n" for x in data.splitlines())
    except ValueError:
        pass
    return damaged(rng, data)


def _run(words: list[str]) -> int:
    try:
        status, _, _ = run_command(cli.main, words)
    finally:
        for package in ("exif_jax", "data_pipelines", "configs"):
            logging.getLogger(package).handlers.clear()
    return status


TARGET = Target(make, run, cases=1, seconds=240.0)
