"""The global batch in parts: gradients of the undivided one, with the memory of a part.

A loss that compares examples, as that of pairs does, is no sum over parts of a batch. But it sees
examples by their outputs alone, so its gradient is taken in three passes: outputs of all parts,
without what a backward pass would need of them; the gradient of the loss with respect to all
outputs; and part by part, outputs once more and their backward pass from that gradient. This costs
a second forward pass, which the compiler leaves out where the second pass does not need the first,
as where a loss is a mean over examples.

References:
    Gao, Zhang, Han and Callan, "Scaling deep contrastive learning batch size under memory limited
    setup" (GradCache), RepL4NLP 2021.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from exif_jax.training.mapping import example_keys

Params = dict[str, Any]
Batch = dict[str, Array]
Metrics = dict[str, Array]
Outputs = Any  # a tree of arrays [rows, ...]
# Of (params, frozen params, this device's part of the batch, key of the step): this device's part
# of the loss and of every metric, and the gradient of the former.
ValueAndGrad = Callable[[Params, Params, Batch, Array], tuple[tuple[Array, Metrics], Params]]


@dataclass(frozen=True)
class SplitLoss:
    """A loss in two halves, so that a batch can be divided; called, a `LossFn`.

    Attributes:
        outputs: (params, frozen params, some rows of the batch, a key for each of them) -> outputs
            through which the loss depends on the parameters, and others through which it does not,
            such as labels. Those of an example depend on its own row and key alone.
        reduce: (outputs of all rows of this device, the others, these rows) -> this device's part
            of the loss and of every metric. Here are the collectives, and no parameters.
    """

    outputs: Callable[[Params, Params, Batch, Array], tuple[Outputs, Outputs]]
    reduce: Callable[[Outputs, Outputs, Batch], tuple[Array, Metrics]]

    def __call__(
        self, params: Params, frozen: Params, batch: Batch, key: Array
    ) -> tuple[Array, Metrics]:
        """Loss and metrics of the undivided batch."""
        return self.reduce(*self.outputs(params, frozen, batch, _keys(key, batch)), batch)


def accumulated(loss: SplitLoss, parts: int, unroll: bool) -> ValueAndGrad:
    """Value and gradient of a loss whose batch goes through the network in parts.

    Args:
        loss: of one device.
        parts: of this device's rows, which they divide. Each is a run of neighbouring rows.
        unroll: whether the backward passes are written out one after the other. In a loop of XLA's
            CPU backend the gradients of convolutions take 10 to 20 times as long; elsewhere a loop
            is as fast, and what is compiled does not grow with the parts.

    Returns:
        A function like `jax.value_and_grad(loss, has_aux=True)`, of the same numbers but for
        rounding.
    """

    def value_and_grad(
        params: Params, frozen: Params, batch: Batch, key: Array
    ) -> tuple[tuple[Array, Metrics], Params]:
        divided = jax.tree.map(
            lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]),
            (batch, _keys(key, batch)),
        )

        def reduced(outputs: Outputs, others: Outputs) -> tuple[Array, Metrics]:
            return loss.reduce(_joined(outputs), _joined(others), batch)

        forward = lax.map(lambda part: loss.outputs(params, frozen, *part), divided)
        to_outputs, _ = jax.grad(reduced, has_aux=True)(*forward)

        def backward(total: Params, index: Array) -> tuple[Params, tuple[Outputs, Outputs]]:
            index += _zero_after(total)
            rows, to_rows = jax.tree.map(lambda x: x[index], (divided, to_outputs))
            outputs, pull_back, others = jax.vjp(
                lambda params: loss.outputs(params, frozen, *rows), params, has_aux=True
            )
            return jax.tree.map(jnp.add, total, *pull_back(to_rows)), (outputs, others)

        zeros = jax.tree.map(jnp.zeros_like, params)
        gradient, again = lax.scan(backward, zeros, jnp.arange(parts), unroll=unroll)
        return reduced(*again), gradient

    return value_and_grad


def _keys(key: Array, batch: Batch) -> Array:
    """A key for each of this device's rows, which do not change with the parts."""
    return example_keys(key, next(iter(batch.values())).shape[0])


def _zero_after(tree: Params) -> Array:
    """0, once the tree is computed.

    Written out, no part may begin before the one before it is done, or all of them are in memory
    at once. XLA's CPU backend drops optimization barriers too soon for that; that nothing is
    greater than infinity it does not see.
    """
    return (sum(x.ravel()[0] for x in jax.tree.leaves(tree)) > jnp.inf).astype(jnp.int32)


def _joined(outputs: Outputs) -> Outputs:
    """Outputs [parts, rows, ...] -> [parts * rows, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
