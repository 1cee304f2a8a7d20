"""A batch in parts has the numbers of the undivided one, for every loss, and takes less memory."""

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from data_pipelines.errors import UserError
from data_pipelines.targets import Target
from exif_jax.config import (
    BinaryConfig,
    ObjectivesConfig,
    OptimizerConfig,
    PretextConfig,
    RecordsConfig,
)
from exif_jax.models.extractor import Extractor, FixedExtractor
from exif_jax.objectives import ImageObjective, Ranked, build_objectives
from exif_jax.stages import binary, pretext
from exif_jax.training.mapping import data_mesh, replicate, shard, to_host
from exif_jax.training.step import make_train_step

TARGETS = (
    Target("ISO", "ranked"),
    Target("FNumber", "ranked"),
    Target("Make", "categorical", ("Norden", "Kestrel", "other")),
)
ROWS, STEPS, LENGTH = 16, 2, 6
OPTIMIZER = OptimizerConfig(name="sgd", learning_rate=0.1, clip_norm=0.05, ema=0.5)


class Small(Extractor):
    @nn.compact
    def encode(self, x_MHWC):
        x = jnp.tanh(nn.Conv(16, (3, 3))(x_MHWC))
        return x.mean(axis=(1, 2)), {"f1": x}

    def mix(self, tokens_BNT, mask_BN=None):
        return tokens_BNT.mean(axis=1)


class Dropping(FixedExtractor):
    """A description goes through a layer of which training leaves out a half."""

    def setup(self):
        self.layer, self.dropout = nn.Dense(8), nn.Dropout(0.5)

    def encode(self, x_MHWC):
        return x_MHWC[:, 0, : LENGTH // 3].reshape(len(x_MHWC), -1), {}

    def pool(self, tokens_BNT, mask_BN=None):
        return tokens_BNT.mean(axis=1)

    def learn(self, description_BS, train=False):
        x = jnp.tanh(self.layer(self.dropout(description_BS, deterministic=not train)))
        return x, {"f1": x}


@dataclass(frozen=True)
class Uniform(ImageObjective):
    """Of one's own: bright photos lie apart from all others of the batch; labels are integers."""

    kind: ClassVar[str] = "uniform"
    measure: ClassVar[str] = "spread"
    size = 2

    def labels(self, images, sizes):
        return images.astype(jnp.int32).sum(axis=(1, 2, 3)) % 2

    def loss(self, rows, batch, first):
        squares = jnp.square(rows.scores[:, None] - batch.scores[None]).sum(axis=-1)
        near = jnp.log(jnp.exp(-squares).mean(axis=1))
        return jnp.where(rows.values > 0, near, 0), rows.values > 0


def pretext_case(parts):
    extra = (Uniform("Uniform"), Ranked("FNumber", pairing="neighbour"))
    config = PretextConfig(
        batch_size=ROWS,
        accumulate=parts,
        objectives=ObjectivesConfig(extra=extra, weights="Make=0.5"),
        data=RecordsConfig(patches=2),
        optimizer=OPTIMIZER,
    )
    extractor, objectives = Small(), build_objectives(TARGETS, config)
    rng = np.random.default_rng(0)
    labels = np.stack([rng.normal(size=(2, ROWS)), rng.normal(size=(2, ROWS)),
        rng.integers(3, size=(2, ROWS))], axis=-1)  # fmt: skip
    labels[rng.random(labels.shape) < 0.3] = np.nan
    batches = [
        {
            "image": rng.integers(256, size=(ROWS, 80, 72, 3), dtype=np.uint8),
            "size": np.tile(np.array([80, 72], np.int32), (ROWS, 1)),
            "targets": labels[i].astype(np.float32),
            "group": rng.integers(12, size=ROWS).astype(np.int32),
        }
        for i in range(STEPS)
    ]
    state = pretext.first_state(config, extractor, objectives)
    return lambda mesh: pretext.mapped_step(config, extractor, objectives, mesh), state, {}, batches


def binary_case(parts):
    config = BinaryConfig(batch_size=ROWS, accumulate=parts, alpha=0.3, optimizer=OPTIMIZER)
    extractor, rng = Dropping(), np.random.default_rng(1)
    batches = [
        {
            "description": rng.normal(size=(ROWS, LENGTH)).astype(np.float32),
            "label": rng.integers(2, size=ROWS).astype(np.int32),
            "valid": (rng.random(ROWS) < 0.7).astype(np.float32),
        }
        for _ in range(STEPS)
    ]
    frozen = binary.init_params(extractor, jax.random.key(1))["extractor"]
    state = binary.first_state(config, extractor)
    return lambda mesh: binary.mapped_step(config, extractor, mesh), state, frozen, batches


CASES = {"pretext": pretext_case, "binary": binary_case}


@functools.cache
def trained(case, devices, parts):
    """State and metrics after the steps, and bytes of temporaries of the compiled step."""
    mapped, state, frozen, batches = CASES[case](parts)
    mesh = data_mesh(jax.devices()[:devices])
    state, frozen, key = replicate((to_host(state), frozen, jax.random.key(7)), mesh)
    step = mapped(mesh).lower(state, frozen, shard(batches[0], mesh), key).compile()
    history = []
    for batch in batches:
        state, metrics = step(state, frozen, shard(batch, mesh), key)
        history.append(to_host(metrics))
    return (to_host(state), history), step.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("devices", "parts"), [(1, 4), (8, 2)])
def test_a_batch_in_parts_has_the_numbers_of_the_undivided_one(case, devices, parts):
    (whole, _), (divided, _) = trained(case, 1, 1), trained(case, devices, parts)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, divided
    )
    first = jax.tree.leaves(CASES[case](1)[1].params)
    moved = [
        np.abs(a - b).max() for a, b in zip(first, jax.tree.leaves(whole[0].params), strict=True)
    ]
    assert max(moved) > 1e-3


def test_a_batch_in_parts_takes_the_memory_of_a_part():
    whole, divided = trained("pretext", 1, 1)[1], trained("pretext", 1, 4)[1]
    assert divided < 0.35 * whole


def test_a_loss_that_is_not_split_is_not_divided():
    with pytest.raises(TypeError, match="only a SplitLoss"):
        make_train_step(lambda *_: (0.0, {}), optax.sgd(1.0), accumulate=2)


def test_parts_that_do_not_divide_a_batch_are_named():
    config = PretextConfig(batch_size=16, accumulate=3)
    named = r"over 8 devices in config\.accumulate = 3 parts each: choose .* multiple of 24"
    with pytest.raises(UserError, match=named):
        pretext.check(config, data_mesh())
