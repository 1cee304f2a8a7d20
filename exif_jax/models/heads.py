"""Linear heads: one a pretext target, and the two-way head of the binary detector."""

import flax.linen as nn
from jax import Array

from data_pipelines.targets import Target
from exif_jax.models.layers import torch_uniform


class PretextHeads(nn.Module):
    """One linear head for every target: a score for a ranked tag, logits for a categorical one."""

    targets: tuple[Target, ...]

    @nn.compact
    def __call__(self, features_BT: Array) -> dict[str, Array]:
        """Outputs by target name.

        Args:
            features_BT: [B, T].

        Returns:
            {target: scores [B] if ranked, logits [B, classes] if categorical}.
        """
        outputs = {}
        for target in self.targets:
            out = nn.Dense(target.size, kernel_init=torch_uniform, name=target.name)(features_BT)
            outputs[target.name] = out[:, 0] if target.kind == "ranked" else out
        return outputs


class BinaryHead(nn.Module):
    """Two logits of a feature: class 0 photograph, class 1 generated (paper's binary detector)."""

    @nn.compact
    def __call__(self, features_BT: Array) -> Array:
        """Logits [B, 2] of features [B, T]."""
        return nn.Dense(2, kernel_init=torch_uniform, name="fc")(features_BT)
