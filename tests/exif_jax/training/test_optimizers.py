"""Optimizers by name: what they do to parameters, and the average of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data_pipelines.errors import UserError
from exif_jax.config import OptimizerConfig
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices
from exif_jax.training.optimizers import OPTIMIZERS, kernels, learning_rate, make_optimizer
from exif_jax.training.step import initial_state, make_train_step

PARAMS = {"dense": {"kernel": jnp.array([[1.0, 2.0]]), "bias": jnp.array([3.0])}}
GRADIENT = {"dense": {"kernel": jnp.array([[0.5, -0.5]]), "bias": jnp.array([0.1])}}


def moved(config, steps=3):
    optimizer, params = make_optimizer(config, 10), PARAMS
    state = optimizer.init(params)
    for _ in range(steps):
        updates, state = optimizer.update(GRADIENT, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_every_optimizer_descends(name):
    params = moved(OptimizerConfig(name, learning_rate=0.01))
    change = jax.tree.map(jnp.subtract, params, PARAMS)
    for delta, gradient in zip(jax.tree.leaves(change), jax.tree.leaves(GRADIENT), strict=True):
        assert (np.sign(delta) == -np.sign(gradient)).all()


def test_adam_is_the_published_one():
    expected = optax.adam(1e-4)
    ours = make_optimizer(OptimizerConfig(), 10)
    updates = [o.update(GRADIENT, o.init(PARAMS), PARAMS)[0] for o in (ours, expected)]
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), *updates))


def test_only_kernels_decay():
    assert kernels({"stem_kernel": 1, "norm": {"scale": 1, "bias": 1}, "d": {"kernel": 1}}) == {
        "stem_kernel": True,
        "norm": {"scale": False, "bias": False},
        "d": {"kernel": True},
    }
    plain, decayed = (
        moved(OptimizerConfig("adamw", 0.01, weight_decay=x), 1)["dense"] for x in (0.0, 0.5)
    )
    np.testing.assert_array_equal(plain["bias"], decayed["bias"])
    np.testing.assert_allclose(
        plain["kernel"] - decayed["kernel"], 0.01 * 0.5 * PARAMS["dense"]["kernel"], rtol=1e-4
    )


def test_arguments_reach_the_optimizer():
    same = moved(OptimizerConfig("sgd", 0.1, arguments="momentum=0.9"))
    expected, optimizer = PARAMS, optax.sgd(0.1, 0.9)
    state = optimizer.init(expected)
    for _ in range(3):
        updates, state = optimizer.update(GRADIENT, state)
        expected = optax.apply_updates(expected, updates)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool(jnp.allclose(a, b)), same, expected))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OptimizerConfig("adm"), "optimizer 'adm' is not known; known are adam, adamw"),
        (OptimizerConfig(schedule="x"), r"config\.optimizer\.schedule = 'x' is not known"),
        (OptimizerConfig(arguments="b9=1"), "adam has no 'b9'; it has learning_rate, b1"),
        (OptimizerConfig(weight_decay=0.1), "adam has none; choose adamw, lion or sgd"),
        (OptimizerConfig(ema=1.0), r"ema = 1\.0 must lie in 0\.\.1"),
    ],
)
def test_what_no_optimizer_has_is_refused(config, message):
    with pytest.raises(UserError, match=message):
        make_optimizer(config, 10)


def test_schedules():
    warm = learning_rate(OptimizerConfig(learning_rate=1.0, warmup_steps=4), 10)
    assert [float(warm(step)) for step in (0, 2, 4, 9)] == [0, 0.5, 1, 1]
    cosine = learning_rate(OptimizerConfig(learning_rate=1.0, schedule="cosine"), 10)
    assert float(cosine(0)) == 1 and float(cosine(10)) == pytest.approx(0, abs=1e-6)


def test_the_average_follows_the_parameters():
    def loss_fn(params, frozen, batch, key):
        return (params["x"] * batch["g"]).sum() / 4, {}

    optimizer, mesh = optax.sgd(1.0), data_mesh(jax.devices()[:2])
    step = over_devices(
        make_train_step(loss_fn, optimizer, ema=0.75),
        mesh,
        (REPLICATED, REPLICATED, SHARDED, REPLICATED),
        REPLICATED,
    )
    state = initial_state({"x": jnp.zeros(())}, optimizer, ema=True)
    average = parameter = 0.0
    for _ in range(3):
        state, _ = step(state, {}, {"g": jnp.ones(4)}, jax.random.key(0))
        parameter -= 1.0
        average = 0.75 * average + 0.25 * parameter
        assert float(state.params["x"]) == parameter
        np.testing.assert_allclose(state.evaluated["x"], average, rtol=1e-6)
    assert initial_state({"x": jnp.zeros(())}, optimizer).ema is None
