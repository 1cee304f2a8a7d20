"""What accelerators make of a program by default, on CPU: operands of products are rounded."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend import core

BFLOAT16 = 7  # bits after the first one that are kept
TF32 = 10
_PRODUCTS = ("conv_general_dilated", "dot_general")
_CALLS = ("jit", "custom_jvp_call", "custom_vjp_call")


def rounding_operands(
    function: Callable[..., Any], bits: int, everywhere: bool = False
) -> Callable[..., Any]:
    """The function as a TPU (or GPU) computes it by default.

    Operands of convolutions and products are rounded, unless these ask for the highest precision.

    Args:
        function: of arrays.
        bits: `BFLOAT16` or `TF32`.
        everywhere: as if no product asked for more.
    """

    def run(*args: Any) -> Any:
        closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)

        def rounded(equation: Any, x: Any) -> Any:
            exact = x.dtype != jnp.float32 or (_is_highest(equation) and not everywhere)
            return x if exact else lax.reduce_precision(x, 8, bits)

        outputs = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), rounded)
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return jax.jit(run)


def _evaluate(jaxpr: Any, consts: Any, args: Any, rounded: Callable[..., Any]) -> list[Any]:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        inner = [
            x for x in equation.params.values() if isinstance(x, core.ClosedJaxpr | core.Jaxpr)
        ]
        if equation.primitive.name in _PRODUCTS:
            inputs = [rounded(equation, x) for x in inputs]
        if equation.primitive.name in _CALLS:
            called, constants = inner[0], ()
            if isinstance(called, core.ClosedJaxpr):
                called, constants = called.jaxpr, called.consts
            outputs = _evaluate(called, constants, inputs, rounded)
        else:
            assert not any(map(_has_products, inner)), equation.primitive
            outputs = equation.primitive.bind(*inputs, **equation.params)
            outputs = outputs if equation.primitive.multiple_results else [outputs]
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _is_highest(equation: Any) -> bool:
    precision = equation.params["precision"]
    return precision is not None and set(precision) == {lax.Precision.HIGHEST}


def _has_products(jaxpr: Any) -> bool:
    return any(name in str(jaxpr) for name in _PRODUCTS)
