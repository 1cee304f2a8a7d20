"""The training step against a plain reference, and what the optimizer's configuration means."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.errors import UserError
from exif_jax.config import OptimizerConfig
from exif_jax.training.mapping import SHARDED, data_mesh, over_devices, replicate, shard, to_host
from exif_jax.training.optimizers import make_optimizer
from exif_jax.training.step import initial_state, map_train_step, masked_mean_part

RATE, STEPS, ROWS, KEY = 0.1, 3, 16, 5
FROZEN = {"offset": np.float32(0.5)}
START = {"w": np.array([0.3, -0.2, 0.1], np.float32), "b": np.float32(0.0)}


def batches():
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield {
            "x": rng.normal(size=(ROWS, 3)).astype(np.float32),
            "y": rng.normal(size=ROWS).astype(np.float32),
            "valid": rng.random(ROWS) < 0.7,
        }


def regression(params, frozen, batch, key):
    """Masked mean squared error; the draw shows which key the step gave."""
    error = batch["x"] @ params["w"] + params["b"] + frozen["offset"] - batch["y"]
    loss, count = masked_mean_part(jnp.where(batch["valid"], error**2, 0), batch["valid"])
    devices = jax.lax.axis_size("data")
    return loss, {"count": count / devices, "draw": jax.random.uniform(key) / devices}


def reference():
    """Gradient descent in float64 on whole batches: losses, norms of gradients, parameters."""
    w, b = START["w"].astype(np.float64), 0.0
    history = []
    for batch in batches():
        x, y = (batch[name][batch["valid"]].astype(np.float64) for name in ("x", "y"))
        error = x @ w + b + 0.5 - y
        to_w, to_b = 2 * error @ x / len(x), 2 * error.mean()
        history.append((np.mean(error**2), np.sqrt(to_w @ to_w + to_b**2), len(x)))
        w, b = w - RATE * to_w, b - RATE * to_b
    return history, w, b


@pytest.mark.parametrize("devices", [1, 8])
def test_steps_are_gradient_descent_on_the_whole_batch(devices):
    mesh, optimizer = data_mesh(jax.devices()[:devices]), optax.sgd(RATE)
    step = map_train_step(regression, optimizer, mesh)
    state = replicate(initial_state(jax.tree.map(jnp.array, START), optimizer), mesh)
    frozen, key = replicate(FROZEN, mesh), replicate(jax.random.key(KEY), mesh)
    history, w, b = reference()
    for number, (batch, (loss, norm, count)) in enumerate(zip(batches(), history, strict=True)):
        state, metrics = to_host(step(state, frozen, shard(batch, mesh), key))
        assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
        assert metrics["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        assert metrics["count"] == count
        draw = jax.random.uniform(jax.random.fold_in(jax.random.key(KEY), number))
        assert metrics["draw"] == pytest.approx(float(draw), rel=1e-6)
        state = replicate(state, mesh)
    assert int(state.step) == STEPS
    np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)
    np.testing.assert_allclose(state.params["b"], b, rtol=1e-5)
    np.testing.assert_array_equal(frozen["offset"], FROZEN["offset"])


@pytest.mark.parametrize("devices", [1, 8])
def test_a_mean_is_over_the_valid_values_of_all_devices(devices):
    mesh = data_mesh(jax.devices()[:devices])

    def parts(values, valid):
        part, count = masked_mean_part(values, valid)
        return part[None], count[None]

    mapped = over_devices(parts, mesh, (SHARDED, SHARDED), SHARDED)
    values = np.arange(16, dtype=np.float32)
    for valid in (values < 3, values > 100):  # on one device of eight, and nowhere
        part, count = map(np.asarray, mapped(*shard((values * valid, valid), mesh)))
        assert part.sum() == pytest.approx(values[valid].mean() if valid.any() else 0)
        assert (count == valid.sum()).all()


def moves(config, steps, gradients):
    """How far each of the gradients moves a parameter that starts at 0."""
    optimizer = make_optimizer(config, steps)
    params, moved = jnp.zeros(()), []
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(jnp.float32(gradient), state, params)
        moved.append(-float(updates))
        params = optax.apply_updates(params, updates)
    return moved


def test_adam_moves_by_the_learning_rate():
    np.testing.assert_allclose(
        moves(OptimizerConfig(learning_rate=0.01), 5, [7.0] * 3), [0.01] * 3, rtol=1e-4
    )


def test_warmup_is_linear_from_zero():
    config = OptimizerConfig(learning_rate=0.01, warmup_steps=4)
    expected = [0, 0.0025, 0.005, 0.0075, 0.01, 0.01]
    np.testing.assert_allclose(moves(config, 9, [1.0] * 6), expected, rtol=1e-4, atol=1e-9)


def test_cosine_falls_to_zero_at_the_last_step():
    config = OptimizerConfig(learning_rate=0.01, schedule="cosine")
    expected = 0.005 * (1 + np.cos(np.pi * np.arange(9) / 8))
    np.testing.assert_allclose(moves(config, 8, [1.0] * 9), expected, rtol=1e-4, atol=1e-8)
    warmed = moves(
        OptimizerConfig(learning_rate=0.01, schedule="cosine", warmup_steps=2), 8, [1] * 9
    )
    assert warmed[0] == 0 and warmed[2] == pytest.approx(0.01, rel=1e-4)
    assert warmed[8] == pytest.approx(0, abs=1e-8)


def test_clipping_bounds_the_norm_of_the_gradient():
    # Adam forgets the size of a gradient, but not how it compares with the one before.
    free, clipped = (
        moves(OptimizerConfig(learning_rate=0.01, clip_norm=norm), 5, [1.0, 100.0])
        for norm in (0.0, 1.0)
    )
    assert clipped == pytest.approx([0.01, 0.01], rel=1e-4)
    assert abs(free[1] - 0.01) > 1e-3


def test_an_unknown_schedule_is_named():
    with pytest.raises(UserError, match=r"optimizer\.schedule = 'steps' is not known"):
        make_optimizer(OptimizerConfig(schedule="steps"), 5)
