"""What the pretext stage learns: one objective a target, each with all that belongs to it.

An objective owns the size of its head, how values become labels, the loss of every example or
pair with its mask, the measure of quality, and its weight. The heads, the step and the validation
only ask it. Tags get the objective of their kind; one's own is a subclass, given to the stage by
`config.objectives.extra`, or registered for a kind of target of one's own.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.errors import UserError
from data_pipelines.registry import Registry
from data_pipelines.targets import Target, encode_values
from exif_jax import losses
from exif_jax.config import PretextConfig, check_choice, pairs
from exif_jax.losses import Rows
from exif_jax.metrics import balanced_accuracy, concordance

Batch = dict[str, Array]


@dataclass(frozen=True)
class Objective:
    """Base of all objectives.

    Attributes:
        name: of the head and in the metrics; of a tag, if its values are the labels.
        weight: of its loss in the sum.
        kind: name of the objective, stored with the extractor.
        measure: name of its quality in the metrics.
        classes: names of the classes, if it has any.
        vectorised: its loss is that of all objectives which differ in name and weight alone, so
            `jax.vmap` may compute these at once.
    """

    name: str
    weight: float = 1.0
    classes: tuple[str, ...] = ()

    kind: ClassVar[str]
    measure: ClassVar[str]
    vectorised: ClassVar[bool] = False

    @property
    def size(self) -> int:
        """Number of outputs of the head."""
        raise NotImplementedError

    @property
    def target(self) -> Target:
        """What is stored of it."""
        return Target(self.name, self.kind, tuple(self.classes))

    @property
    def in_evaluation(self) -> "Objective":
        """What computes the validation loss: the same loss in expectation."""
        return self

    def loss(self, rows: Rows, batch: Rows, first: Array) -> tuple[Array, Array]:
        """Losses of some rows of a batch, which may be compared with the whole batch.

        Args:
            rows: b examples: outputs of the head [b, size], labels [b] (NaN: unknown), groups [b].
            batch: all B examples of the batch, over all devices.
            first: position of the first row in the batch.

        Returns:
            Losses, one for each example or pair, 0 where invalid, and the mask, of one shape.
            The stage takes the mean over all valid ones.
        """
        raise NotImplementedError

    def quality(
        self, outputs: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> tuple[float, int]:
        """Quality of predictions on the host, and the number of examples or pairs it is of.

        Args:
            outputs: [n, size].
            labels: [n], all known.
            groups: [n]; those of one group (windows of a photo, bursts) are not independent.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class TagObjective(Objective):
    """Its labels come from the values of the tag of its name."""

    @classmethod
    def of(cls, target: Target, config: PretextConfig) -> Self:
        """The objective of a target under a configuration."""
        raise NotImplementedError

    def encode(self, values: Sequence[str | float]) -> np.ndarray:
        """Labels, float32 [n], of stored values: numbers, or the indices of classes.

        Args:
            values: [n] of the tag; missing ones are NaN or empty.

        Returns:
            NaN where a value is missing, or is of no class.
        """
        return encode_values(values, self.target)


@dataclass(frozen=True)
class ImageObjective(Objective):
    """Its labels are computed from the images, so it needs no EXIF."""

    def labels(self, images: Array, sizes: Array) -> Array:
        """Labels float [B], on the device.

        Args:
            images: uint8 [B, H, W, 3], each image in the upper left corner of its array.
            sizes: int32 [B, 2], height and width of the images.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Ranked(TagObjective):
    """Photos are ranked by an ordinal value (method section 4).

    Attributes:
        pairing: `all_pairs` of the batch, or `neighbour`: each photo with the next one.
        pair_loss: `bce` or `fidelity`.
    """

    pairing: losses.Pairing = "all_pairs"
    pair_loss: losses.PairLoss = "bce"

    kind: ClassVar[str] = "ranked"
    measure: ClassVar[str] = "concordance"
    vectorised: ClassVar[bool] = True

    @property
    def size(self) -> int:
        """One score."""
        return 1

    @classmethod
    def of(cls, target: Target, config: PretextConfig) -> Self:
        """See `TagObjective.of`."""
        check_choice("ranking", config.ranking, get_args(losses.Pairing))
        check_choice("pair_loss", config.pair_loss, get_args(losses.PairLoss))
        pairing = cast(losses.Pairing, config.ranking)
        return cls(target.name, pairing=pairing, pair_loss=cast(losses.PairLoss, config.pair_loss))

    @property
    def in_evaluation(self) -> Objective:
        """All pairs: what pairs of neighbours, shuffled anew every epoch, are in expectation."""
        return dataclasses.replace(self, pairing="all_pairs")

    def loss(self, rows: Rows, batch: Rows, first: Array) -> tuple[Array, Array]:
        """See `losses.ranking_loss`."""
        own, other = (x._replace(scores=x.scores[:, 0]) for x in (rows, batch))
        return losses.ranking_loss(own, other, first, self.pairing, self.pair_loss)

    def quality(
        self, outputs: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> tuple[float, int]:
        """Fraction of comparable pairs that are ranked right."""
        return concordance(outputs[:, 0], labels, groups)


@dataclass(frozen=True)
class Categorical(TagObjective):
    """Photos are classified (method section 4)."""

    kind: ClassVar[str] = "categorical"
    measure: ClassVar[str] = "balanced_accuracy"

    @classmethod
    def of(cls, target: Target, config: PretextConfig) -> Self:
        """See `TagObjective.of`."""
        return cls(target.name, classes=target.classes)

    @property
    def size(self) -> int:
        """One logit a class."""
        return len(self.classes)

    def loss(self, rows: Rows, batch: Rows, first: Array) -> tuple[Array, Array]:
        """See `losses.classification_loss`."""
        return losses.classification_loss(rows.scores, rows.values)

    def quality(
        self, outputs: np.ndarray, labels: np.ndarray, groups: np.ndarray
    ) -> tuple[float, int]:
        """Mean recall over the classes present."""
        return balanced_accuracy(outputs.argmax(axis=-1), labels.astype(int), self.size)


OBJECTIVES: Registry[type[TagObjective]] = Registry(
    "objective", {"ranked": Ranked, "categorical": Categorical}
)


def build_objectives(targets: Sequence[Target], config: PretextConfig) -> tuple[Objective, ...]:
    """The objectives of a configuration, in the order of the targets, then one's own.

    Raises:
        UserError: a tag or weight of another name, nothing left to learn, or an unknown loss.
    """
    chosen = _chosen(targets, config.objectives.tags)
    built: dict[str, Objective] = {
        target.name: OBJECTIVES[target.kind].of(target, config)
        for target in targets
        if target.name in chosen
    }
    for own in config.objectives.extra:
        built[own.name] = own
    weights = pairs("objectives.weights", config.objectives.weights)
    for name in weights.keys() - built.keys():
        raise UserError(f"config.objectives.weights: {name!r} is not learned; {_known(built)}")
    if not built:
        raise UserError("config.objectives: nothing is left to learn; name at least one tag")
    return tuple(
        dataclasses.replace(o, weight=weights.get(name, o.weight)) for name, o in built.items()
    )


def _chosen(targets: Sequence[Target], text: str) -> set[str]:
    """Names of the targets that `objectives.tags` stands for; see `ObjectivesConfig`."""
    groups = {"all": {t.name for t in targets}}
    for target in targets:
        groups.setdefault(target.kind, set()).add(target.name)
        groups[target.name] = {target.name}
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if word.removeprefix("-") not in groups:
            raise UserError(f"config.objectives.tags: {word!r} is no tag here; {_known(groups)}")
    # Leaving out alone means: all others.
    chosen = set(groups["all"]) if words and all(w.startswith("-") for w in words) else set()
    for word in words:
        chosen |= set() if word.startswith("-") else groups[word]
    return chosen.difference(*(groups[w[1:]] for w in words if w.startswith("-")))


def _known(names: Any) -> str:
    return f"known are {', '.join(names)}"


def labels_of(objectives: Sequence[Objective], batch: Batch) -> list[Array]:
    """Labels [B] of every objective.

    Args:
        objectives: in order.
        batch: image [B, H, W, 3], size [B, 2], and targets [B, T]: a column for each
            `TagObjective`, in order.
    """
    columns = iter(jnp.moveaxis(batch["targets"], -1, 0))
    return [
        next(columns)
        if isinstance(objective, TagObjective)
        else cast(ImageObjective, objective).labels(batch["image"], batch["size"])
        for objective in objectives
    ]


def head_sizes(objectives: Sequence[Objective]) -> tuple[tuple[str, int], ...]:
    """For `PretextHeads`."""
    return tuple((objective.name, objective.size) for objective in objectives)
