"""Losses of the three stages: values per example or pair, with masks; means are taken elsewhere."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.scipy.special import log_ndtr

PairLoss = Literal["bce", "fidelity"]
Pairing = Literal["all_pairs", "neighbour"]


def classification_loss(logits_BC: Array, labels_B: Array) -> tuple[Array, Array]:
    """Cross-entropy of every example whose label is known.

    Args:
        logits_BC: [B, C].
        labels_B: [B] class indices as floats, NaN where missing.

    Returns:
        Losses [B] in nats, 0 where missing, and the mask [B] of known labels.
    """
    valid = jnp.isfinite(labels_B)
    labels = jnp.where(valid, labels_B, 0).astype(jnp.int32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits_BC, labels)
    return jnp.where(valid, losses, 0), valid


def pair_loss(difference: Array, target: Array, kind: PairLoss = "bce") -> Array:
    """Loss of the Thurstone preference P(a >= b) = Phi(s_a - s_b) against its target.

    `bce` is binary cross-entropy, computed with log Phi so that it stays finite for any
    difference. `fidelity` is 1 - sqrt(p g) - sqrt((1 - p)(1 - g)), in 0..1.

    Args:
        difference: s_a - s_b, any shape.
        target: probability that a is greater, of the same shape.
        kind: which loss.

    Returns:
        Losses of the same shape.

    References:
        Thurstone, "A law of comparative judgment", 1927; Tsai et al., "FRank: a ranking method
        with fidelity loss", SIGIR 2007.
    """
    log_p, log_q = log_ndtr(difference), log_ndtr(-difference)
    if kind == "bce":
        return -(target * log_p + (1 - target) * log_q)
    if kind == "fidelity":
        return 1 - jnp.sqrt(target) * jnp.exp(log_p / 2) - jnp.sqrt(1 - target) * jnp.exp(log_q / 2)
    raise ValueError(f"pair loss {kind!r} is not known: choose 'bce' or 'fidelity'")


class Rows(NamedTuple):
    """Photos and one target.

    Attributes:
        scores: predicted, [n] or [n, size].
        values: [n], tag values or class indices as floats, NaN where missing.
        groups: integer ids [n]; windows of one photo, or photos of one burst, share one.
    """

    scores: Array
    values: Array
    groups: Array


def ranking_loss(
    rows: Rows,
    batch: Rows,
    first: Array,
    pairing: Pairing,
    kind: PairLoss = "bce",
) -> tuple[Array, Array]:
    """Pair losses of some rows of a batch against the whole batch.

    A pair counts if both values are known and its photos are of different groups. `all_pairs`
    meets every unordered pair of the batch once, in the row of its earlier photo; `neighbour`
    pairs each photo with the next one of the batch, the last with the first.

    Args:
        rows: b photos of the batch.
        batch: all B photos.
        first: position in the batch of the first row here.
        pairing: which pairs.
        kind: the loss of one pair.

    Returns:
        Losses and validity mask, [b, B] for all pairs or [b] for neighbours; losses are 0 where
        invalid.
    """
    position = first + jnp.arange(rows.scores.shape[0])
    if pairing == "all_pairs":
        own = Rows(*(x[:, None] for x in rows))
        other = Rows(*(x[None, :] for x in batch))
        valid = position[:, None] < jnp.arange(batch.scores.shape[0])[None, :]
    elif pairing == "neighbour":
        own = rows
        other = Rows(*(x[(position + 1) % batch.scores.shape[0]] for x in batch))
        valid = jnp.ones(position.shape, bool)
    else:
        raise ValueError(f"pairing {pairing!r} is not known: choose 'all_pairs' or 'neighbour'")
    valid &= jnp.isfinite(own.values) & jnp.isfinite(other.values) & (own.groups != other.groups)
    # 1/2 at ties. The masked branch must be finite too, or its zero cotangent would become NaN.
    target = 0.5 * (1 + jnp.where(valid, jnp.sign(own.values - other.values), 0))
    losses = pair_loss(own.scores - other.scores, target, kind)
    return jnp.where(valid, losses, 0), valid


def feature_distance(features: dict[str, Array], teacher: dict[str, Array]) -> Array:
    """Sum over the intermediates of the mean squared difference, for every image.

    Args:
        features: {"f1": [B, ...], ..., "f5": [B, ...]} of the network in training.
        teacher: the same of the frozen pretext network.

    Returns:
        [B]; no gradient flows to the teacher. Its mean over images is the paper's regulariser.
    """
    squares = [
        jnp.square(
            x.astype(jnp.promote_types(x.dtype, jnp.float32)) - jax.lax.stop_gradient(teacher[name])
        )
        for name, x in features.items()
    ]
    return sum((x.mean(axis=tuple(range(1, x.ndim))) for x in squares), start=jnp.zeros(()))
