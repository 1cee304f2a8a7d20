"""What the published encoder takes on a TPU by its compiler: bytes, memory, compilation. Never run.

python benchmarks/encoder.py [DTYPE [REMAT]]

Forward and backward pass of the encoder alone, 256 patches on one chip of a v5e;
plan.py compiles whole steps. Needs no TPU, but its compiler: pip install 'exif-jax[tpu]'. Minutes
on two idle cores.
"""

import os
import sys
import time

from exif_jax.planning.topologies import environment, open_topology, parse

TOPOLOGY = "v5e:2x2"
PATCHES = 256


def main(dtype: str = "bfloat16", remat: str = "none") -> None:
    """Compiles, and prints a row."""
    os.environ.update(environment(parse(TOPOLOGY)))  # before JAX is imported
    import jax
    import jax.numpy as jnp

    from data_pipelines.images import PATCH
    from exif_jax.config import PublishedEncoder
    from exif_jax.models.extractor import apply, extractor_shapes
    from exif_jax.models.patches import normalise

    extractor = PublishedEncoder(dtype=dtype, remat=remat).build()
    chip = jax.sharding.SingleDeviceSharding(open_topology(parse(TOPOLOGY)).devices[0])

    def loss(params: dict, patches: jax.Array) -> jax.Array:
        return jnp.square(apply(extractor, params, normalise(patches), method="encode")[0]).sum()

    patches = jax.ShapeDtypeStruct((PATCHES, PATCH, PATCH, 3), jnp.uint8)
    shapes = extractor_shapes(extractor)[0], patches
    given = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=chip), shapes)
    lowered = jax.jit(jax.grad(loss)).lower(*given)
    start = time.perf_counter(), time.process_time()
    compiled = lowered.compile()
    wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    cost, kept = compiled.cost_analysis(), compiled.memory_analysis().temp_size_in_bytes
    print(
        f"{dtype}, remat {remat}: {cost['bytes accessed'] / PATCHES / 1e6:.2f} MB accessed, "
        f"{cost['flops'] / PATCHES / 1e6:.0f} MFLOP and {kept / PATCHES / 1e6:.2f} MB of "
        f"temporaries a patch; compiled in {wall:.0f} s, {processor:.0f} s of processor time"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
