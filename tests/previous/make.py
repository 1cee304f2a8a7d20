"""Makes the artefacts of the previous release that `tests/test_previous.py` opens and continues.

They lie in `made.tar.xz` beside this file, as the code of commit 4208ff3 wrote them (whose modules
are imported here, not those of today), and what it then computed from them in `expected.json`. To
make both again, with that code and no other:

    git worktree add OLD 4208ff3
    PYTHONPATH=OLD python tests/previous/make.py

All paths inside are relative to the directory that is packed, which was the working directory. The
images are SIMULATED: what `python -m data_pipelines.simulated` makes, and small crops of that.

    photos/                  photographs with EXIF, of one window each
    small/  labelled/        crops without EXIF, to fit a density to, and to tell apart
    records/  records_pixels/    schema 2: JPEG windows with a validation split, PNG windows
    unfinished/              records of which three of five parts were read; absolute paths of
                             photos begin with the word WORKDIR
    pretext/  binary/        runs of 8 steps, stopped after the checkpoint of step 4
    one_class/               finished: diagonal covariances, one or two components
    one_class_killed/        all done but the detector
    detectors/               of one-class runs with each of the other covariance types
    evaluation/              finished
"""

import os
import sys

# As in tests/conftest.py: the losses of as many devices, rounded alike.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["MPLBACKEND"] = "Agg"

import contextlib
import json
import runpy
import shutil
import tarfile
import tempfile
from itertools import islice
from pathlib import Path
from unittest import mock

import exif_jax.loop
import exif_jax.one_class
import numpy as np
from absl import flags
from data_pipelines.ingest.engines import LocalEngine
from exif_jax.detector import load_detector
from exif_jax.extractors import load_extractor
from ml_collections import config_flags
from PIL import Image

import exif_jax.cli
from data_pipelines.images import decode_image, find_images
from data_pipelines.pipeline import record_batches
from data_pipelines.records import open_records
from data_pipelines.simulated import make_dataset

OLD = Path(exif_jax.__file__).resolve().parents[1]
SIDE = 96  # of the crops
WORKDIR = "WORKDIR"  # stands for the directory that is packed where a path is absolute
BATCH = ["--config.batch_size=8", "--config.data.patches=2", "--config.data.threads=2"]
EVERY = ["--config.checkpoint_every=4", "--config.eval_every=4", "--config.log_every=1"]
MODEL = [
    "--config.model.width=2",
    "--config.model.stage_depths=(1, 1, 1)",
    "--config.model.mixer_heads=2",
    "--config.model.mixer_head_dim=4",
    "--config.model.mixer_hidden=8",
]
ONE_CLASS = ["--config=configs/one_class.py", "--config.extractor=pretext", "--config.steps=9"]
SMALL = [*ONE_CLASS, "--config.data.photos=small", "--config.pca=3"]
PREPARE = {
    "records": ["photos", "--validation-fraction=0.25"],
    "records_pixels": ["photos/00000.jpg", "photos/00001.jpg", "--encoding=pixels"],
    "unfinished": ["photos", "--validation-fraction=0.25"],
}
COMMANDS = {
    "pretext": [
        "--config=configs/pretext.py",
        "--config.data.photos=records",
        "--config.steps=8",
        "--config.optimizer.learning_rate=1e-3",
        *(MODEL + BATCH + EVERY),
    ],
    "one_class": [
        *ONE_CLASS,
        "--config.data.photos=records",
        "--config.num_components=1,2",
        "--config.covariance_type=diag",
    ],
    # Without principal components: states of EM know their data by its last bit, which a singular
    # value decomposition does not give on every machine.
    "one_class_killed": [
        *ONE_CLASS,
        "--config.data.photos=small",
        "--config.num_components=1,2",
        "--config.covariance_type=full",
    ],
    "full": [*SMALL, "--config.num_components=2"],
    "ledoit_wolf": [*SMALL, "--config.num_components=1", "--config.shrinkage=ledoit_wolf"],
    "tied": [*SMALL, "--config.num_components=2", "--config.covariance_type=tied"],
    "spherical": [*SMALL, "--config.num_components=2", "--config.covariance_type=spherical"],
    "low_rank": [
        *ONE_CLASS,
        "--config.data.photos=small",
        "--config.num_components=1",
        "--config.covariance_type=low_rank",
        "--config.rank=2",
        "--config.precision=float32",
    ],
    "binary": [
        "--config=configs/binary.py",
        "--config.extractor=pretext",
        "--config.data.images=labelled",
        "--config.data.validation_fraction=0.34",
        "--config.steps=8",
        # Other optimizer states than those of the pretext run.
        "--config.optimizer.schedule=cosine",
        "--config.optimizer.warmup_steps=2",
        "--config.optimizer.clip_norm=1.0",
        *(BATCH + EVERY),
    ],
    "evaluation": [
        "--config=configs/evaluation.py",
        "--config.detectors=one_class/detector,binary/detector",
        "--config.data.images=labelled",
        "--config.perturbations=none,resize:0.75",
    ],
}


def make_images() -> None:
    """Photos as simulated, and crops of simulated photos and generated images."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "simulated"
        make_dataset(made, photos=34, labelled=6, test=0, workers=0)
        shutil.copy(made / "SIMULATED.txt", ".")
        photos = find_images([made / "photos"])
        Path("photos").mkdir()
        Path("small").mkdir()
        for path in photos[:10]:
            shutil.copy(path, "photos")
        for path in photos[10:]:
            crop(path, Path("small") / path.name)
        for path in find_images([made / "labelled"]):
            crop(path, Path("labelled") / path.parent.name / f"{path.stem}.png")


def crop(source: Path, target: Path) -> None:
    """The upper left corner, without EXIF."""
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(decode_image(source)[:SIDE, :SIDE]).save(target, quality=95)


def prepare(out: str) -> None:
    """`exif-jax prepare`."""
    words = ["prepare", *PREPARE[out], "--windows-per-photo=1", "--workers=1", f"--out={out}"]
    status = exif_jax.cli.main(words)
    assert status == (130 if out == "unfinished" else 0)


def prepare_half() -> None:
    """Interrupts `exif-jax prepare` after three parts."""
    whole = LocalEngine.make_parts

    def some(self, workspace, parts, options):
        assert len(parts) == 5
        whole(self, workspace, parts[:3], options)
        raise KeyboardInterrupt

    with mock.patch.object(LocalEngine, "make_parts", some):
        prepare("unfinished")
    for todo in Path("unfinished").rglob("*.todo"):  # absolute paths of the photos to read
        todo.write_text(todo.read_text().replace(str(Path.cwd()), WORKDIR))


def run(program: str, name: str, workdir: str) -> None:
    """`python PROGRAM.py COMMAND --workdir=WORKDIR`, in this process."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values)
    words = ["", *(word.replace("configs/", f"{OLD}/configs/") for word in COMMANDS[name])]
    with mock.patch.object(sys, "argv", words):  # where the flag looks for its overrides
        values(words)
    runpy.run_path(str(OLD / f"{program}.py"))["main"](values.config, Path(workdir))


@contextlib.contextmanager
def stopped_after_the_first_checkpoint():
    """Ends a run as Ctrl-C would."""
    whole = exif_jax.loop.Checkpoints.save

    def save(self, step, state, data):
        whole(self, step, state, data)
        assert step == 4
        raise KeyboardInterrupt

    with (
        mock.patch.object(exif_jax.loop.Checkpoints, "save", save),
        contextlib.suppress(KeyboardInterrupt),
    ):
        yield


def make() -> None:
    """Everything, in the working directory."""
    make_images()
    for out in ("records", "records_pixels"):
        prepare(out)
    prepare_half()
    with stopped_after_the_first_checkpoint():
        run("train", "pretext", "pretext")
    run("train", "one_class", "one_class")
    with (
        mock.patch.object(exif_jax.one_class, "save_detector", side_effect=KeyboardInterrupt),
        contextlib.suppress(KeyboardInterrupt),
    ):
        run("train", "one_class_killed", "one_class_killed")
    for name in ("full", "ledoit_wolf", "tied", "spherical", "low_rank"):
        run("train", name, f"runs/{name}")
        shutil.move(f"runs/{name}/detector", f"detectors/{name}")
    shutil.rmtree("runs")
    with stopped_after_the_first_checkpoint():
        run("train", "binary", "binary")
    run("eval", "evaluation", "evaluation")
    for name in ("tensorboard", "plots"):
        for folder in Path().rglob(name):
            shutil.rmtree(folder)
    for image in Path().glob("*/*.png"):  # curves, the plot of the candidates
        if image.parent.name not in ("photos", "small"):
            image.unlink()


def corners(image: np.ndarray) -> np.ndarray:
    """Four patches [4, 64, 64, 3]."""
    return np.stack([image[y : y + 64, x : x + 64] for y in (0, 32) for x in (0, 32)])


def batches(name: str) -> list[dict]:
    """The first batches of records: what is in them, of every window some pixels."""
    records = open_records(Path(name))
    return [
        {
            "path": batch["path"].tolist(),
            "group": batch["group"].tolist(),
            "targets": [[None if np.isnan(x) else float(x) for x in y] for y in batch["targets"]],
            "pixels": batch["image"][:, ::64, ::64].tolist(),
        }
        for batch in islice(record_batches(records, "train", 8, 0, 1), 2)
    ]


def rows(workdir: str) -> list[dict]:
    """Lines of metrics.jsonl."""
    return [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]


def numbers() -> dict:
    """What the old code says of the artefacts; continues the runs."""
    images = [decode_image(path) for path in find_images([Path("labelled")])]
    detectors = ["one_class", "binary", *map(str, sorted(Path("detectors").iterdir()))]
    extractor = load_extractor("pretext")
    features, intermediates = extractor(np.stack([corners(image) for image in images[:2]]))
    expected = {
        "commands": COMMANDS,
        "prepare": PREPARE,
        "batches": {name: batches(name) for name in ("records", "records_pixels")},
        "targets": {
            name: json.loads((Path(name) / "targets.json").read_text())
            for name in ("records", "records_pixels")
        },
        "features": np.asarray(features).tolist(),
        "intermediate_means": {k: float(np.mean(v)) for k, v in intermediates.items()},
        "scores": {name: load_detector(name).score(images).tolist() for name in detectors},
        "thresholds": {name: load_detector(name).threshold for name in detectors},
    }
    continued = ("one_class_killed", "binary", "pretext")  # last what the others start from
    for name in continued:
        run("train", name, name)
    expected["continued"] = {name: rows(name) for name in continued}
    scores = load_detector("one_class_killed").score(images)
    expected["scores"]["one_class_killed"] = scores.tolist()
    return expected


def unowned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """An entry of the archive without the names of who made it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main() -> None:
    """Makes the archive and the expected numbers."""
    here = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(Path(folder).resolve())
        make()
        with tarfile.open(here / "made.tar.xz", "w:xz", preset=9) as archive:
            archive.add(".", filter=unowned)
        expected = numbers()
    (here / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
