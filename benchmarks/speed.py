"""Speed of the network on this machine: training steps, features, the stem.

python benchmarks/speed.py

`--quick` checks the script itself within a minute, with sizes whose numbers mean nothing. Results
go to results/speed_DEVICE.md and .json beside this file. All photos are SIMULATED. The speed of
reading photos is measured by prepare.py.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from measuring import Report, Table, add_row, command_line, comparison, progress, take_turns

from data_pipelines.images import PATCH, WINDOW
from data_pipelines.prepare.run import prepare
from data_pipelines.simulated import make_dataset
from exif_jax.config import PretextConfig, PublishedEncoder, RecordsConfig
from exif_jax.detection.features import extract_features
from exif_jax.models.extractor import init_extractor
from exif_jax.models.published import residual_convolution
from exif_jax.models.srm import srm_kernels
from exif_jax.stages import pretext
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, replicate, shard


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured; counts of images are for each device.

    Attributes:
        rounds: turns that each side of a comparison takes.
        batch: images of a pretext batch.
        patches: of each image of it.
        steps: pretext steps in a turn.
        images: 256x256 images whose features are computed in a turn.
        stem: patches through the stem in a turn.
        model: the network.
    """

    rounds: int
    batch: int
    patches: int
    steps: int
    images: int
    stem: int
    model: PublishedEncoder


SIZES = {
    "cpu": Sizes(5, 16, 4, 1, 16, 64, PublishedEncoder()),
    "accelerator": Sizes(7, 32, 16, 10, 2048, 512, PublishedEncoder()),
    "quick": Sizes(2, 2, 2, 1, 2, 2, PublishedEncoder(width=4, stage_depths=(1, 1, 1))),
}


def training(model: PublishedEncoder, photos: Path, sizes: Sizes) -> Callable[[], Any]:
    """Takes `sizes.steps` whole training steps on a batch that is already on the devices."""
    config = PretextConfig(
        model=model,
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


def features(sizes: Sizes) -> Callable[[], np.ndarray]:
    """Computes the features of images in host memory."""
    mesh = data_mesh()
    shape = (sizes.images * mesh.size, WINDOW, WINDOW, 3)
    images = np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)
    extractor = sizes.model.build()
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


def stem(form: Callable[..., Array], backward: bool, sizes: Sizes) -> Callable[[], Array]:
    """One form of the stem, forward or forward and backward, on one device."""
    mesh = data_mesh(jax.devices()[:1])
    rng = np.random.default_rng(0)
    x = shard(rng.normal(size=(sizes.stem, PATCH, PATCH, 3)).astype(np.float32), mesh)
    kernel = replicate(rng.normal(size=(3, 3, 90, sizes.model.width)).astype(np.float32), mesh)

    def run(x: Array, kernel: Array) -> Array:
        out, pull = jax.vjp(partial(form, x), kernel)
        return pull(out)[0] if backward else out

    return partial(over_devices(run, mesh, (SHARDED, REPLICATED), SHARDED), x, kernel)


def measure(
    table: Table, sizes: Sizes, unit: str, count: int, tasks: dict[str, Callable[[], Any]]
) -> None:
    """Adds the speed of tasks that take turns, each compared with the first one."""
    progress(f"measuring: {', '.join(tasks)} ...")
    seconds = take_turns(tasks, sizes.rounds)
    reference = next(iter(tasks))
    for name, times in seconds.items():
        ratios = () if name == reference else seconds[reference] / times
        add_row(table, name, unit, count / times, ratios)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the table and writes the results."""
    report = Report("speed", "Speed", command_line(__doc__).parse_args(argv), SIZES)
    sizes = report.sizes
    dtypes = ("float32",) if jax.default_backend() == "cpu" else ("float32", "bfloat16")
    table = comparison("Network", "times as fast as the first line of its kind")
    with tempfile.TemporaryDirectory() as folder:
        progress("simulating and preparing photos ...")
        images = sizes.batch * jax.device_count()
        # A tenth is held out.
        make_dataset(Path(folder, "data"), photos=2 * images + 8, labelled=0, test=0)
        prepared = Path(folder, "records")
        prepare([Path(folder, "data", "photos")], prepared)
        tasks: dict[str, Callable[[], Any]] = {
            f"pretext training, {sizes.patches} patches an image, {dtype}": training(
                dataclasses.replace(sizes.model, dtype=dtype), prepared, sizes
            )
            for dtype in dtypes
        }
        measure(table, sizes, "images/s", images * sizes.steps, tasks)
    count = sizes.images * jax.device_count()
    name = "features of 256x256 images, 16 patches, float32"
    measure(table, sizes, "images/s", count, {name: features(sizes)})
    for direction in ("forward", "forward and backward"):
        forms = {"two steps": two_step_stem, "one 7x7 pass": residual_convolution}
        stems = {
            f"stem as {name}, {direction}": stem(form, direction != "forward", sizes)
            for name, form in forms.items()
        }
        measure(table, sizes, "patches/s", sizes.stem, stems)
    report.add(table)


if __name__ == "__main__":
    main()
