"""What the targets damage, made once a process: photos, records, an extractor, detectors."""

import atexit
import contextlib
import functools
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.fuzzing.target import Case


@functools.cache
def _home() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzzing."))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def simulated() -> Path:
    """Simulated photos in photos/, labelled images in labelled/train/."""
    from data_pipelines.simulated import make_dataset

    with _silent():
        make_dataset(_home() / "data", photos=16, labelled=6, test=0)
    return _home() / "data"


@functools.cache
def records() -> Path:
    """The photos, prepared."""
    from data_pipelines.prepare.run import Options, prepare

    with _silent():
        options = Options(validation_fraction=0.25)
        prepare([simulated() / "photos"], _home() / "records", options, workers=1)
    return _home() / "records"


@functools.cache
def extractor() -> Path:
    """An untrained extractor with 10 features."""
    import jax

    from data_pipelines.records import open_records
    from exif_jax.config import PretextConfig, PublishedEncoder
    from exif_jax.models.trained import save_extractor
    from exif_jax.objectives import build_objectives
    from exif_jax.stages.pretext import init_params

    model = PublishedEncoder(
        width=4, stage_depths=(1, 1, 1), mixer_heads=2, mixer_head_dim=4, mixer_hidden=8
    )
    targets = open_records(records()).targets
    objectives = build_objectives(targets, PretextConfig())
    params = init_params(model.build(), objectives, jax.random.key(0))
    save_extractor(_home() / "extractor", params, model, targets, {"kind": "pretext"})
    return _home() / "extractor"


@functools.cache
def detector() -> Path:
    """A binary one that tells noise from calm."""
    from tests.exif_jax.noise_detector import write_noise_detector

    return write_noise_detector(_home() / "noise" / "detector")


@functools.cache
def one_class_detector() -> Path:
    """A mixture over a projection of the extractor's features, with a calibration."""
    from exif_jax.detection.detectors import save_detector
    from exif_jax.models.trained import load_extractor

    rng = np.random.default_rng(5)
    arrays = {
        "projection": {"mean": rng.normal(size=10), "matrix": rng.normal(size=(10, 3))},
        "gmm": {
            "weights": np.array([0.25, 0.75]),
            "means": rng.normal(size=(2, 3)),
            "precisions_cholesky": np.triu(rng.normal(size=(2, 3, 3))) + 3 * np.eye(3),
        },
        "calibration": {"log_density": np.sort(rng.normal(size=20))},
    }
    folder = _home() / "one_class" / "detector"
    save_detector(folder, "one_class", 0.5, load_extractor(extractor()), arrays, {})
    return folder


@functools.cache
def labelled() -> Path:
    """Two test sets of small pictures."""
    from PIL import Image

    from tests.exif_jax.noise_detector import CALM, NOISY, picture

    for top in ("a", "b"):
        for kind, deviation in (("0_real", NOISY), ("1_fake", CALM)):
            folder = _home() / "labelled" / top / kind
            folder.mkdir(parents=True)
            for index in range(4):
                Image.fromarray(picture(deviation, 64, 64, index)).save(folder / f"{index}.png")
    return _home() / "labelled"


@functools.cache
def pictures() -> Path:
    """Three small pictures, for commands that judge some."""
    from PIL import Image

    from tests.exif_jax.noise_detector import CALM, NOISY, picture

    folder = _home() / "pictures"
    folder.mkdir()
    for index, deviation in enumerate((CALM, NOISY, NOISY)):
        Image.fromarray(picture(deviation, 64, 64, index)).save(folder / f"{index}.png")
    return folder


@functools.cache
def checkpoint() -> Path:
    """Random weights in the layout of a released pretext checkpoint."""
    from exif_jax.models.released import _pretext_table
    from tests.exif_jax.conftest import random_weights

    np.savez(_home() / "weights.npz", **random_weights(_pretext_table()))
    return _home() / "weights.npz"


@functools.cache
def files_of(folder: Path) -> Case:
    """The files below a folder by their relative paths."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def put_files(case: Case, folder: Path) -> None:
    """Writes files by their relative paths; the opposite of `files_of`."""
    for name, content in case.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
