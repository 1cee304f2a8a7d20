"""The training step of the gradient stages: pure, for one device's shard, mapped elsewhere."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh

from exif_jax.config import OptimizerConfig, check_choice
from exif_jax.training.mapping import AXIS, REPLICATED, SHARDED, over_devices

Params = dict[str, Any]
Batch = dict[str, Array]
Metrics = dict[str, Array]
# (params, frozen params, this device's part of the batch, key of the step) -> this device's part of
# the loss and of every metric; the parts of all devices add up to the value.
LossFn = Callable[[Params, Params, Batch, Array], tuple[Array, Metrics]]


@flax.struct.dataclass
class TrainState:
    """All that changes while training: steps done, parameters, optimizer state."""

    step: Array
    params: Params
    opt_state: optax.OptState


StepFn = Callable[[TrainState, Params, Batch, Array], tuple[TrainState, Metrics]]


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Adam (method section 4 and 6), with optional gradient clipping, warm-up and cosine decay.

    Raises:
        UserError: an unknown schedule.
    """
    check_choice("optimizer.schedule", config.schedule, ("constant", "cosine"))
    rate: optax.ScalarOrSchedule = config.learning_rate
    if config.schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(
            0.0 if config.warmup_steps else config.learning_rate,
            config.learning_rate,
            config.warmup_steps,
            max(steps, config.warmup_steps + 1),
        )
    elif config.warmup_steps:
        rate = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    return optax.chain(*clip, optax.adam(rate))


def initial_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """State before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def make_train_step(loss_fn: LossFn, optimizer: optax.GradientTransformation) -> StepFn:
    """One step of gradient descent on one device's shard.

    Args:
        loss_fn: contributions of one device to the global loss and metrics.
        optimizer: applied to the summed gradient, equally on every device.

    Returns:
        step(state, frozen, batch, key) -> (state, metrics): to be mapped over the axis `data`.
        The key is the run's; the step's own key is derived from it and the state's step number.
        Metrics are global values, `loss` and `gradient_norm` among them.
    """

    def step(
        state: TrainState, frozen: Params, batch: Batch, key: Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
            state.params, frozen, batch, key
        )
        loss, metrics, gradient = lax.psum((loss, metrics, gradient), AXIS)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient), **metrics}
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def map_train_step(
    loss_fn: LossFn, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Callable[..., tuple[TrainState, Metrics]]:
    """`make_train_step`, mapped over the mesh and compiled; the state's buffers are reused."""
    return over_devices(
        make_train_step(loss_fn, optimizer),
        mesh,
        (REPLICATED, REPLICATED, SHARDED, REPLICATED),
        REPLICATED,
        donate=(0,),
    )


def masked_mean_part(values: Array, valid: Array) -> tuple[Array, Array]:
    """This device's part of the mean over all devices' valid values, and the global count.

    Args:
        values: any shape, 0 where invalid.
        valid: mask of the same shape.

    Returns:
        Sum of the values here divided by the global number of valid ones (0 if there is none), and
        that number.
    """
    count = lax.psum(valid.sum(), AXIS)
    return values.sum() / jnp.maximum(count, 1), count
