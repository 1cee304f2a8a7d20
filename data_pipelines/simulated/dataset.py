"""Makes a simulated data set on disk."""

import contextlib
import json
import multiprocessing
import os
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_pipelines.command_line import not_interrupted
from data_pipelines.errors import UserError
from data_pipelines.files import replacing_directory, write_json
from data_pipelines.simulated.camera import photograph
from data_pipelines.simulated.cameras import CAMERAS
from data_pipelines.simulated.exif_writer import write_exif
from data_pipelines.simulated.exposure import choose_settings
from data_pipelines.simulated.generators import FAMILIES, generate
from data_pipelines.simulated.plan import Order, make_plan
from data_pipelines.simulated.scenes import sample_scene

ARGUMENTS_FILE = "simulated.json"
# Raise it when the same arguments would give other pictures.
SIMULATION_VERSION = 1

_NOTICE = """\
SIMULATED IMAGES

Nothing here was taken by a camera or made by an image generator. The "photographs" come from a
small physical model of photography (scene, lens, sensor, processing, JPEG) and carry EXIF that
matches its settings; makers and models are invented. The "generated" images are the same kind of
scenes drawn by small fixed decoders. Detectors trained on them say nothing about real images: they
are for demonstrations and tests.

photos/                             photographs with EXIF
labelled/train/SET/0_real, 1_fake   to train a detector; no EXIF, same sizes and JPEG settings
labelled/test/FAMILY/0_real, 1_fake one test set a generator family; other camera bodies and scenes;
                                    FAMILY_unseen is in no training set
images.jsonl                        one line an image: what it is
simulated.json                      the arguments it was made with
"""


def make_dataset(
    out: str | os.PathLike[str],
    *,
    photos: int = 400,
    labelled: int = 150,
    test: int = 60,
    seed: int = 0,
    workers: int = 0,
) -> bool:
    """Makes simulated photographs and generated images, or leaves a finished set as it is.

    The pictures depend on the seed and the counts only, not on the number of workers.

    Args:
        out: folder to make; appears complete or not at all.
        photos: photographs with EXIF, in `photos`.
        labelled: images per class in `labelled/train`.
        test: images per class of every test set in `labelled/test`.
        seed: of the whole set, non-negative.
        workers: processes; 0 works in this one. Others are spawned, so a script that calls this
            with workers needs its `if __name__ == "__main__"`.

    Returns:
        True if the set was made, False if `out` already held it.

    Raises:
        UserError: a count is negative or all are zero, or `out` holds something else.
    """
    counts = {"photos": photos, "labelled": labelled, "test": test}
    for name, value in {**counts, "seed": seed, "workers": workers}.items():
        if value < 0:
            raise UserError(f"{name} is {value}: give zero or more.")
    if not any(counts.values()):
        raise UserError("photos, labelled and test are all zero: ask for at least one image.")
    arguments = {"simulation_version": SIMULATION_VERSION, **counts, "seed": seed}
    target = Path(out)
    if _is_finished(target, arguments):
        return False
    with replacing_directory(target) as unfinished:
        _make_images(unfinished, make_plan(photos, labelled, test, seed), workers)
        (unfinished / "SIMULATED.txt").write_text(_NOTICE)
        write_json(unfinished / ARGUMENTS_FILE, arguments)
    return True


def _is_finished(target: Path, arguments: dict[str, int]) -> bool:
    """Whether the folder holds just this data set; an error if it holds anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    try:
        found = json.loads((target / ARGUMENTS_FILE).read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{target} exists and is not a simulated data set: choose another --out."
        ) from None
    if found != arguments:
        raise UserError(
            f"{target} holds a simulated data set made with {found}, not {arguments}: "
            "choose another --out or remove it."
        )
    return True


def _make_images(root: Path, orders: list[Order], workers: int) -> None:
    for folder in {(root / path).parent for order in orders for path in _paths(order)}:
        folder.mkdir(parents=True)
    with (
        contextlib.closing(_fulfil_all(root, orders, workers)) as done,
        (root / "images.jsonl").open("w") as lines,
    ):
        for rows in tqdm(done, total=len(orders), desc="simulated images", mininterval=0.5):
            lines.writelines(json.dumps(row) + "\n" for row in rows)


def _paths(order: Order) -> list[str]:
    return [path for path in (order.path, order.generated_path) if path is not None]


def _fulfil_all(
    root: Path, orders: list[Order], workers: int
) -> Generator[list[dict[str, str | int]]]:
    if workers == 0:
        yield from (fulfil(root, order) for order in orders)
        return
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            with not_interrupted():
                done = pool.map(fulfil, [root] * len(orders), orders, chunksize=4)
            yield from done
        except BaseException:  # nothing of it is kept: do not wait for what they are at
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()
            raise


def fulfil(root: Path, order: Order) -> list[dict[str, str | int]]:
    """Makes and writes the picture, or the pair of pictures, of one order; describes each.

    The generated image of a pair shows another scene; it takes over the photograph's size, JPEG
    settings, mean colour, contrast and, nearly, file size.
    """
    camera = CAMERAS[order.camera]
    scene_rng = np.random.default_rng(order.scene_seed)
    noise_rng = np.random.default_rng(order.noise_seed)
    scene = sample_scene(scene_rng, camera.sensor.shape, order.partition)
    settings = choose_settings(scene_rng, camera, scene)
    photo = photograph(noise_rng, scene, camera, order.body, settings)
    exif = write_exif(noise_rng, camera, settings, order.taken) if order.taken else b""
    (root / order.path).write_bytes(camera.jpeg.encode(photo, exif))
    rows: list[dict[str, str | int]] = [
        {"path": order.path, "camera": camera.model, "body": order.body}
    ]
    if order.generated_path is not None:
        family = FAMILIES[order.family]
        other_scene = sample_scene(noise_rng, camera.sensor.shape, order.partition)
        image = generate(noise_rng, other_scene, family, photo, camera.jpeg)
        (root / order.generated_path).write_bytes(camera.jpeg.encode(image))
        rows.append({"path": order.generated_path, "family": family.name})
    return rows
