"""Overrides of a configuration on the command line, and config.json and other files of a run."""

import json
from pathlib import Path

import jax
from numpy.random import Generator

from data_pipelines.errors import UserError
from exif_jax.cli.entry import load_config, our_configs
from exif_jax.cli.runs import described, format_table
from exif_jax.config import flat, to_json
from exif_jax.training.runs import MetricsLog, open_run
from exif_jax.training.timeline import opened
from tests.fuzzing.target import Case, Target, refused
from tests.fuzzing.texts import changed, damaged, dumped, scalar, text

_CONFIGS = ("pretext", "one_class", "binary", "evaluation", "residual_pretext", "demo_binary")
_RUN = {
    "stage": "pretext",
    "seed": 3,
    "steps": 1000,
    "data": {"photos": "x"},
    "model": {"encoder": "published"},
}
_TIMES = [
    {"at": 10.5, "event": "start", "host": "there", "pid": 7, "born": 99},
    {"at": 12.5, "event": "begin", "step": 1, "heard": 11.5, "seconds": {"start": 2.0}},
    {"at": 13.5, "event": "end", "step": 2, "state": "failed", "error": "x", "seconds": {}},
]
_METRICS = [{"step": 1, "split": "train", "loss": 0.5}, {"step": 2, "split": "validation"}]


def fields(config: str) -> list[str]:
    """The fields of a configuration of ours."""
    return sorted(flat(to_json(load_config([f"--config={config}"]))))


def override(rng: Generator, names: list[str]) -> str:
    """A word that sets a field, which may be misspelt, to any value."""
    name = names[int(rng.integers(len(names)))]
    if rng.integers(8) == 0:
        name = text(rng) if rng.integers(2) else name[:-1]
    value = text(rng) if rng.integers(2) else str(scalar(rng))
    return f"--config.{name}={value}"


def make(rng: Generator) -> Case:
    """Words of a command line; or files of a run."""
    if rng.integers(3) == 0:
        config, rows = changed(rng, _RUN), [changed(rng, row) for row in _METRICS]
        times = [changed(rng, row) for row in _TIMES[: int(rng.integers(1, 4))]]
        files = {
            "config.json": dumped(config),
            "metrics.jsonl": b"\n".join(map(dumped, rows)),
            "time.jsonl": b"\n".join(map(dumped, [*_TIMES, *times])) + b"\n",
        }
        if rng.integers(3) == 0:
            name = sorted(files)[int(rng.integers(3))]
            files[name] = damaged(rng, files[name])
        return files
    config = _CONFIGS[int(rng.integers(len(_CONFIGS)))]
    words = [override(rng, fields(config)) for _ in range(int(rng.integers(1, 4)))]
    first = f"--config={config}" if rng.integers(10) else f"--config={text(rng)}"
    if rng.integers(12) == 0:
        words.append(text(rng))
    return {str(i): w.encode("utf-8", "surrogatepass") for i, w in enumerate([first, *words])}


def run(case: Case, folder: Path) -> str:
    """Parses the words; or goes on with the run."""
    if "0" not in case and not {"config.json", "metrics.jsonl", "time.jsonl"} & case.keys():
        return "empty"
    given = [content.decode("utf-8", "replace") for content in case.values()]
    given += [word.partition("=")[2] for word in given]
    try:
        if "0" not in case:
            for name, data in case.items():
                (folder / name).write_bytes(data)
            format_table([described(folder, folder)])
            config = load_config(["--config=pretext", "--config.seed=3"])
            opened(folder, True)
            open_run(folder, config, "pretext")
            with MetricsLog(folder, 5) as log:
                log.last("train"), log.last_step("train"), log.lowest("validation", "loss")
            return "continued"
        words = [case[i].decode("utf-8", "surrogatepass") for i in sorted(case, key=int)]
        config = load_config([word.replace("\0", "") for word in words])
        json.dumps(to_json(config))
        return "read"
    except UserError as error:
        refused(error, given)
        return "refused"


jax.config.update("jax_platforms", "cpu")
assert our_configs().keys() >= set(_CONFIGS)
TARGET = Target(make, run, cases=200)
