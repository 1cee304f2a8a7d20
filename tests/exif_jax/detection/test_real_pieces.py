"""Pieces of real photographs beside pieces of generated images, where the data are present."""

import jax
import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipelines.images import decode_image
from data_pipelines.perturbations import parse_perturbation
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection.detectors import load_detector, save_detector
from exif_jax.detection.features import extract_features
from exif_jax.models.extractor import init_extractor
from exif_jax.models.trained import LoadedExtractor

SIDE = 512
CELL = 256
EACH = 160  # windows of each class that are learned from


def equalised(path):
    """Both classes compressed alike, so that it is not the file that is told apart."""
    return parse_perturbation("jpeg:90").apply(decode_image(path))


def middle(image):
    top, left = ((side - SIDE) // 2 for side in image.shape[:2])
    return image[top : top + SIDE, left : left + SIDE]


def spread(paths, number):
    return [paths[i * len(paths) // number] for i in range(number)]


def test_a_spliced_picture_lights_up_on_its_generated_half(real_data, tmp_path):
    dev = real_data / "dev"
    pieces = {
        kind: sorted((dev / "full" / kind).iterdir())[:10] for kind in ("photos", "generated")
    }
    held_out = {path.name.split("__")[0] for paths in pieces.values() for path in paths}
    windows = []
    for kind in ("photos", "generated"):
        folders = [folder for folder in (dev / kind).iterdir() if folder.name not in held_out]
        found = sorted(path for folder in folders for path in folder.rglob("*.*"))
        windows += map(equalised, spread(found, EACH))

    # A linear feature of the fixed description, learned in closed form.
    model = ResidualCovarianceEncoder(features=1, hidden=())
    module = model.build()
    params = jax.tree.map(np.array, init_extractor(module, jax.random.key(0)))
    size = len(params["centre"])
    describing = ResidualCovarianceEncoder(features=size, hidden=()).build()
    identity = {"kernel": np.eye(size, dtype=np.float32), "bias": np.zeros(size, np.float32)}
    wide = {"centre": np.zeros(size, np.float32), "scale": np.full(size, 0.05, np.float32)}
    descriptions = 20 * extract_features(describing, wide | {"feature": identity}, windows)
    params = module.standardise(params, descriptions)
    x = np.clip((descriptions - params["centre"]) * params["scale"], -4, 4)
    labels = np.repeat([0, 1], EACH)
    fitted = make_pipeline(
        StandardScaler(with_std=False), PCA(48, random_state=0), LogisticRegression(C=0.01)
    ).fit(x, labels)
    zero = np.zeros((1, size))
    offset = fitted.decision_function(zero)
    kernel = fitted.decision_function(np.eye(size)) - offset
    params["feature"] = {
        "kernel": kernel[:, None].astype(np.float32),
        "bias": offset.astype(np.float32),
    }
    head = {"kernel": np.array([[0, 1]], np.float32), "bias": np.zeros(2, np.float32)}
    extractor = LoadedExtractor(module, params, model, {}, (), tmp_path)
    save_detector(tmp_path / "d", "binary", 0.5, extractor, {"head": {"fc": head}}, {})
    detector = load_detector(tmp_path / "d")

    higher = []
    for photo, generated in zip(*pieces.values(), strict=True):
        halves = [middle(equalised(path)) for path in (photo, generated)]
        scores, cells = detector.cells(np.concatenate(halves, axis=1))
        lefts = np.array(cells.lefts)
        left, right = scores[:, lefts + CELL <= SIDE], scores[:, lefts >= SIDE]
        higher.append(right.mean() > left.mean())
    # 8 of 10 when this was written: a few hundred windows make a weak detector.
    assert np.mean(higher) >= 0.7, higher
