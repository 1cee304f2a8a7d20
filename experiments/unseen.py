"""What do detectors on residual covariances reach on cameras and generators nobody has seen?

    .venv/bin/python experiments/unseen.py --data DATA --work DIR

Six-fold cross-validation in which cameras, repositories and generators are held out whole
(`held_out.py`), three seeds of everything random, with the controls: EXIF shuffled among photos, no
EXIF, an untrained teacher, no teacher, no augmentation, simpler classifiers. Scores of all windows
under every condition are kept in DIR/scores, descriptions in DIR/descriptions: started again, it
continues. Writes DIR/results.json, results.md and plots (`unseen_report.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from held_out import Fold, folds
from photos import Item, log, make_items, start
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from unseen_models import (
    CLASS_DIRECTIONS,
    COMPONENTS,
    DIRECTIONS,
    LINEAR,
    PHOTO_COMPONENTS,
    STEPS,
    TEACHER_STEPS,
    Reduction,
    Tags,
    Tail,
    features,
    fit_class,
    fit_directions,
    fit_mixture,
    log_odds,
    surprise,
    train_binary,
    train_teacher,
)
from unseen_report import Scores, write_report

from data_pipelines.exif import load_exif
from data_pipelines.files import replacing_file
from data_pipelines.photo_sources import ImageSource
from data_pipelines.tags import parse_tags
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection.descriptions import Describer
from exif_jax.models.extractor import Params

PREPARE = "jpeg:90"
AUGMENTED = 6
SEEDS = 3
CONDITIONS = ("none", "jpeg:75", "bicubic:0.5", "jpeg:50", "webp:80", "bicubic:0.75", "blur:0.8")
CAMERA = ("Make", "Model")
EXPOSURE = ("FNumber", "ExposureTime", "ISO", "FocalLength")


@dataclass(frozen=True)
class Data:
    """Everything that is learned from, of n windows.

    Attributes:
        items: the windows.
        versions: float32 [V, n, S], descriptions of every version, the unchanged one first.
        conditions: by name, float32 [n, S] of what is tested.
        tags: what the EXIF of each photograph says; nothing of a generated image.
    """

    items: Sequence[Item]
    versions: np.ndarray
    conditions: dict[str, np.ndarray]
    tags: list[dict[str, str | float]]

    @cached_property
    def labels(self) -> np.ndarray:
        """[n], 1 for a generated image."""
        return np.array([item.label for item in self.items])


def describe(items: Sequence[Item], data: Path, work: Path, conditions: Sequence[str]) -> Data:
    """Computes or reads the descriptions of all windows, and what the EXIF of photographs says."""
    encoder = ResidualCovarianceEncoder().build()
    images = [ImageSource.of_file(data / item.path) for item in items]
    folder = work / "descriptions"
    described = Describer(encoder, folder, PREPARE, threads=2).windows(images, AUGMENTED)
    versions = np.stack([described.rows(version=v) for v in range(AUGMENTED + 1)])
    tested = {}
    for name in conditions:
        chain = PREPARE if name == "none" else f"{name}+{PREPARE}"
        tested[name] = Describer(encoder, folder, chain, threads=2).windows(images).rows()
    tags = [{} if i.label else parse_tags(load_exif(data / i.path).raw) for i in items]
    return Data(items, versions, tested, tags)


Scorer = Callable[[str], np.ndarray]
"""Name of a condition -> scores of the fold's test windows."""


class Prepared:
    """What all seeds of a fold share."""

    def __init__(self, data: Data, fold: Fold, quick: bool) -> None:
        """Computes nothing yet."""
        self.data, self.fold, self.quick = data, fold, quick
        self.labels = data.labels[fold.train]
        self.photos = fold.train[self.labels == 0]
        sources = [data.items[i].source for i in self.photos]
        self.groups = np.unique(sources, return_inverse=True)[1]

    @cached_property
    def tags(self) -> Tags:
        """EXIF of the training photographs."""
        return Tags.of([self.data.tags[i] for i in self.photos])

    @cached_property
    def both(self) -> tuple[Reduction, np.ndarray]:
        """Principal components of both classes, and the training windows' in all versions."""
        return self._reduced(self.fold.train, 32 if self.quick else COMPONENTS)

    @cached_property
    def of_photos(self) -> tuple[Reduction, np.ndarray]:
        """The same of photographs alone."""
        return self._reduced(self.photos, 16 if self.quick else PHOTO_COMPONENTS)

    def _reduced(self, windows: np.ndarray, components: int) -> tuple[Reduction, np.ndarray]:
        rows = self.data.versions[:, windows]
        reduction = Reduction.of(some(rows), components)
        return reduction, np.stack([reduction(version) for version in rows])

    def tested(self, condition: str) -> np.ndarray:
        """Descriptions of the windows that are held out."""
        return self.data.conditions[condition][self.fold.test]


class Trained:
    """What is learned from one fold with one seed."""

    def __init__(self, prepared: Prepared, seed: int) -> None:
        """Computes nothing yet."""
        self.of, self.seed, self.tags = prepared, seed, prepared.tags
        quick = prepared.quick
        self.steps, self.teacher_steps = (20, 20) if quick else (STEPS, TEACHER_STEPS)
        self.directions, self.class_directions = (8, 8) if quick else (DIRECTIONS, CLASS_DIRECTIONS)
        self.teachers: dict[str, Params] = {}

    def teacher(self, kind: str) -> Params | None:
        """Layers that the binary detector is held close to; `none` of them."""
        if kind != "none" and kind not in self.teachers:
            rows = self.of.both[1][:, self.of.labels == 0]
            if kind == "untrained":
                self.teachers[kind] = Tail().start(self.seed + 100, rows.shape[-1])
            else:
                tags = self.tags if kind == "EXIF" else self.tags.shuffled(self.seed)
                self.teachers[kind] = train_teacher(
                    rows, tags, self.of.groups, Tail(), self.seed, self.teacher_steps
                )
        return self.teachers.get(kind)

    def binary(self, teacher: str, tail: Tail | None = None, versions: int | None = None) -> Scorer:
        """A detector by a perceptron; log-odds."""
        tail = tail or Tail()
        reduction, rows = self.of.both
        held_to = self.teacher(teacher)
        params = train_binary(rows[:versions], self.of.labels, held_to, tail, self.seed, self.steps)
        return lambda name: log_odds(tail, params, reduction(self.of.tested(name)))

    def discriminant(self) -> Scorer:
        """Linear discriminant analysis with shrinkage."""
        reduction, rows = self.of.both
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
        fitted.fit(rows.reshape(-1, rows.shape[-1]), np.tile(self.of.labels, len(rows)))
        return lambda name: fitted.decision_function(reduction(self.of.tested(name)))

    def least_squares(self) -> Scorer:
        """Partial least squares on the class."""
        reduction, rows = self.of.both
        kernel, bias = fit_class(rows, self.of.labels, self.class_directions)
        return lambda name: reduction(self.of.tested(name)) @ kernel + bias

    def one_class(self, learn: Callable[[np.ndarray], Params]) -> Scorer:
        """Gaussians on linear features of photographs; surprise."""
        reduction, rows = self.of.of_photos
        tail = Tail(features=self.directions, hidden=())
        return self._density(tail, {"layers": learn(rows)}, reduction, rows)

    def of_teacher(self) -> Scorer:
        """Gaussians on the features of the perceptron that learned EXIF; surprise."""
        reduction, rows = self.of.both
        layers = self.teacher("EXIF")
        assert layers is not None
        return self._density(Tail(), layers, reduction, rows[:, self.of.labels == 0])

    def _density(
        self, tail: Tail, layers: Params, reduction: Reduction, known: np.ndarray
    ) -> Scorer:
        feature = features(tail, layers, known.reshape(-1, known.shape[-1]))
        mixture = fit_mixture(feature, self.seed)
        return lambda name: surprise(
            mixture, features(tail, layers, reduction(self.of.tested(name)))
        )

    def following(self, tags: Tags) -> Callable[[np.ndarray], Params]:
        """Directions by partial least squares on these tags."""
        return lambda rows: fit_directions(rows, tags, self.directions)

    def principal(self, rows: np.ndarray) -> Params:
        """The first principal components, scaled to unit variance."""
        kernel = np.eye(rows.shape[-1], self.directions) / rows[0][:, : self.directions].std(axis=0)
        bias = -rows[0].mean(axis=0) @ kernel
        return {"feature": {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}}

    def untrained(self, rows: np.ndarray) -> Params:
        """Random directions."""
        tail = Tail(features=self.directions, hidden=())
        layers: Params = tail.start(self.seed, rows.shape[-1])["layers"]
        return layers


def some(rows: np.ndarray) -> np.ndarray:
    """At most about 16,000 of the descriptions [V, n, S], evenly spread."""
    flat = rows.reshape(-1, rows.shape[-1])
    return flat[:: -(-len(flat) // 16384)]


DETECTORS: dict[str, Callable[[Trained], Scorer]] = {
    "perceptron": lambda t: t.binary("EXIF"),
    "perceptron, EXIF shuffled": lambda t: t.binary("shuffled"),
    "perceptron, untrained teacher": lambda t: t.binary("untrained"),
    "perceptron, no teacher": lambda t: t.binary("none"),
    "perceptron, no augmentation": lambda t: t.binary("EXIF", versions=1),
    "perceptron, no teacher, no dropout": lambda t: t.binary("none", Tail(dropout=0.0)),
    "perceptron, no teacher, no hidden layer": lambda t: t.binary("none", Tail(hidden=())),
    "discriminant analysis": lambda t: t.discriminant(),
    "least squares": lambda t: t.least_squares(),
    "one-class": lambda t: t.one_class(t.following(t.tags)),
    "one-class, EXIF shuffled": lambda t: t.one_class(t.following(t.tags.shuffled(t.seed))),
    "one-class, make and model": lambda t: t.one_class(t.following(t.tags.only(CAMERA))),
    "one-class, exposure tags": lambda t: t.one_class(t.following(t.tags.only(EXPOSURE))),
    "one-class, no EXIF": lambda t: t.one_class(t.principal),
    "one-class, untrained": lambda t: t.one_class(t.untrained),
    "one-class, perceptron": lambda t: t.of_teacher(),
}

# The binary detector is the sum of a perceptron and a linear part; the same of its controls.
SUMS = {
    "binary": "perceptron",
    "binary, EXIF shuffled": "perceptron, EXIF shuffled",
    "binary, untrained teacher": "perceptron, untrained teacher",
    "binary, no teacher (alpha 0)": "perceptron, no teacher",
}
PARTS = {f"binary, part: {name}": name for name in DETECTORS if not name.startswith("one-class")}


def summed(scores: Scores) -> Scores:
    """Scores of what is reported, by those of `DETECTORS`."""
    conditions = tuple(scores["one-class"])
    linear = scores["least squares"]
    sums = {
        name: {c: scores[part][c] + LINEAR * linear[c] for c in conditions}
        for name, part in SUMS.items()
    }
    parts = {name: scores[part] for name, part in PARTS.items()}
    rest = {name: own for name, own in scores.items() if name.startswith("one-class")}
    return sums | parts | rest


def experiment(data: Path, work: Path, tiny: bool) -> None:
    """Describes all windows, trains and tests every detector in every fold, and reports."""
    items = make_items(data)
    conditions, seeds = CONDITIONS, SEEDS
    if tiny:
        items, conditions, seeds = items[::12], CONDITIONS[:2], 1
    everything = describe(items, data, work, conditions)
    scores = summed(cross_validate(everything, work / "scores", seeds, tiny))
    write_report(everything.items, everything.conditions["none"], scores, work)


def cross_validate(
    data: Data, folder: Path, seeds: int, quick: bool
) -> dict[str, dict[str, np.ndarray]]:
    """Scores [seeds, n] of every window by a model that saw none like it: by part, condition."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        name: {c: np.full((seeds, len(data.items)), np.nan) for c in data.conditions}
        for name in DETECTORS
    }
    prepared = [Prepared(data, fold, quick) for fold in folds(data.items)]
    for seed in range(seeds):
        for number, one in enumerate(prepared):
            trained = Trained(one, seed)
            for name, build in DETECTORS.items():
                path = folder / f"{name.replace(' ', '_')}-{number}-{seed}.npz"
                if not path.exists():
                    scorer = build(trained)
                    with replacing_file(path) as part, part.open("wb") as file:
                        np.savez(file, **{c: scorer(c) for c in data.conditions})
                    log.info("fold %d, seed %d: %s", number, seed, name)
                with np.load(path) as kept:
                    for condition in data.conditions:
                        result[name][condition][seed, one.fold.test] = kept[condition]
    return result


if __name__ == "__main__":
    start(__doc__, experiment)
