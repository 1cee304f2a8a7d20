"""Versions of an image: which part of it, and what happens to that part before it is described.

What is drawn depends on the seed, the image's bytes and the number of the version alone, so it does
not change with the order of the images, their number or the machine.
"""

from dataclasses import dataclass

import numpy as np

from data_pipelines.augmentation import draw_chain, perturbed_window
from data_pipelines.images import random_window
from data_pipelines.perturbations import NO_PERTURBATION, parse_perturbation


@dataclass(frozen=True)
class Version:
    """One version of an image.

    Attributes:
        cut: `central` or `random` window of at most 256x256, or `whole`: nothing is cut off.
        chain: what was drawn to happen to a random window.
        prepare: what happens to every version of every image, last.
        draw: seed, image and number, from which the chain and all places of cuts are drawn.
    """

    cut: str
    chain: str = NO_PERTURBATION.name
    prepare: str = NO_PERTURBATION.name
    draw: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """All of it, for comparing and for people."""
        drawn = f" {self.draw[0]}/{self.draw[-1]}" if self.draw else ""
        return f"{self.cut}{drawn} {self.chain} {self.prepare}"

    def of(self, image: np.ndarray) -> np.ndarray:
        """Makes it of an image, uint8 [H, W, 3]."""
        if self.cut == "whole":
            return parse_perturbation(self.prepare).apply(image)
        if self.cut == "central":
            return perturbed_window(random_window(image, None), self.prepare)
        rng = np.random.default_rng(self.draw)
        draw_chain(rng)  # brings the generator to where it was
        window = perturbed_window(random_window(image, rng), self.chain, rng)
        return perturbed_window(window, self.prepare)


def draw_versions(content: bytes, augmented: int, seed: int, prepare: str) -> list[Version]:
    """Versions of an image: its central window unchanged, then augmented random windows.

    Args:
        content: digest of the image's bytes.
        augmented: number of versions beside the first.
        seed: of what is drawn.
        prepare: see `Version`.

    Raises:
        UserError: this Pillow lacks a codec that might be drawn.
    """
    versions = [Version("central", prepare=prepare)]
    for number in range(1, augmented + 1):
        draw = (seed, int.from_bytes(content[:8]), number)
        chain = draw_chain(np.random.default_rng(draw))
        versions.append(Version("random", chain, prepare, draw))
    return versions
