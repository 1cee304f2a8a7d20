"""The published extractor: residual patch encoder, covariance pooling, transformer.

Shape suffixes as in `exif_jax.models.extractor`, and C channels.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from exif_jax.config import PublishedEncoder, check_choice, check_whole
from exif_jax.models.extractor import Extractor, Intermediates, torch_uniform
from exif_jax.models.normalisation import MapNorm
from exif_jax.models.stem import exact_residual_convolution, residual_convolution

# Scores of queries against all keys, at most, in memory at once for one image and head.
_ATTENTION_ENTRIES = 2**20


def covariance_tokens(x_MPC: Array, iterations: int = 5) -> Array:
    """Upper triangle of the matrix square root of the channel covariance over positions.

    S is the biased covariance; Newton-Schulz iterations on S / tr(S), multiplied by sqrt(tr(S)).
    A constant map (S = 0) gives zeros.

    Args:
        x_MPC: [M, positions, C].
        iterations: Newton-Schulz iterations.

    Returns:
        [M, C * (C + 1) / 2], row-major upper triangle, at least float32.

    References:
        Li et al., "Towards faster training of global covariance pooling networks by iterative
        matrix square root normalization", CVPR 2018.
    """
    x_MPC = x_MPC.astype(jnp.promote_types(x_MPC.dtype, jnp.float32))
    channels = x_MPC.shape[-1]
    centred = x_MPC - x_MPC.mean(axis=1, keepdims=True)
    product = partial(jnp.matmul, precision="highest")
    covariance = product(centred.mT, centred) / x_MPC.shape[1]
    trace = jnp.trace(covariance, axis1=-2, axis2=-1)[:, None, None]
    trace = jnp.maximum(trace, jnp.finfo(trace.dtype).tiny ** 0.5)
    y = covariance / trace
    identity = jnp.eye(channels, dtype=y.dtype)[None]
    z = jnp.broadcast_to(identity, y.shape)
    for iteration in range(iterations):
        step = 0.5 * (3 * identity - product(z, y))
        y = product(y, step)
        if iteration < iterations - 1:
            z = product(step, z)
    rows, columns = jnp.triu_indices(channels)
    return (y * jnp.sqrt(trace))[:, rows, columns]


class PatchEncoder(nn.Module):
    """Residuals, stem, four convolution stages and covariance pooling of every patch.

    Attributes:
        width: channels of every convolution.
        stage_depths: convolutions in each stage; all stages but the last end in 2x pooling.
        newton_iterations: iterations of the matrix square root.
        dtype: of feature maps and of the stages' convolutions: bfloat16; or None, the precision of
            the parameters. Residuals are exact, and statistics, sums and the covariance at least
            float32, in both.
        remat: whether the backward pass keeps only what convolutions give, and normalises and pools
            it again.
    """

    width: int = 32
    stage_depths: Sequence[int] = (4, 2, 2, 2)
    newton_iterations: int = 5
    dtype: Any = None
    remat: bool = False

    @nn.compact
    def __call__(self, x_MHWC: Array) -> tuple[Array, Intermediates]:
        """Encodes patches.

        Args:
            x_MHWC: [M, 64, 64, 3] normalised patches.

        Returns:
            Tokens [M, T] and {"f1": [M, 32, 32, C], "f2": [M, 16, 16, C], "f3" and "f4":
            [M, 8, 8, C]}.
        """
        kernel = self.param("stem_kernel", torch_uniform, (3, 3, 90, self.width))
        bias = self.param("stem_bias", nn.initializers.zeros, (self.width,))
        filtered = residual_convolution if self.dtype is None else exact_residual_convolution
        x = filtered(x_MHWC, kernel, bias)
        before, limits = "stem", (-5.0, 5.0)
        intermediates = {}
        for stage, depth in enumerate(self.stage_depths, start=1):
            for layer in range(1, depth + 1):
                name = f"stage{stage}_layer{layer}"
                pooled = layer == 1 and stage > 1
                make = partial(self._layer, before=before, limits=limits, pooled=pooled, name=name)
                layer_of = nn.remat(make) if self.remat else make
                x, entered = layer_of(self, x)
                if pooled:
                    intermediates[f"f{stage - 1}"] = entered
                before, limits = name, (0.0, jnp.inf)
        x = MapNorm(*limits, name=f"{before}_norm")(x)
        intermediates[f"f{len(self.stage_depths)}"] = x
        positions = x.reshape(x.shape[0], -1, self.width)
        return covariance_tokens(positions, self.newton_iterations), intermediates

    @staticmethod
    def _layer(
        encoder: "PatchEncoder",
        x_MHWC: Array,
        *,
        before: str,
        limits: tuple[float, float],
        pooled: bool,
        name: str,
    ) -> tuple[Array, Array]:
        """From the output of one convolution to that of the next, and what that one takes."""
        x = MapNorm(*limits, name=f"{before}_norm", parent=encoder)(x_MHWC)
        if pooled:
            x = nn.avg_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=True)
        convolution = nn.Conv(
            encoder.width,
            (3, 3),
            kernel_init=torch_uniform,
            dtype=encoder.dtype,
            precision="highest" if encoder.dtype is None else None,
            name=f"{name}_conv",
            parent=encoder,
        )
        return convolution(x), x


class PatchMixer(nn.Module):
    """Pre-norm transformer over the tokens of one image; returns the first token's output.

    No positional code and no class token: all but the first patch are a set.
    """

    blocks: int = 2
    heads: int = 4
    head_dim: int = 16
    hidden: int = 128

    @nn.compact
    def __call__(self, tokens_BNT: Array, mask_BN: Array | None = None) -> Array:
        """Mixes tokens.

        Args:
            tokens_BNT: [B, N, T].
            mask_BN: [B, N] bool, False for padding; None when every token is real. The first token
                of every image must be real.

        Returns:
            Features [B, T].
        """
        if mask_BN is None:
            mask_BN = jnp.ones(tokens_BNT.shape[:2], bool)
        width = tokens_BNT.shape[-1]
        x = tokens_BNT
        for block in range(1, self.blocks + 1):
            norm = self._norm(f"block{block}_attention_norm", x)
            # Only the first token leaves the last block, so only its query is needed there.
            queries = 1 if block == self.blocks else x.shape[1]
            inner = self.heads * self.head_dim
            qkv = nn.Dense(
                3 * inner,
                use_bias=False,
                kernel_init=torch_uniform,
                precision="highest",
                name=f"block{block}_qkv",
            )(norm)
            q, k, v = (
                part.reshape(*part.shape[:2], self.heads, self.head_dim)
                for part in jnp.split(qkv, 3, axis=-1)
            )
            mixed = _attention(q[:, :queries], k, v, mask_BN)
            mixed = mixed.reshape(*mixed.shape[:2], inner)
            x = x[:, :queries] + self._dense(f"block{block}_out", width, mixed)
            norm = self._norm(f"block{block}_mlp_norm", x)
            hidden = nn.gelu(
                self._dense(f"block{block}_mlp_in", self.hidden, norm), approximate=False
            )
            x = x + self._dense(f"block{block}_mlp_out", width, hidden)
        return x[:, 0]

    def _norm(self, name: str, x: Array) -> Array:
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)(x)

    def _dense(self, name: str, size: int, x: Array) -> Array:
        return nn.Dense(size, kernel_init=torch_uniform, precision="highest", name=name)(x)


def _attention(q_BQHD: Array, k_BNHD: Array, v_BNHD: Array, mask_BN: Array) -> Array:
    """Softmax attention; long images take their queries in slices, so memory stays bounded."""
    queries, keys = q_BQHD.shape[1], k_BNHD.shape[1]

    product = partial(jnp.einsum, precision="highest")

    def attend(q: Array) -> Array:
        scores = product("bqhd,bnhd->bhqn", q, k_BNHD) / q.shape[-1] ** 0.5
        scores = jnp.where(mask_BN[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
        return product("bhqn,bnhd->bqhd", jax.nn.softmax(scores, axis=-1), v_BNHD)

    fewest = -(-queries * keys // _ATTENTION_ENTRIES)
    slices = next(n for n in range(min(fewest, queries), queries + 1) if queries % n == 0)
    if slices == 1:
        return attend(q_BQHD)
    batch, _, heads, dim = q_BQHD.shape
    sliced = jnp.moveaxis(q_BQHD.reshape(batch, slices, -1, heads, dim), 1, 0)
    return jnp.moveaxis(lax.map(attend, sliced), 0, 1).reshape(q_BQHD.shape)


class PublishedExtractor(Extractor):
    """The whole extractor of the paper; 2,149,198 numbers with the fixed filters at full size.

    Tokens and features have T = width * (width + 1) / 2 numbers.
    """

    width: int = 32
    stage_depths: Sequence[int] = (4, 2, 2, 2)
    newton_iterations: int = 5
    mixer_blocks: int = 2
    mixer_heads: int = 4
    mixer_head_dim: int = 16
    mixer_hidden: int = 128
    dtype: Any = None
    remat: bool = False

    def setup(self) -> None:
        """Builds the two halves."""
        self.encoder = PatchEncoder(
            self.width, self.stage_depths, self.newton_iterations, self.dtype, self.remat
        )
        self.mixer = PatchMixer(
            self.mixer_blocks, self.mixer_heads, self.mixer_head_dim, self.mixer_hidden
        )

    def encode(self, x_MHWC: Array) -> tuple[Array, Intermediates]:
        """Tokens [M, T]; f1 [M, 32, 32, C], f2 [M, 16, 16, C], f3, f4 [M, 8, 8, C], f5 = tokens."""
        tokens, intermediates = self.encoder(x_MHWC)
        return tokens, intermediates | {"f5": tokens}

    def mix(self, tokens_BNT: Array, mask_BN: Array | None = None) -> Array:
        """Features [B, T] of tokens [B, N, T]."""
        return self.mixer(tokens_BNT, mask_BN)


_MOST_LAYERS: Final = 64
_MOST_STAGES: Final = 7  # each but the first halves the side of a patch, 64
# Of the fields of a configuration: smallest and largest value.
_LIMITS: Final = {
    "width": (1, 1024),
    "newton_iterations": (1, 100),
    "mixer_blocks": (0, _MOST_LAYERS),
    "mixer_heads": (1, 1024),
    "mixer_head_dim": (1, 1024),
    "mixer_hidden": (1, 2**16),
}


def build(config: PublishedEncoder) -> PublishedExtractor:
    """The network of a configuration.

    Raises:
        UserError: an unknown precision or rematerialisation, or a size out of its limits.
    """
    check_choice("model.dtype", config.dtype, ("float32", "bfloat16"))
    check_choice("model.remat", config.remat, ("none", "norms"))
    for name, (low, high) in _LIMITS.items():
        check_whole(f"model.{name}", getattr(config, name), low, high)
    check_whole("model.stage_depths: stages", len(config.stage_depths), 1, _MOST_STAGES)
    for depth in config.stage_depths:
        check_whole("model.stage_depths", depth, 1, _MOST_LAYERS)
    sizes = dataclasses.asdict(config)
    dtype = jnp.bfloat16 if sizes.pop("dtype") == "bfloat16" else None
    sizes |= {"stage_depths": tuple(config.stage_depths), "remat": config.remat == "norms"}
    return PublishedExtractor(**sizes, dtype=dtype)
