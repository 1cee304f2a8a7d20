"""The one place where per-device functions are mapped over the devices.

Everything data-parallel in this project (training steps, feature extraction, EM) is a pure function
of one device's shard, with collectives over the axis `data`. `over_devices` maps such a function
over a mesh; `jax.pmap(function, axis_name="data")` runs the same function.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from data_pipelines.errors import UserError

AXIS = "data"
REPLICATED = PartitionSpec()
SHARDED = PartitionSpec(AXIS)

Tree = TypeVar("Tree")


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Mesh of one axis, `data`, over the given devices, all of every process by default."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def over_devices(
    function: Callable[..., Any],
    mesh: Mesh,
    in_specs: Any,
    out_specs: Any,
    donate: tuple[int, ...] = (),
) -> Callable[..., Any]:
    """Maps a function of one device's shard over the mesh and compiles it.

    Args:
        function: pure; may use `lax.psum` and its kin over the axis `data`. What it returns under
            `REPLICATED` must be equal on all devices: the caller sums or gathers it.
        mesh: from `data_mesh`.
        in_specs: `REPLICATED` or `SHARDED` (by the first axis) for every argument.
        out_specs: likewise for the result.
        donate: positions of the arguments whose buffers may be reused.

    Returns:
        The mapped function of global arrays.
    """
    # check_vma=False gives pmap's semantics: gradients of replicated parameters are local and are
    # summed explicitly. With checking they would already be summed, and summed again.
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
    )
    platform = mesh.devices.flat[0].platform
    return jax.jit(mapped, donate_argnums=donate, compiler_options=_compiler_options(platform))


@functools.cache
def _compiler_options(platform: str) -> dict[str, str] | None:
    """Options for faster convolution gradients on CPU, where this XLA knows them.

    XLA's default fusion into YNNPACK makes our training step about 2.4 times slower on CPU
    (jax-ml/jax#37465); an XLA that does not know the option refuses it.
    """
    if platform != "cpu":
        return None
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    try:
        jax.jit(lambda x: x, compiler_options=options)(0.0)
    except Exception:  # which type an unknown option raises differs between releases
        return None
    return options


def check_divides(count: int, mesh: Mesh, field: str, parts: int = 1) -> None:
    """Raises a UserError if a global batch does not divide over the devices of the mesh.

    Args:
        count: of the batch.
        mesh: of the devices.
        field: of the configuration that gives the count.
        parts: config.accumulate, in which every device takes its rows.
    """
    divisor = mesh.size * parts
    if count < 1 or count % divisor:
        accumulated = f" in config.accumulate = {parts} parts each" if parts > 1 else ""
        raise UserError(
            f"{field} = {count} does not divide over {mesh.size} devices{accumulated}: "
            f"choose a positive multiple of {divisor}"
        )


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Arrays of the tree on every device; each process must hold equal values."""
    sharding = NamedSharding(mesh, REPLICATED)

    def put(x: Any) -> Array:
        if isinstance(x, Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            # Keys cannot be put on other processes' devices; the numbers inside them can.
            data = np.asarray(jax.random.key_data(x))
            return jax.random.wrap_key_data(put(data), impl=jax.random.key_impl(x))
        return jax.device_put(x, sharding)

    return jax.tree.map(put, tree)


def shard(tree: Any, mesh: Mesh) -> Any:
    """Global arrays, sharded by their first axis, from the part that each process holds."""
    sharding = NamedSharding(mesh, SHARDED)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )


def to_host(tree: Any) -> Any:
    """NumPy values of replicated arrays, on every process; host arrays stay as they are."""
    return jax.tree.map(
        lambda x: np.asarray(x.addressable_data(0) if isinstance(x, Array) else x), tree
    )


def global_index(rows: int) -> Array:
    """Inside a mapped function: positions, in the global batch, of this device's `rows` rows."""
    return jax.lax.axis_index(AXIS) * rows + jnp.arange(rows)


def example_keys(key: Array, rows: int) -> Array:
    """Inside a mapped function: one key an example, the same for any number of devices."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(global_index(rows))
