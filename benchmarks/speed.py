"""Speed of the network on this machine: training steps, features, the stem.

python benchmarks/speed.py

`--quick` checks the script itself within a minute, with sizes whose numbers mean nothing. Results
go to results/speed_DEVICE.md and .json beside this file. All photos are SIMULATED. The speed of
reading photos is measured by prepare.py.
"""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from measuring import Report, Rows, command_line, progress, take_turns

from data_pipelines.images import PATCH, WINDOW
from data_pipelines.prepare.run import prepare
from data_pipelines.simulated import make_dataset
from exif_jax.config import PretextConfig, PublishedEncoder, RecordsConfig
from exif_jax.detection.features import extract_features
from exif_jax.models.extractor import init_extractor
from exif_jax.models.srm import srm_kernels
from exif_jax.models.stem import residual_convolution
from exif_jax.stages import pretext
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, replicate, shard

# On a CPU, on an accelerator, with --quick; counts of images are for each device.
SIZES = {
    "rounds": (5, 7, 1),  # turns that each side of a comparison takes
    "batch": (16, 32, 2),  # images of a pretext batch
    "patches": (4, 16, 2),  # of each image of it
    "steps": (1, 10, 1),  # pretext steps in a turn
    "images": (16, 2048, 1),  # of 256x256 whose features are computed in a turn
    "stem": (64, 512, 1),  # patches through the stem in a turn
    "encoder": ({}, {}, {"width": 4, "stage_depths": (1, 1, 1)}),  # other than as published
}


def training(dtype: str, photos: Path, sizes: Any) -> Callable[[], Any]:
    """Takes `sizes.steps` whole training steps on a batch that is already on the devices."""
    config = PretextConfig(
        model=PublishedEncoder(**sizes.encoder, dtype=dtype),
        batch_size=sizes.batch * jax.device_count(),
        data=RecordsConfig(photos=str(photos), patches=sizes.patches),
    )
    stage = pretext.build(config)
    batch = stage.put(next(iter(stage.data)))
    state, frozen, key = stage.place(jax.random.key(1))

    def train() -> Array:
        nonlocal state
        for _ in range(sizes.steps):
            state, metrics = stage.step(state, frozen, batch, key)
        return metrics["loss"]

    return train


def features(sizes: Any) -> Callable[[], np.ndarray]:
    """Computes the features of images in host memory."""
    mesh = data_mesh()
    shape = (sizes.images * mesh.size, WINDOW, WINDOW, 3)
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    extractor = PublishedEncoder(**sizes.encoder).build()
    params = replicate(init_extractor(extractor, jax.random.key(0)), mesh)
    return partial(extract_features, extractor, params, images, mesh=mesh)


def two_step_stem(x_MHWC: Array, kernel: Array) -> Array:
    """The stem as published: 30 fixed filters on each colour plane, then a 3x3 convolution."""
    convolve = partial(
        lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    bank = jnp.asarray(srm_kernels(), kernel.dtype)[:, :, None]
    planes = [convolve(x_MHWC[..., plane : plane + 1], bank) for plane in range(3)]
    return convolve(jnp.concatenate(planes, axis=-1), kernel)


def one_pass_stem(x_MHWC: Array, kernel: Array) -> Array:
    """The stem as it is computed here, without bias."""
    return residual_convolution(x_MHWC, kernel, jnp.zeros(kernel.shape[-1], kernel.dtype))


def stem(form: Callable[..., Array], backward: bool, sizes: Any) -> Callable[[], Array]:
    """One form of the stem, forward or forward and backward, on one device."""
    mesh = data_mesh(jax.devices()[:1])
    rng = np.random.default_rng(0)
    x = shard(rng.normal(size=(sizes.stem, PATCH, PATCH, 3)).astype(np.float32), mesh)
    shape = (3, 3, 90, PublishedEncoder(**sizes.encoder).width)
    kernel = replicate(rng.normal(size=shape).astype(np.float32), mesh)

    def run(x: Array, kernel: Array) -> Array:
        out, pull = jax.vjp(partial(form, x), kernel)
        return pull(out)[0] if backward else out

    return partial(over_devices(run, mesh, (SHARDED, REPLICATED), SHARDED), x, kernel)


def measure(sizes: Any, unit: str, count: int, tasks: dict[str, Callable[[], Any]]) -> Rows:
    """The speed of tasks that take turns, each compared with the first one."""
    progress(f"measuring: {', '.join(tasks)} ...")
    seconds = take_turns(tasks, sizes.rounds)
    reference = next(iter(seconds.values()))
    table: Rows = []
    for name, times in seconds.items():
        table.append({"measured": name, "unit": unit, "speed": count / times})
        if times is not reference:
            table[-1]["times as fast as the first of its kind"] = reference / times
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the table and writes the results."""
    report = Report("speed", command_line(__doc__).parse_args(argv), SIZES)
    sizes = report.sizes
    dtypes = ("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        progress("simulating and preparing photos ...")
        images = sizes.batch * jax.device_count()
        # A tenth is held out.
        make_dataset(Path(folder, "data"), photos=2 * images + 8, labelled=0, test=0)
        prepared = Path(folder, "records")
        prepare([Path(folder, "data", "photos")], prepared)
        tasks: dict[str, Callable[[], Any]] = {
            f"pretext training, {sizes.patches} patches an image, {dtype}": training(
                dtype, prepared, sizes
            )
            for dtype in dtypes
        }
        table = measure(sizes, "images/s", images * sizes.steps, tasks)
    name = "features of 256x256 images, 16 patches, float32"
    count = sizes.images * jax.device_count()
    table += measure(sizes, "images/s", count, {name: features(sizes)})
    forms = {"two steps": two_step_stem, "one 7x7 pass": one_pass_stem}
    for direction in ("forward", "forward and backward"):
        stems = {
            f"stem as {name}, {direction}": stem(form, direction != "forward", sizes)
            for name, form in forms.items()
        }
        table += measure(sizes, "patches/s", sizes.stem, stems)
    report.add("Network", table)


if __name__ == "__main__":
    main()
