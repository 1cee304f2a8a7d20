"""What is learned after fixed descriptions: networks, directions and mixtures.

Descriptions are projected to principal components before anything is learned, so that a run takes
seconds. `folded` puts the projection into the first layer afterwards: the network that is shipped
sees descriptions, and gives the same numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax import Array

from data_pipelines.tags import Value
from data_pipelines.targets import Target, build_targets, encode_values
from exif_jax import gmm
from exif_jax.config import OptimizerConfig, PretextConfig
from exif_jax.detection.kinds import Binary
from exif_jax.models.extractor import FixedExtractor, Intermediates, apply
from exif_jax.models.heads import BinaryHead, PretextHeads
from exif_jax.models.least_squares import label_columns, supervised_directions
from exif_jax.models.perceptron import Perceptron
from exif_jax.models.residual_covariance import OUTLIER, ResidualCovarianceExtractor
from exif_jax.objectives import build_objectives, head_sizes
from exif_jax.stages import binary, pretext
from exif_jax.training.mapping import data_mesh, replicate, shard, to_host
from exif_jax.training.optimizers import make_optimizer
from exif_jax.training.step import Batch, LossFn, Params, StepFn, initial_state, map_train_step

COMPONENTS = 512  # of both classes, before the perceptron
PHOTO_COMPONENTS = 256  # of photographs, before partial least squares
DIRECTIONS = 48  # of the one-class detector
CLASS_DIRECTIONS = 24  # of the linear part of the binary one
GAUSSIANS = 5
HIDDEN, FEATURES, DROPOUT = (256, 128), 64, 0.4
ALPHA = 0.05  # the published weight
LINEAR = 5.0  # log-odds of the binary detector for 1 of the linear part, which tells +1 from -1
STEPS, TEACHER_STEPS = 1600, 600
BATCH = 256
OPTIMIZER = OptimizerConfig("adamw", 1e-3, weight_decay=1e-2, schedule="cosine", ema=0.99)


@dataclass(frozen=True)
class Reduction:
    """Principal components of descriptions: centre [S], scale [S], basis [S, components]."""

    centre: np.ndarray
    scale: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, descriptions: np.ndarray, components: int) -> "Reduction":
        """That of these descriptions [n, S]."""
        extractor = ResidualCovarianceExtractor(components=components)
        return cls(**extractor.standardise({}, descriptions))

    def __call__(self, descriptions: np.ndarray) -> np.ndarray:
        """float32 [..., components] of descriptions [..., S]."""
        standard = (descriptions - self.centre) * self.scale
        return np.clip(standard, -OUTLIER, OUTLIER, out=standard) @ self.basis

    def folded(self, layers: Params) -> Params:
        """Parameters, for descriptions, of an extractor with these layers for components."""
        own = {}
        for first in {"hidden1" if "hidden1" in layers else "feature", "linear"} & layers.keys():
            kernel = self.basis.astype(np.float64) @ layers[first]["kernel"]
            own[first] = {**layers[first], "kernel": kernel.astype(np.float32)}
        return {"centre": self.centre, "scale": self.scale, "layers": layers | own}


class Tail(FixedExtractor):
    """The learned part of `ResidualCovarianceExtractor`, for rows that are reduced already."""

    features: int = FEATURES
    hidden: Sequence[int] = HIDDEN
    dropout: float = DROPOUT

    @nn.compact
    def learn(self, description_BS: Array, train: bool = False) -> tuple[Array, Intermediates]:
        """See `Perceptron`."""
        return Perceptron(self.features, self.hidden, self.dropout, name="layers")(
            description_BS, train
        )

    def start(self, seed: int, size: int) -> Params:
        """Random parameters for rows of so many numbers."""
        row = np.zeros((1, size), np.float32)
        params: Params = to_host(self.init(jax.random.key(seed), row, method="learn")["params"])
        return params


@dataclass(frozen=True)
class Tags:
    """What the EXIF of n photographs says.

    Attributes:
        targets: what is predicted.
        labels: float32 [n, targets], NaN where unknown.
    """

    targets: tuple[Target, ...]
    labels: np.ndarray

    @classmethod
    def of(cls, values: Sequence[dict[str, Value]]) -> "Tags":
        """Those of photographs with these values by tag."""
        counts: dict[str, dict[str, int]] = {}
        for photo in values:
            for name, value in photo.items():
                if isinstance(value, str):
                    counts.setdefault(name, {})[value] = counts.get(name, {}).get(value, 0) + 1
        targets = build_targets(counts, any_value=True)
        missing = {t.name: "" if t.classes else np.nan for t in targets}
        labels = [
            encode_values([v.get(t.name, missing[t.name]) for v in values], t) for t in targets
        ]
        return cls(targets, np.stack(labels, axis=1))

    def shuffled(self, seed: int) -> "Tags":
        """The same, of one photograph given to another: all tags together."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        return Tags(self.targets, self.labels[order])

    def only(self, names: Sequence[str]) -> "Tags":
        """Some of the tags."""
        kept = [i for i, t in enumerate(self.targets) if t.name in names]
        return Tags(tuple(self.targets[i] for i in kept), self.labels[:, kept])


@cache
def _step(tail: Tail, loss: LossFn, steps: int) -> tuple[Any, StepFn]:
    optimizer = make_optimizer(OPTIMIZER, steps)
    return optimizer, map_train_step(loss, optimizer, data_mesh(), OPTIMIZER.ema)


def _train(
    tail: Tail,
    loss: LossFn,
    params: Params,
    frozen: Params,
    draw: Callable[[np.random.Generator], Batch],
    steps: int,
    seed: int,
) -> Params:
    """The averaged parameters after so many of the stages' own steps."""
    mesh = data_mesh()
    optimizer, step = _step(tail, loss, steps)
    state = replicate(initial_state(params, optimizer, True), mesh)
    frozen, key = replicate(frozen, mesh), jax.random.key(seed)
    for number in range(steps):
        batch = draw(np.random.default_rng((seed, number)))
        state, _ = step(state, frozen, shard(batch, mesh), replicate(key, mesh))
    result: Params = to_host(state.evaluated)
    return result


@cache
def _pretext_loss(tail: Tail, targets: tuple[Target, ...]) -> tuple[LossFn, tuple[Any, ...]]:
    objectives = build_objectives(targets, PretextConfig())
    return pretext.make_loss(tail, objectives, 0), objectives


@cache
def _binary_loss(tail: Tail, alpha: float) -> LossFn:
    return binary.make_loss(tail, alpha, 0)


def train_teacher(
    rows: np.ndarray, tags: Tags, groups: np.ndarray, tail: Tail, seed: int, steps: int
) -> Params:
    """Layers that learned EXIF, as the pretext stage does.

    Args:
        rows: [V, n, components] of photographs in V versions.
        tags: of the photographs.
        groups: int [n]; those of one photograph are not compared.
        tail: the network.
        seed: of everything random.
        steps: of training.
    """
    loss, objectives = _pretext_loss(tail, tags.targets)
    heads = PretextHeads(head_sizes(objectives))
    keys = jax.random.split(jax.random.key(seed))
    feature = np.zeros((1, tail.features), np.float32)
    params = {
        "extractor": tail.start(seed, rows.shape[-1]),
        "heads": heads.init(keys[1], feature)["params"],
    }

    def draw(rng: np.random.Generator) -> Batch:
        photos, versions = (
            rng.integers(rows.shape[1], size=BATCH),
            rng.integers(len(rows), size=BATCH),
        )
        return {
            "description": rows[versions, photos],
            "targets": tags.labels[photos],
            "group": groups[photos],
        }

    return _train(tail, loss, params, {}, draw, steps, seed)["extractor"]


def train_binary(
    rows: np.ndarray,
    labels: np.ndarray,
    teacher: Params | None,
    tail: Tail,
    seed: int,
    steps: int,
) -> Params:
    """Parameters {"extractor", "head"} of a detector, as the binary stage trains one.

    Args:
        rows: [V, n, components] of windows in V versions.
        labels: [n], 1 for a generated image.
        teacher: layers that the features are held close to; None: not at all.
        tail: the network.
        seed: of everything random.
        steps: of training.
    """
    start = tail.start(seed, rows.shape[-1])
    feature = np.zeros((1, tail.features), np.float32)
    head = BinaryHead().init(jax.random.key(seed + 1), feature)["params"]
    of_class = [np.flatnonzero(labels == label) for label in (0, 1)]

    def draw(rng: np.random.Generator) -> Batch:
        chosen = np.concatenate([rng.choice(own, BATCH // 2) for own in of_class])
        versions = rng.integers(len(rows), size=BATCH)
        return {
            "description": rows[versions, chosen],
            "label": labels[chosen].astype(np.int32),
            "valid": np.ones(BATCH, np.float32),
        }

    loss = _binary_loss(tail, 0.0 if teacher is None else ALPHA)
    frozen = start if teacher is None else teacher
    return _train(tail, loss, {"extractor": start, "head": head}, frozen, draw, steps, seed)


@cache
def _features(tail: Tail) -> Callable[[Params, np.ndarray], Array]:
    return jax.jit(lambda params, x: apply(tail, params, x, method="learn")[0])


def features(tail: Tail, layers: Params, rows: np.ndarray) -> np.ndarray:
    """Features float32 [n, F] of reduced rows [n, components]."""
    return np.asarray(_features(tail)(layers, rows))


def log_odds(tail: Tail, params: Params, rows: np.ndarray) -> np.ndarray:
    """Those of `generated`, float64 [n], of reduced rows."""
    feature = features(tail, params["extractor"], rows)
    score = Binary().score(feature, {"head": params["head"]}).astype(np.float64)
    score = np.clip(score, 1e-7, 1 - 1e-7)
    return np.log(score) - np.log1p(-score)


def fit_directions(rows: np.ndarray, tags: Tags, directions: int) -> Params:
    """A linear layer {"feature": ...} that follows EXIF: partial least squares.

    Args:
        rows: [V, n, components] of photographs in V versions.
        tags: of the photographs.
        directions: of the feature.
    """
    targets = label_columns(tags.labels.T, [len(t.classes) for t in tags.targets])
    flat = rows.reshape(-1, rows.shape[-1])
    kernel, bias = supervised_directions(flat, np.tile(targets, (len(rows), 1)), directions)
    return {"feature": {"kernel": kernel, "bias": bias}}


def fit_class(
    rows: np.ndarray, labels: np.ndarray, directions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [components] and bias of a line to +1 (generated) and -1, by partial least squares.

    Args:
        rows: [V, n, components] of windows in V versions.
        labels: [n], 1 for a generated image.
        directions: between rows and the line.
    """
    flat = rows.reshape(-1, rows.shape[-1])
    target = np.tile(2.0 * labels - 1, len(rows))[:, None]
    kernel, bias = supervised_directions(flat, target, directions)
    # Features are uncorrelated and of variance 1, so each is regressed on by itself.
    slopes = ((flat @ kernel + bias).T @ (target - target.mean())) / len(flat)
    line, offset = kernel @ slopes, bias @ slopes + target.mean()
    return line[:, 0].astype(np.float32), offset.astype(np.float32)


def fit_mixture(feature: np.ndarray, seed: int) -> gmm.GaussianMixture:
    """Gaussians on the features [n, F] of photographs, in float64."""
    with jax.enable_x64(True):
        rows = feature.astype(np.float64)
        return gmm.fit(jax.random.key(seed), rows, GAUSSIANS, reg_covar=1e-3).gmm


def surprise(mixture: gmm.GaussianMixture, feature: np.ndarray) -> np.ndarray:
    """Minus the log-density float64 [n]: the score of a one-class detector."""
    with jax.enable_x64(True):
        return -np.asarray(gmm.log_density(mixture, feature.astype(np.float64)), np.float64)
