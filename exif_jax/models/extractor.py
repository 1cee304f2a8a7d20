"""What every extractor is: a patch encoder and a mixer of the patches' tokens (Flax Linen).

Shape suffixes: B images, N patches of an image, M = B*N patches, H rows, W columns, C channels,
T numbers of a token, F numbers of a feature.
"""

from functools import cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from data_pipelines.images import PATCH

Params = dict[str, Any]
Intermediates = dict[str, Array]

# PyTorch's default for convolutions and linear layers, which the published network starts from.
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Extractor(nn.Module):
    """Images given by their patches -> features, in two halves.

    A subclass defines `encode` and `mix`, over modules that its `setup` makes. The halves are
    called apart for images with more patches than fit in memory at once.
    """

    def encode(self, x_MHWC: Array) -> tuple[Array, Intermediates]:
        """Tokens [M, T] of normalised patches [M, 64, 64, 3], and every intermediate by name.

        Intermediates are [M, ...]; those of the frozen pretext network regularise the binary
        stage, so tokens that should do so are among them.
        """
        raise NotImplementedError

    def mix(self, tokens_BNT: Array, mask_BN: Array | None = None) -> Array:
        """Features [B, F] of tokens [B, N, T]; the mask [B, N] is False for padding."""
        raise NotImplementedError

    def __call__(self, x_BNHWC: Array) -> tuple[Array, Intermediates]:
        """Features [B, F] of patches [B, N, 64, 64, 3], and intermediates [B, N, ...]."""
        batch, patches = x_BNHWC.shape[:2]

        def by_image(x: Array) -> Array:
            return x.reshape(batch, patches, *x.shape[1:])

        tokens, intermediates = self.encode(x_BNHWC.reshape(-1, *x_BNHWC.shape[2:]))
        return self.mix(by_image(tokens)), jax.tree.map(by_image, intermediates)


class FixedExtractor(Extractor):
    """An extractor that learns only from a fixed description of the whole image.

    A subclass defines `encode` and `pool`, without parameters, and `learn`. Descriptions can be
    computed once and kept, so training reads them in place of images.
    """

    @property
    def description_name(self) -> str:
        """Names `encode` and `pool` and their version: kept descriptions of another are not used.

        By default every field counts; a subclass leaves out those that only `learn` reads.
        """
        return repr(self)

    def pool(self, tokens_BNT: Array, mask_BN: Array | None = None) -> Array:
        """Descriptions [B, S] of tokens [B, N, T]; the mask [B, N] is False for padding."""
        raise NotImplementedError

    def learn(self, description_BS: Array, train: bool = False) -> tuple[Array, Intermediates]:
        """Features [B, F] of descriptions, and every learned intermediate [B, ...] by name.

        Where `train` changes anything, as dropout does, it has the random key "dropout".
        """
        raise NotImplementedError

    def standardise(self, params: Params, descriptions: np.ndarray) -> Params:
        """Parameters for data like these descriptions [n, S]: called once, before training."""
        return params

    def mix(self, tokens_BNT: Array, mask_BN: Array | None = None) -> Array:
        """Features [B, F] of tokens [B, N, T]."""
        return self.learn(self.pool(tokens_BNT, mask_BN))[0]

    def __call__(self, x_BNHWC: Array) -> tuple[Array, Intermediates]:
        """Features [B, F] of patches [B, N, 64, 64, 3], and the intermediates of `learn`."""
        tokens, _ = self.encode(x_BNHWC.reshape(-1, *x_BNHWC.shape[2:]))
        return self.learn(self.pool(tokens.reshape(*x_BNHWC.shape[:2], -1)))


def apply(
    module: nn.Module, params: Params, *inputs: Any, method: str | None = None, **options: Any
) -> Any:
    """The module's output for parameters without Flax's outer "params" level."""
    return module.apply({"params": params}, *inputs, method=method, **options)


def init_extractor(extractor: Extractor, key: Array) -> Params:
    """Random parameters."""
    params: Params = jax.jit(extractor.init)(key, jnp.zeros((1, 1, PATCH, PATCH, 3))).get(
        "params", {}
    )
    return params


@cache
def extractor_shapes(extractor: Extractor) -> tuple[Params, int]:
    """Shapes and types of the parameters, and F, the length of the feature; nothing is computed."""

    def init() -> Any:
        return extractor.init_with_output(jax.random.key(0), jnp.zeros((1, 1, PATCH, PATCH, 3)))

    (feature, _), variables = jax.eval_shape(init)
    return variables.get("params", {}), feature.shape[-1]
