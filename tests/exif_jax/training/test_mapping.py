"""One device, eight devices, and pmap: the same numbers from the same per-device functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.errors import UserError
from data_pipelines.targets import Target
from exif_jax.config import PretextConfig, PublishedEncoder
from exif_jax.objectives import build_objectives
from exif_jax.stages.binary import init_params as init_binary
from exif_jax.stages.binary import make_loss as binary_loss
from exif_jax.stages.pretext import init_params, make_loss
from exif_jax.training.mapping import (
    AXIS,
    REPLICATED,
    SHARDED,
    check_divides,
    data_mesh,
    over_devices,
    replicate,
    shard,
    to_host,
)
from exif_jax.training.step import initial_state, make_train_step

TINY = PublishedEncoder(
    width=4, stage_depths=(1, 1, 1), mixer_blocks=2, mixer_heads=2, mixer_head_dim=4, mixer_hidden=8
)
TARGETS = (
    Target("ISO", "ranked"),
    Target("Make", "categorical", ("Norden", "Kestrel", "other")),
)
STEPS, BATCH = 3, 16


def pretext_batches():
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        labels = np.stack([rng.normal(size=BATCH), rng.integers(3, size=BATCH)], axis=1)
        labels[rng.random(labels.shape) < 0.3] = np.nan
        yield {
            "image": rng.integers(256, size=(BATCH, 96, 96, 3), dtype=np.uint8),
            "size": np.full((BATCH, 2), 96, np.int32),
            "targets": labels.astype(np.float32),
            "group": rng.integers(12, size=BATCH).astype(np.int32),
        }


def binary_batches():
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        yield {
            "image": rng.integers(256, size=(BATCH, 96, 96, 3), dtype=np.uint8),
            "size": rng.integers(64, 97, size=(BATCH, 2)).astype(np.int32),
            "label": rng.integers(2, size=BATCH).astype(np.int32),
            "valid": (rng.random(BATCH) < 0.8).astype(np.float32),
        }


@functools.cache
def stage(name):
    """(per-device step, first state, frozen parameters, batches); plain SGD shows wrong scales."""
    extractor = TINY.build()
    optimizer = optax.sgd(0.01)
    if name == "binary":
        params = init_binary(extractor, jax.random.key(0))
        frozen = init_binary(extractor, jax.random.key(1))["extractor"]
        return (
            make_train_step(binary_loss(extractor, alpha=0.05, patches=2), optimizer),
            initial_state(params, optimizer),
            frozen,
            list(binary_batches()),
        )
    config = PretextConfig(ranking=name.removeprefix("pretext_"))
    objectives = build_objectives(TARGETS, config)
    return (
        make_train_step(make_loss(extractor, objectives, patches=2), optimizer),
        initial_state(init_params(extractor, objectives, jax.random.key(0)), optimizer),
        {},
        list(pretext_batches()),
    )


NAMES = ["pretext_all_pairs", "pretext_neighbour", "binary"]
KEY = jax.random.key(7)


@functools.cache
def train_on_mesh(name, devices):
    step, state, frozen, batches = stage(name)
    mesh = data_mesh(jax.devices()[:devices])
    mapped = over_devices(
        step, mesh, (REPLICATED, REPLICATED, SHARDED, REPLICATED), REPLICATED, donate=(0,)
    )
    # A copy: the step may reuse the buffers of its state.
    state = replicate(jax.tree.map(np.asarray, state), mesh)
    frozen, key, history = replicate(frozen, mesh), replicate(KEY, mesh), []
    for batch in batches:
        state, metrics = mapped(state, frozen, shard(batch, mesh), key)
        history.append(to_host(metrics))
    return to_host(state), history


def assert_same(a, b, rtol, atol):
    for (path, x), y in zip(
        jax.tree_util.tree_flatten_with_path(a)[0], jax.tree.leaves(b), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol, err_msg=str(path))


@pytest.mark.parametrize("name", NAMES)
def test_eight_devices_train_as_one(name):
    one, eight = train_on_mesh(name, 1), train_on_mesh(name, 8)
    assert_same(one, eight, rtol=1e-3, atol=2e-5)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), one[0].params, stage(name)[1].params)
    # The comparison above means something only because training moves the parameters by more.
    assert max(jax.tree.leaves(moved)) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_pmap_of_the_same_step_gives_the_same_numbers(name):
    step, state, frozen, batches = stage(name)
    pmapped = jax.pmap(step, axis_name=AXIS)
    copies = lambda tree: jax.tree.map(lambda x: jnp.stack([x] * 8), tree)  # noqa: E731
    state, frozen = copies(state), copies(frozen)
    keys = jnp.stack([KEY] * 8)
    history = []
    for batch in batches:
        parts = jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), batch)
        state, metrics = pmapped(state, frozen, parts, keys)
        history.append(jax.tree.map(lambda x: np.asarray(x[0]), metrics))
    first = jax.tree.map(lambda x: np.asarray(x[0]), state)
    # Compiled with other fusions than ours on CPU: equal up to rounding.
    assert_same((first, history), train_on_mesh(name, 8), rtol=1e-3, atol=2e-5)


def test_invalid_examples_do_not_count():
    step, state, frozen, batches = stage("binary")
    mesh = data_mesh(jax.devices()[:1])
    mapped = over_devices(step, mesh, (REPLICATED, REPLICATED, SHARDED, REPLICATED), REPLICATED)
    batch = batches[0]
    other = dict(batch, image=batch["image"].copy())
    other["image"][batch["valid"] == 0] = 255
    results = [mapped(state, frozen, shard(b, mesh), KEY) for b in (batch, other)]
    assert_same(*(to_host(r) for r in results), rtol=0, atol=0)


def test_batch_that_does_not_divide_is_refused():
    with pytest.raises(UserError, match=r"batch_size = 12 does not divide over 8 devices"):
        check_divides(12, data_mesh(), "config.batch_size")
