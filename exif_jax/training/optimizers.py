"""Optimizers by name: any optax factory, with decay, clipping, schedule; averages of parameters."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from data_pipelines.errors import UserError
from data_pipelines.registry import Registry
from exif_jax.config import OptimizerConfig, check_choice, pairs

Params = dict[str, Any]
Factory = Callable[..., optax.GradientTransformation]


def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    mask: Any = None,
) -> optax.GradientTransformation:
    """Gradient descent; its weight decay is the L2 penalty."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask), optax.sgd(learning_rate, momentum or None)
    )


# Anything with a learning rate and a tree of parameters; one's own: OPTIMIZERS.register("name").
OPTIMIZERS: Registry[Factory] = Registry(
    "optimizer",
    {
        "adam": optax.adam,
        "adamw": optax.adamw,
        "adafactor": optax.adafactor,
        "lamb": optax.lamb,
        "lion": optax.lion,
        "nadamw": optax.nadamw,
        "radam": optax.radam,
        "rmsprop": optax.rmsprop,
        "sgd": sgd,
    },
)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of a configuration (method sections 4 and 6: Adam, nothing else).

    Raises:
        UserError: an unknown optimizer, schedule or argument, weight decay where there is none, or
            an average that does not lie in 0..1.
    """
    if not 0 <= config.ema < 1:
        raise UserError(f"config.optimizer.ema = {config.ema} must lie in 0..1, below 1")
    factory = OPTIMIZERS[config.name]
    known = inspect.signature(factory).parameters
    arguments: dict[str, Any] = dict(pairs("optimizer.arguments", config.arguments))
    for name in arguments.keys() - known.keys():
        raise UserError(
            f"config.optimizer.arguments: {config.name} has no {name!r}; it has {', '.join(known)}"
        )
    if "weight_decay" in known:
        arguments["weight_decay"] = config.weight_decay
        if "mask" in known:
            arguments["mask"] = kernels
    elif config.weight_decay:
        raise UserError(
            f"config.optimizer.weight_decay: {config.name} has none; choose adamw, lion or sgd"
        )
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    return optax.chain(*clip, factory(learning_rate(config, steps), **arguments))


def learning_rate(config: OptimizerConfig, steps: int) -> optax.ScalarOrSchedule:
    """The learning rate, or its course over the steps.

    Raises:
        UserError: an unknown schedule.
    """
    check_choice("optimizer.schedule", config.schedule, ("constant", "cosine"))
    if config.schedule == "cosine":
        return optax.warmup_cosine_decay_schedule(
            0.0 if config.warmup_steps else config.learning_rate,
            config.learning_rate,
            config.warmup_steps,
            max(steps, config.warmup_steps + 1),
        )
    if config.warmup_steps:
        return optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    return config.learning_rate


def kernels(params: Params) -> Params:
    """Mask of the parameters that decay: kernels of convolutions and linear layers."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "kernel" in str(path[-1]), params)
