"""A small perceptron on rows of numbers: what is learned after a fixed description of an image."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


class Perceptron(nn.Module):
    """Hidden layers with GELU, then a linear one.

    Attributes:
        features: F, outputs.
        hidden: units of each hidden layer.
        dropout: share of the inputs of every layer that is left out while training.
        linear: how many of the outputs, the last ones, are linear in the row itself.
    """

    features: int
    hidden: Sequence[int] = ()
    dropout: float = 0.0
    linear: int = 0

    @nn.compact
    def __call__(self, x_BS: Array, train: bool = False) -> tuple[Array, dict[str, Array]]:
        """Outputs [B, F] of rows [B, S], and every layer's by name: hidden1, ..., feature.

        Args:
            x_BS: the rows.
            train: leaves numbers out at random; needs the key "dropout".
        """
        layers = {}
        dense = partial(nn.Dense, precision="highest")
        x = beside = nn.Dropout(self.dropout, deterministic=not train)(x_BS)
        for layer, units in enumerate(self.hidden, start=1):
            x = layers[f"hidden{layer}"] = nn.gelu(dense(units, name=f"hidden{layer}")(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = dense(self.features - self.linear, name="feature")(x)
        if self.linear:
            x = jnp.concatenate([x, dense(self.linear, name="linear")(beside)], axis=-1)
        layers["feature"] = x
        return x, layers
