"""What a simulated data set consists of: every picture, decided before any is made.

A plan is a list of small, picklable orders. Each carries its own seed, so that the pictures do not
depend on how many processes make them, or in which order.
"""

import dataclasses
import datetime

import numpy as np

from data_pipelines.simulated.cameras import CAMERAS
from data_pipelines.simulated.generators import FAMILIES
from data_pipelines.simulated.scenes import Partition

TRAINING_BODIES = (0, 1, 2)
TEST_BODIES = (3, 4)
TRAINING_SET = "simulated"

_FIRST_EXPOSURE = datetime.datetime(2021, 3, 1, 9)
_BURST_ODDS = 0.04
_BURST_LENGTH = 3

# Separates the random streams of the three parts of a data set.
_PHOTOS, _TRAIN, _TEST = range(3)


@dataclasses.dataclass(frozen=True)
class Order:
    """One picture, or a matched pair of pictures, to make.

    Attributes:
        path: photograph, relative to the data set.
        camera: index into CAMERAS.
        body: specimen of the camera.
        partition: which scenes it may show.
        scene_seed: seed of scene and settings; the photographs of a burst share it.
        noise_seed: seed of everything else.
        taken: time of the exposure; None for a picture without EXIF.
        generated_path: the generated counterpart, or None.
        family: index into FAMILIES of the counterpart.
    """

    path: str
    camera: int
    body: int
    partition: Partition
    scene_seed: tuple[int, ...]
    noise_seed: tuple[int, ...]
    taken: datetime.datetime | None = None
    generated_path: str | None = None
    family: int = 0


def make_plan(photos: int, labelled: int, test: int, seed: int) -> list[Order]:
    """Orders for a whole data set, each with paths of its own; see `dataset.make_dataset`."""
    known = [i for i, family in enumerate(FAMILIES) if not family.held_out]
    orders = _photo_orders(photos, seed)
    folder = f"labelled/train/{TRAINING_SET}"
    orders += [_pair(folder, i, known[i % len(known)], _TRAIN, seed) for i in range(labelled)]
    for number, family in enumerate(FAMILIES):
        folder = f"labelled/test/{family.name}" + ("_unseen" if family.held_out else "")
        orders += [_pair(folder, i, number, _TEST, seed) for i in range(test)]
    return orders


def _photo_orders(photos: int, seed: int) -> list[Order]:
    """Photographs in the order of their time: minutes to days apart, and some bursts."""
    rng = np.random.default_rng([seed, _PHOTOS])
    orders: list[Order] = []
    taken, left_in_burst = _FIRST_EXPOSURE, 0
    for i in range(photos):
        if left_in_burst:
            left_in_burst -= 1
            taken += datetime.timedelta(seconds=1)
            previous = orders[-1]
            camera, body, scene_seed = previous.camera, previous.body, previous.scene_seed
        else:
            # From ten minutes to four days, evenly in the logarithm.
            taken += datetime.timedelta(
                minutes=float(np.exp(rng.uniform(np.log(10), np.log(5760))))
            )
            camera = int(rng.integers(len(CAMERAS)))
            body = int(rng.choice(TRAINING_BODIES))
            scene_seed = (seed, _PHOTOS, 0, i)
            left_in_burst = _BURST_LENGTH - 1 if rng.random() < _BURST_ODDS else 0
        orders.append(
            Order(
                path=f"photos/{i:05d}.jpg",
                camera=camera,
                body=body,
                partition="train",
                scene_seed=scene_seed,
                noise_seed=(seed, _PHOTOS, 1, i),
                taken=taken,
            )
        )
    return orders


def _pair(folder: str, i: int, family: int, part: int, seed: int) -> Order:
    stream = (seed, part, family, i)
    rng = np.random.default_rng(stream)
    return Order(
        path=f"{folder}/0_real/{i:05d}.jpg",
        camera=int(rng.integers(len(CAMERAS))),
        body=int(rng.choice(TRAINING_BODIES if part == _TRAIN else TEST_BODIES)),
        partition="train" if part == _TRAIN else "test",
        scene_seed=(*stream, 0),
        noise_seed=(*stream, 1),
        generated_path=f"{folder}/1_fake/{i:05d}.jpg",
        family=family,
    )
