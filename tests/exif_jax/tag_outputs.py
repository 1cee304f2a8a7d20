"""Outputs for photos of which some lack tags, for the tests of losses and of validation."""

import numpy as np

from data_pipelines.targets import Target

TARGETS = (
    Target("ISO", "ranked"),
    Target("Make", "categorical", ("Norden", "Kestrel", "other")),
    Target("FocalLength", "ranked"),
    Target("Flash", "categorical", ("on", "off")),
)
PHOTOS = 8


def outputs_and_labels():
    """FocalLength and Flash are missing everywhere; ISO and Make are predicted perfectly."""
    labels = np.full((PHOTOS, 4), np.nan, np.float32)
    labels[:, 0] = np.arange(PHOTOS)
    labels[:6, 1] = [0, 1, 2, 0, 1, 1]
    outputs = {
        "ISO": np.arange(PHOTOS, dtype=np.float32)[:, None],
        "Make": 9 * np.eye(3, dtype=np.float32)[np.nan_to_num(labels[:, 1]).astype(int)],
        "FocalLength": np.arange(PHOTOS, dtype=np.float32)[::-1, None].copy(),
        "Flash": np.zeros((PHOTOS, 2), np.float32),
    }
    return outputs, labels
