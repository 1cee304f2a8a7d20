"""Commands that are interrupted: their words, and what they leave behind."""

import json
from collections.abc import Callable
from pathlib import Path

from array_record.python.array_record_data_source import ArrayRecordDataSource
from safetensors.numpy import load_file

from data_pipelines.records import parse_record
from tests.fuzzing import made

TINY = (
    *("--config.model.width=4", "--config.model.stage_depths=(1, 1, 1)"),
    *("--config.model.mixer_hidden=8", "--config.data.patches=2", "--config.data.threads=2"),
    *("--config.batch_size=8", "--config.log_every=1", "--config.eval_every=2"),
)
SHORT = ("--config.steps=6", "--config.checkpoint_every=2")
# Of what a command writes, what is compared: all but logs, events, plots and times.
_COMPARED = (
    *("*.jsonl", "*.csv", "*.html", "*.safetensors", "*.array_record*", "results.json"),
    *("targets.json", "tag_report.json", "detector.json", "extractor.json", "sweep.json"),
)
_PASSING = ("logs", "checkpoints", "features", "unfinished")


Command = Callable[[Path], tuple[str, ...]]
"""The folder to write to -> words of the command line."""


def _train(stage: str, *more: Callable[[], str]) -> Command:
    def words(out: Path) -> tuple[str, ...]:
        return ("train", f"--config={stage}", *(word() for word in more), f"--workdir={out}")

    return words


def _fixed(*words: str) -> list[Callable[[], str]]:
    return [lambda word=word: word for word in words]  # type: ignore[misc]


def _photos() -> str:
    return f"--config.data.photos={made.records()}"


def _labelled() -> str:
    return f"--config.data.images={made.labelled()}"


COMMANDS: dict[str, Command] = {
    "prepare": lambda out: (
        *("prepare", str(made.simulated() / "photos"), "--out", str(out)),
        *("--workers=1", "--validation-fraction=0.25"),
    ),
    "tags": lambda out: ("tags", str(made.records()), "--html", str(out.with_suffix(".html"))),
    "detect": lambda out: (
        *("detect", str(made.pictures()), "--detector", str(made.detector())),
        *("--out", str(out), "--csv", str(out.with_suffix(".csv"))),
    ),
    "convert": lambda out: ("convert", str(made.checkpoint()), str(out)),
    "eval": lambda out: (
        *("eval", "--config=evaluation", f"--config.detectors={made.detector()}"),
        *("--config.batch_size=2", _labelled(), f"--workdir={out}"),
    ),
    "pretext": _train("pretext", _photos, *_fixed(*TINY, *SHORT)),
    "one_class": _train(
        "one_class",
        _photos,
        lambda: f"--config.extractor={made.extractor()}",
        *_fixed("--config.num_components=1,2", "--config.pca=3"),
        *_fixed("--config.batch_size=1", "--config.checkpoint_every=1"),
    ),
    "binary": _train(
        "binary",
        _labelled,
        lambda: f"--config.extractor={made.extractor()}",
        *_fixed(*TINY[3:], *SHORT, "--config.data.validation_fraction=0.34"),
    ),
    "sweep": lambda out: (
        *("sweep", "--config=pretext", _photos(), *TINY, "--config.checkpoint_every=1"),
        *("--config.steps=2", "--grid=optimizer.learning_rate=1e-3,1e-4", f"--workdir={out}"),
    ),
}


def left_by(out: Path) -> dict[str, object]:
    """What a command left in or beside a folder, to be compared, by relative path."""
    found = sorted({path for pattern in _COMPARED for path in out.parent.rglob(pattern)})
    kept = (path for path in found if not set(_PASSING) & set(path.parts))
    return {str(path.relative_to(out.parent)): _content(path, out) for path in kept}


def unfinished(out: Path) -> list[str]:
    """Temporary files and folders that a command left."""
    return [str(path) for path in out.parent.rglob("*") if path.name.endswith((".tmp", ".old"))]


def _content(path: Path, out: Path) -> object:
    if path.suffix == ".safetensors":
        return {name: array.tolist() for name, array in load_file(path).items()}
    if "array_record" in path.name:  # the same records; their fields are in any order
        source = ArrayRecordDataSource(str(path))
        return [repr(parse_record(source[index])) for index in range(len(source))]
    data = path.read_bytes().replace(str(out).encode(), b"OUT")
    if path.name == "sweep.json":  # it has how long runs took
        return len(json.loads(data))
    return data
