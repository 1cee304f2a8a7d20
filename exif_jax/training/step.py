"""The training step of the gradient stages: pure, for one device's shard, mapped elsewhere."""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh

from exif_jax.training.accumulation import Batch, Metrics, Params, SplitLoss, accumulated
from exif_jax.training.mapping import AXIS, REPLICATED, SHARDED, over_devices

# (params, frozen params, this device's part of the batch, key of the step) -> this device's part of
# the loss and of every metric; the parts of all devices add up to the value.
LossFn = Callable[[Params, Params, Batch, Array], tuple[Array, Metrics]]


@flax.struct.dataclass
class TrainState:
    """All that changes while training.

    Attributes:
        step: steps done.
        params: parameters.
        opt_state: of the optimizer.
        ema: exponential moving average of the parameters; None if there is none.
    """

    step: Array
    params: Params
    opt_state: optax.OptState
    ema: Params | None = None

    @property
    def evaluated(self) -> Params:
        """The parameters to evaluate and to export: their average where there is one."""
        return self.params if self.ema is None else self.ema


StepFn = Callable[[TrainState, Params, Batch, Array], tuple[TrainState, Metrics]]
# A StepFn of global arrays, which can also be lowered and compiled for arrays that are not there.
MappedStep = Callable[..., tuple[TrainState, Metrics]]


def initial_state(
    params: Params, optimizer: optax.GradientTransformation, ema: bool = False
) -> TrainState:
    """State before the first step; with `ema` it averages the parameters, from these on."""
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), average)


def make_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    ema: float = 0.0,
    accumulate: int = 1,
    unroll: bool = True,
) -> StepFn:
    """One step of gradient descent on one device's shard.

    Args:
        loss_fn: contributions of one device to the global loss and metrics.
        optimizer: applied to the summed gradient, equally on every device.
        ema: decay of the state's average of the parameters, if it has one.
        accumulate: parts that this device's rows go through the network in, which changes memory
            and time and no numbers but by rounding; above 1 the loss is a `SplitLoss`.
        unroll: see `accumulated`.

    Returns:
        step(state, frozen, batch, key) -> (state, metrics): to be mapped over the axis `data`.
        The key is the run's; the step's own key is derived from it and the state's step number.
        Metrics are global values, `loss` and `gradient_norm` among them.
    """
    if accumulate == 1:
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    elif isinstance(loss_fn, SplitLoss):
        value_and_grad = accumulated(loss_fn, accumulate, unroll)
    else:
        raise TypeError("only a SplitLoss can be taken of a batch in parts")

    def step(
        state: TrainState, frozen: Params, batch: Batch, key: Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(key, state.step)
        (loss, metrics), gradient = value_and_grad(state.params, frozen, batch, key)
        loss, metrics, gradient = lax.psum((loss, metrics, gradient), AXIS)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradient), **metrics}
        average = state.ema
        if average is not None:
            average = optax.incremental_update(params, average, 1 - ema)
        return TrainState(state.step + 1, params, opt_state, average), metrics

    return step


def map_train_step(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    ema: float = 0.0,
    accumulate: int = 1,
) -> MappedStep:
    """`make_train_step`, mapped over the mesh and compiled; the state's buffers are reused."""
    unroll = mesh.devices.flat[0].platform == "cpu"
    return over_devices(
        make_train_step(loss_fn, optimizer, ema, accumulate, unroll),
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
