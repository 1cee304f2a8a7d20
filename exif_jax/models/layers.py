"""What all our Flax modules share: the initialisation, and a typed way to apply them."""

from typing import Any

import flax.linen as nn

# PyTorch's default for convolutions and linear layers, which the published network starts from.
torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def apply(
    module: nn.Module, params: dict[str, Any], *inputs: Any, method: str | None = None
) -> Any:
    """The module's output for parameters without Flax's outer "params" level."""
    return module.apply({"params": params}, *inputs, method=method)
