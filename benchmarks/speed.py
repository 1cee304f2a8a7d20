"""Speed of the input pipeline and the network on this machine.

python benchmarks/speed.py

What is compared takes turns within one run, and the ratios are of neighbouring turns, so that other
load on the machine disturbs them little. The table goes to the terminal and, with the machine and
the versions, to results/speed_DEVICE.json and .md beside this file. `--quick` checks the script
itself within a minute, with sizes whose numbers mean nothing. All images are simulated.
"""

import argparse
import dataclasses
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from PIL import Image
from speed_report import Row, describe_machine, rows_of, table, take_turns, write_results

from data_pipelines.images import PATCH, WINDOW
from data_pipelines.pipeline import record_batches
from data_pipelines.prepare.run import Options, prepare
from data_pipelines.records import Records, open_records
from data_pipelines.simulated import make_dataset
from exif_jax.config import OptimizerConfig, PretextConfig, PublishedEncoder, RecordsConfig
from exif_jax.detection.features import extract_features, feature_functions
from exif_jax.models.published import residual_convolution
from exif_jax.models.srm import srm_kernels
from exif_jax.stages.pretext import init_params, make_loss
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, replicate, shard
from exif_jax.training.step import initial_state, make_optimizer, map_train_step


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much is measured; counts of images are for each device.

    Attributes:
        rounds: turns that each side of a comparison takes.
        photos: simulated photos to decode.
        decoded: images decoded in a turn.
        batch: images of a pretext batch.
        patches: of each image of it.
        steps: pretext steps in a turn.
        images: 256x256 images whose features are computed in a turn.
        stem: patches through the stem in a turn.
        model: the network.
    """

    rounds: int
    photos: int
    decoded: int
    batch: int
    patches: int
    steps: int
    images: int
    stem: int
    model: PublishedEncoder


SIZES = {
    "cpu": Sizes(5, 64, 192, 16, 4, 1, 16, 64, PublishedEncoder()),
    "accelerator": Sizes(7, 64, 4096, 32, 16, 10, 2048, 512, PublishedEncoder()),
    "quick": Sizes(2, 8, 16, 2, 2, 1, 2, 2, PublishedEncoder(width=4, stage_depths=(1, 1, 1))),
}


def measure_input(sizes: Sizes, records: Records) -> list[Row]:
    """The Grain pipeline against a bare Pillow loop over the same PNG files, by threads."""
    source = records.source("train")
    pngs = [source[i]["image"] for i in range(len(source))]
    pngs = (pngs * (sizes.decoded // len(pngs) + 1))[: sizes.decoded]
    batch = min(sizes.batch, sizes.decoded)
    tasks: dict[str, Callable[[], Any]] = {}
    against = {}

    def bare(pool: ThreadPoolExecutor) -> None:
        for _ in pool.map(_decode, pngs):
            pass

    def pipeline(batches: Iterator[Any]) -> None:
        for _ in range(sizes.decoded // batch):
            next(batches)

    for threads in sorted({1, 2, os.cpu_count() or 1}):
        plural = "s" if threads > 1 else ""
        name = f"decode 256x256 PNG, Pillow alone, {threads} thread{plural}"
        tasks[name] = partial(bare, ThreadPoolExecutor(threads))
        grain = f"decode 256x256 PNG, Grain pipeline, {threads} thread{plural}"
        tasks[grain] = partial(pipeline, iter(record_batches(records, "train", batch, 0, threads)))
        against[grain] = name
    seconds = take_turns(tasks, sizes.rounds)
    images = sizes.decoded // batch * batch
    return rows_of(seconds, "images/s", lambda s: images / s, against)


def _decode(png: bytes) -> None:
    with Image.open(io.BytesIO(png)) as image:
        np.asarray(image)


def measure_pretext(sizes: Sizes, records: Records) -> list[Row]:
    """Whole training steps of the pretext stage on batches that are already on the devices."""
    mesh = data_mesh()
    images = sizes.batch * mesh.size
    batch = next(iter(record_batches(records, "train", images, 0, 1)))
    batch.pop("path")
    batch = shard(batch, mesh)
    on_accelerator = jax.default_backend() != "cpu"
    tasks: dict[str, Callable[[], Any]] = {}
    against = {}

    def train(step: Callable[..., Any], holder: list[Any], key: Array) -> Any:
        for _ in range(sizes.steps):
            holder[0], metrics = step(holder[0], {}, batch, key)
        return metrics["loss"]

    for dtype in ("float32", "bfloat16") if on_accelerator else ("float32",):
        name = f"pretext training, {sizes.patches} patches an image, {dtype}"
        model = dataclasses.replace(sizes.model, dtype=dtype)
        extractor = model.build()
        config = PretextConfig(model=model, data=RecordsConfig(patches=sizes.patches))
        optimizer = make_optimizer(OptimizerConfig(), steps=1)
        params = init_params(extractor, records.targets, jax.random.key(0))
        step = map_train_step(make_loss(extractor, records.targets, config), optimizer, mesh)
        state = replicate(initial_state(params, optimizer), mesh)
        tasks[name] = partial(train, step, [state], replicate(jax.random.key(1), mesh))
        if dtype != "float32":
            against[name] = next(iter(tasks))
    seconds = take_turns(tasks, sizes.rounds)
    return rows_of(seconds, "images/s", lambda s: images * sizes.steps / s, against)


def measure_features(sizes: Sizes) -> list[Row]:
    """Features of images in host memory."""
    mesh = data_mesh()
    count = sizes.images * mesh.size
    images = np.random.default_rng(0).integers(256, size=(count, WINDOW, WINDOW, 3), dtype=np.uint8)
    extractor = sizes.model.build()
    shape = (1, 1, PATCH, PATCH, 3)
    params = replicate(jax.jit(extractor.init)(jax.random.key(0), jnp.zeros(shape))["params"], mesh)
    task = partial(extract_features, feature_functions(extractor, mesh), params, images)
    seconds = take_turns({"features of 256x256 images, 16 patches, float32": task}, sizes.rounds)
    return rows_of(seconds, "images/s", lambda s: count / s)


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


def measure_stem(sizes: Sizes) -> list[Row]:
    """One 7x7 pass, with its border corrections, against filters and convolution in two steps."""
    mesh = data_mesh(jax.devices()[:1])
    rng = np.random.default_rng(0)
    x = shard(rng.normal(size=(sizes.stem, PATCH, PATCH, 3)).astype(np.float32), mesh)
    kernel = replicate(rng.normal(size=(3, 3, 90, sizes.model.width)).astype(np.float32), mesh)
    forms = {"one 7x7 pass": residual_convolution, "two steps": two_step_stem}
    rows = []
    for direction in ("forward", "forward and backward"):
        tasks = {}
        for name, form in reversed(forms.items()):

            def run(x: Array, kernel: Array, form: Any = form, direction: str = direction) -> Array:
                if direction == "forward":
                    return form(x, kernel)
                out, backward = jax.vjp(partial(form, x), kernel)
                return backward(out)[0]

            mapped = over_devices(run, mesh, (SHARDED, REPLICATED), SHARDED)
            tasks[f"stem as {name}, {direction}"] = partial(mapped, x, kernel)
        reference, compared = tasks
        seconds = take_turns(tasks, sizes.rounds)
        rows += rows_of(seconds, "patches/s", lambda s: sizes.stem / s, {compared: reference})
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Measures everything, prints the table and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check the script")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results", help="folder of results"
    )
    options = parser.parse_args(argv)
    machine = describe_machine()
    kind = "cpu" if machine["platform"] == "cpu" else "accelerator"
    sizes = SIZES["quick" if options.quick else kind]
    with tempfile.TemporaryDirectory() as folder:
        print("simulating and preparing photos ...", flush=True)
        make_dataset(
            Path(folder, "data"),
            photos=sizes.photos,
            labelled=0,
            test=0,
            workers=0 if options.quick else os.cpu_count() or 0,
        )
        prepare(
            [Path(folder, "data", "photos")],
            Path(folder, "records"),
            Options(validation_fraction=0.0),
        )
        records = open_records(Path(folder, "records"))
        measurements: dict[str, Callable[[], list[Row]]] = {
            "input pipeline": lambda: measure_input(sizes, records),
            "pretext training": lambda: measure_pretext(sizes, records),
            "features": lambda: measure_features(sizes),
            "stem": lambda: measure_stem(sizes),
        }
        rows = []
        for name, measure in measurements.items():
            print(f"measuring: {name} ...", flush=True)
            rows += measure()
    text = table(rows, machine, options.quick)
    print(f"\n{text}")
    results = {
        "quick": options.quick,
        "machine": machine,
        "sizes": dataclasses.asdict(sizes),
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    path = write_results(options.out, "speed", f"# Speed\n\n{text}\n", machine, results)
    print(f"\nwritten: {path}.md and .json")


if __name__ == "__main__":
    main()
