"""The commands of `real_photos.py`: which runs there are, and each of them run once."""

import dataclasses
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from real_data import CONDITIONS

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]

_log = logging.getLogger("real_photos")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the results."""

    steps: int = 500
    batch_size: int = 16
    patches: int = 4
    learning_rate: float = 3e-4
    eval_every: int = 100
    binary_steps: int = 200
    binary_learning_rate: float = 3e-4
    feature_patches: int = 8
    pca: int = 64
    components: str = "1,2,5"
    max_test_photos: int = 150
    seed: int = 0
    alpha_zero: bool = True
    tiny: bool = False


TINY = Settings(
    steps=2,
    batch_size=4,
    patches=2,
    eval_every=1,
    binary_steps=2,
    feature_patches=2,
    pca=4,
    components="1,2",
    max_test_photos=20,
    tiny=True,
)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A detector run and how it is told apart in the tables."""

    name: str
    kind: str
    teacher: str  # the pretext extractor it uses: trained or untrained
    condition: str  # of the images it was made from
    alpha: float | None = None


def detectors(settings: Settings) -> list[Trained]:
    """Every detector that is made."""
    one_class = [
        Trained(f"one_class_{teacher}_{condition}", "one-class", teacher, condition)
        for condition in CONDITIONS
        for teacher in ("trained", "untrained")
    ]
    binary = [
        Trained("binary_trained_equalised", "binary", "trained", "equalised", 0.05),
        Trained("binary_untrained_equalised", "binary", "untrained", "equalised", 0.05),
        Trained("binary_trained_original", "binary", "trained", "original", 0.05),
    ]
    if settings.alpha_zero:
        binary.append(Trained("binary_alone_equalised", "binary", "untrained", "equalised", 0.0))
    return one_class + binary


class Steps:
    """Runs commands and functions once each, in order; their results are kept in DIR/done."""

    def __init__(self, work: Path, data: Path) -> None:
        """Remembers the two directories, which are shown as DIR and DATA."""
        self._work, self._data = work, data
        self.results: list[dict[str, Any]] = []
        for name in ("done", "logs"):
            (work / name).mkdir(exist_ok=True)

    def command(self, name: str, *arguments: object) -> None:
        """Runs `python ARGUMENTS` from the repository's root, its output in DIR/logs/NAME.log."""

        def run() -> dict[str, Any]:
            words = [sys.executable, *map(str, arguments)]
            log = self._work / "logs" / f"{name}.log"
            with log.open("a") as out:
                status = subprocess.run(words, cwd=ROOT, stdout=out, stderr=out).returncode
            if status:
                tail = log.read_text(errors="replace")[-3000:]
                raise UserError(f"{name} ended with status {status}; the end of {log}:\n{tail}")
            return {"command": self._shown(words)}

        self.function(name, run)

    def function(self, name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Calls a function unless its result is there already; returns the result."""
        path = self._work / "done" / f"{name}.json"
        if path.exists():
            _log.info("%s: done before", name)
        else:
            _log.info("%s ...", name)
            start = time.monotonic()
            result = {"name": name, **run()}
            write_json(path, {**result, "seconds": round(time.monotonic() - start, 1)})
            _log.info("%s: %.0f s", name, time.monotonic() - start)
        found: dict[str, Any] = read_json(path)
        self.results.append(found)
        return found

    def _shown(self, words: Sequence[str]) -> str:
        text = " ".join(["python", *words[1:]])
        return text.replace(str(self._work), "DIR").replace(str(self._data), "DATA")


def make_runs(steps: Steps, settings: Settings, work: Path) -> None:
    """Prepares records, trains every extractor and detector, by the public commands."""
    for condition in CONDITIONS:
        steps.command(
            f"records_{condition}",
            *("-m", "exif_jax.cli", "prepare", work / f"photos_{condition}"),
            *("--out", work / f"records_{condition}"),
            *("--split-by", "camera", "--validation-fraction", 0.2, "--seed", settings.seed),
        )
    for name, count in (("untrained", 0), ("trained", settings.steps)):
        small = ["--config.model.width=8"] if settings.tiny else []
        steps.command(
            f"pretext_{name}",
            *("train.py", "--config=configs/pretext.py", f"--config.steps={count}"),
            f"--config.data.photos={work / 'records_original'}",
            f"--config.batch_size={settings.batch_size}",
            f"--config.data.patches={settings.patches}",
            f"--config.optimizer.learning_rate={settings.learning_rate}",
            f"--config.eval_every={settings.eval_every}",
            f"--config.checkpoint_every={settings.eval_every}",
            *("--config.log_every=5", f"--config.seed={settings.seed}", *small),
            f"--workdir={work / f'pretext_{name}'}",
        )
    for run in detectors(settings):
        extractor = f"--config.extractor={work / f'pretext_{run.teacher}'}"
        workdir = f"--workdir={work / run.name}"
        if run.kind == "one-class":
            steps.command(
                run.name,
                *("train.py", "--config=configs/one_class.py", extractor),
                f"--config.data.photos={work / f'records_{run.condition}'}",
                f"--config.pca={settings.pca}",
                f"--config.num_components={settings.components}",
                f"--config.data.patches={settings.feature_patches}",
                *(f"--config.seed={settings.seed}", workdir),
            )
        else:
            every = max(1, settings.binary_steps // 4)
            steps.command(
                run.name,
                *("train.py", "--config=configs/binary.py", extractor),
                f"--config.data.images={work / f'labelled_{run.condition}'}",
                f"--config.steps={settings.binary_steps}",
                f"--config.batch_size={settings.batch_size}",
                f"--config.data.patches={settings.patches}",
                "--config.data.validation_fraction=0.2",
                f"--config.optimizer.learning_rate={settings.binary_learning_rate}",
                f"--config.alpha={run.alpha}",
                f"--config.eval_every={every}",
                f"--config.checkpoint_every={every}",
                *("--config.log_every=5", f"--config.seed={settings.seed}", workdir),
            )
