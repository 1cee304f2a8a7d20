"""Linear heads: one a pretext objective, and the two-way head of the binary detector."""

import flax.linen as nn
from jax import Array

from exif_jax.models.extractor import torch_uniform


class PretextHeads(nn.Module):
    """One linear head for every objective; `sizes` are pairs of its name and number of outputs."""

    sizes: tuple[tuple[str, int], ...]

    @nn.compact
    def __call__(self, features_BF: Array) -> dict[str, Array]:
        """Outputs by name, [B, size] each, of features [B, F]."""
        return {
            name: nn.Dense(size, kernel_init=torch_uniform, precision="highest", name=name)(
                features_BF
            )
            for name, size in self.sizes
        }


class BinaryHead(nn.Module):
    """Two logits of a feature: class 0 photograph, class 1 generated (paper's binary detector)."""

    @nn.compact
    def __call__(self, features_BF: Array) -> Array:
        """Logits [B, 2] of features [B, F]."""
        return nn.Dense(2, kernel_init=torch_uniform, precision="highest", name="fc")(features_BF)
