"""The stages on an encoder with a fixed description: trained on what is kept, used on images."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from data_pipelines.errors import UserError
from data_pipelines.images import decode_image, find_images, random_window
from data_pipelines.perturbations import parse_perturbation
from data_pipelines.photo_sources import ImageSource, record_images
from data_pipelines.records import open_records
from exif_jax.config import (
    BinaryConfig,
    LabelledConfig,
    ObjectivesConfig,
    OneClassConfig,
    OptimizerConfig,
    PhotosConfig,
    PretextConfig,
    RecordsConfig,
    ResidualCovarianceEncoder,
)
from exif_jax.detection import descriptions
from exif_jax.detection.descriptions import Describer
from exif_jax.detection.detectors import load_detector
from exif_jax.detection.features import features_of
from exif_jax.models.trained import load_extractor
from exif_jax.objectives import ImageObjective
from exif_jax.stages import binary, one_class, pretext
from exif_jax.training.mapping import data_mesh, to_host
from exif_jax.training.telemetry import MEASURED

ROOT = Path(__file__).resolve().parents[3]
PREPARE = "jpeg:90"


def pretext_config(records, kept, **fields):
    return PretextConfig(
        batch_size=8,
        log_every=1,
        model=ResidualCovarianceEncoder(features=6, hidden=(5,), dropout=0.25),
        data=RecordsConfig(
            str(records), threads=2, versions=2, prepare=PREPARE, descriptions=str(kept)
        ),
        optimizer=OptimizerConfig("adamw", 1e-3, weight_decay=0.01, ema=0.9),
        **({"steps": 4, "checkpoint_every": 2, "eval_every": 2} | fields),
    )


def binary_config(extractor, images, kept, **fields):
    return BinaryConfig(
        extractor=str(extractor),
        batch_size=8,
        log_every=1,
        data=LabelledConfig(
            str(images), threads=2, validation_fraction=0.34, versions=2, descriptions=str(kept)
        ),
        **({"steps": 4, "checkpoint_every": 2, "eval_every": 2} | fields),
    )


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def pretext_run(records, kept, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("residual_pretext") / "run"
    pretext.run(pretext_config(records, kept), workdir)
    return workdir


@pytest.fixture(scope="module")
def labelled(simulated):
    return simulated / "labelled" / "train"


@pytest.fixture(scope="module")
def binary_run(pretext_run, labelled, kept, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("residual_binary") / "run"
    binary.run(binary_config(pretext_run, labelled, kept), workdir)
    return workdir


def metrics(run):
    """Lines of metrics.jsonl, without what is measured anew each time that steps are done."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: x for name, x in row.items() if name not in MEASURED} for row in lines]


def arrays(directory):
    return load_file(directory / "model.safetensors")


def assert_close(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], err_msg=name, **tolerance)


def central(path):
    return parse_perturbation(PREPARE).apply(random_window(decode_image(path), None))


def test_the_exported_extractor_computes_the_features_of_kept_descriptions(
    pretext_run, records, kept
):
    extractor = load_extractor(pretext_run)
    assert extractor.prepare == PREPARE
    photos = record_images(open_records(records), "validation")
    described = Describer(extractor.module, kept, PREPARE).windows(photos)
    prepared = [parse_perturbation(PREPARE).apply(photo.read()) for photo in photos]
    patches = np.stack(
        [x.reshape(4, 64, 4, 64, 3).swapaxes(1, 2).reshape(-1, 64, 64, 3) for x in prepared]
    )
    np.testing.assert_allclose(
        features_of(extractor.module, extractor.params, described.rows()),
        extractor(patches)[0],
        rtol=1e-3,
        atol=1e-3,
    )
    # Constants are those of what it was trained on.
    train = Describer(extractor.module, kept, PREPARE).windows(
        record_images(open_records(records), "train"), 2
    )
    centre = train.sample().mean(axis=0)
    np.testing.assert_allclose(extractor.params["centre"], centre, rtol=1e-4, atol=1e-4)


def test_pretext_metrics_are_of_all_steps(pretext_run):
    lines = metrics(pretext_run)
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 2, 3, 4]
    assert "concordance/mean" in [line for line in lines if line["split"] == "validation"][-1]


def test_kept_descriptions_are_not_computed_again(
    pretext_run, records, kept, tmp_path, monkeypatch
):
    monkeypatch.setattr(descriptions, "extract_descriptions", None)  # would be called
    pretext.run(pretext_config(records, kept), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(pretext_run)


def test_a_continued_pretext_run_is_the_same(pretext_run, records, kept, tmp_path):
    pretext.run(pretext_config(records, kept, steps=2), tmp_path / "run")
    pretext.run(pretext_config(records, kept), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(pretext_run)
    assert_close(arrays(tmp_path / "run/extractor"), arrays(pretext_run / "extractor"), rtol=0)


def test_a_continued_binary_run_is_the_same(binary_run, pretext_run, labelled, kept, tmp_path):
    binary.run(binary_config(pretext_run, labelled, kept, steps=2), tmp_path / "run")
    binary.run(binary_config(pretext_run, labelled, kept), tmp_path / "run")
    assert metrics(tmp_path / "run") == metrics(binary_run)
    assert_close(arrays(tmp_path / "run/detector"), arrays(binary_run / "detector"), rtol=0)


def test_one_device_trains_as_eight(
    binary_run, pretext_run, records, labelled, kept, tmp_path, monkeypatch
):
    one = data_mesh(jax.devices()[:1])
    for stage in (pretext, binary):
        monkeypatch.setattr(stage, "data_mesh", lambda: one)
    pretext.run(pretext_config(records, kept), tmp_path / "pretext")
    binary.run(binary_config(pretext_run, labelled, kept), tmp_path / "binary")
    for a, b in (("pretext", pretext_run), ("binary", binary_run)):
        for ours, theirs in zip(metrics(tmp_path / a), metrics(b), strict=True):
            ours.pop("split"), theirs.pop("split")
            assert_close(ours, theirs, rtol=2e-3, atol=1e-4)


def test_a_detector_scores_images_as_their_descriptions(binary_run, labelled, kept):
    detector = load_detector(binary_run)
    assert detector.extractor.prepare == PREPARE == detector.facts["prepare"]  # the teacher's
    paths = find_images([labelled])
    module, params = detector.extractor.module, detector.extractor.params
    described = Describer(module, kept, PREPARE).windows([ImageSource.of_file(p) for p in paths])
    kept_scores = detector.description.score(
        features_of(module, params, described.rows()), detector.arrays
    )
    scores = detector.score([random_window(decode_image(path), None) for path in paths])
    np.testing.assert_allclose(scores, kept_scores, rtol=1e-3, atol=1e-5)
    plain = dataclasses.replace(
        detector, extractor=dataclasses.replace(detector.extractor, prepare="none")
    )
    np.testing.assert_allclose(plain.score([central(path) for path in paths]), scores, rtol=1e-5)


def test_the_distance_is_between_intermediates_of_the_same_descriptions(
    pretext_run, labelled, kept
):
    stage = binary.build(binary_config(pretext_run, labelled, kept))
    batch = next(iter(stage.data))
    assert "image" not in batch and batch["description"].shape[0] == 8
    state, frozen, key = stage.place(jax.random.key(0))
    params = to_host(state.params)
    _, numbers = stage.step(state, frozen, stage.put(batch), key)
    teacher = load_extractor(pretext_run)
    module, x = teacher.module, batch["description"]
    first_step = jax.random.fold_in(key, 0)
    drawn = jax.vmap(lambda i: jax.random.fold_in(first_step, i))(jnp.arange(8))

    def layers(params):
        def of_one(row, key):
            rngs = {"dropout": key}
            return module.apply({"params": params}, row[None], True, rngs=rngs, method="learn")[1]

        return jax.vmap(of_one)(x, drawn)

    ours, theirs = layers(params["extractor"]), layers(teacher.params)
    assert set(ours) == {"hidden1", "feature"}
    distance = sum(float(jnp.mean(jnp.square(ours[name] - theirs[name]))) for name in ours)
    assert float(numbers["distance"]) == pytest.approx(distance, rel=1e-4) and distance > 0


def test_an_unreadable_image_is_listed_and_does_not_count(pretext_run, labelled, kept, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(labelled, images)
    broken = find_images([images])[0]
    broken.write_bytes(broken.read_bytes()[:300])
    stage = binary.build(binary_config(pretext_run, images, kept))
    for batch in islice(iter(stage.data), 4):
        unreadable = np.array([str(path) == str(broken) for path in batch["path"]])
        np.testing.assert_array_equal(batch["valid"], ~unreadable)
        assert all(
            (reason != "") == bad for reason, bad in zip(batch["reason"], unreadable, strict=True)
        )


def skipped(run):
    return [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]


def test_an_unreadable_validation_image_is_listed_once(pretext_run, labelled, kept, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(labelled, images)
    config = binary_config(pretext_run, images, kept)
    broken = binary._images(config)[1][-1].path
    broken.write_bytes(broken.read_bytes()[:300])
    binary.run(config, tmp_path / "run")
    assert [row["path"] for row in skipped(tmp_path / "run")] == [str(broken)]


def test_an_unreadable_image_of_probes_is_listed_once(records, labelled, kept, tmp_path, caplog):
    images = tmp_path / "images"
    shutil.copytree(labelled, images)
    broken = find_images([images])[-1]
    broken.write_bytes(b"")
    probes = f"heldout_tags,linear_probe:{images},knn:{images}"
    pretext.run(pretext_config(records, kept, evaluators=probes), tmp_path / "run")
    (row,) = skipped(tmp_path / "run")
    assert (row["path"], row["reason"]) == (str(broken), "empty_file")
    assert "skipped 1 unreadable images (1 empty_file)" in caplog.text


def test_one_class_fits_and_continues_on_kept_descriptions(pretext_run, records, kept, tmp_path):
    config = OneClassConfig(
        str(pretext_run),
        steps=5,
        num_components="1",
        pca=3,
        false_positive_rate=0.2,
        data=PhotosConfig(str(records), descriptions=str(kept)),
    )
    one_class.run(config, tmp_path / "run")
    detector = load_detector(tmp_path / "run")
    assert detector.extractor.prepare == PREPARE
    photos = record_images(open_records(records), "validation")
    described = Describer(detector.extractor.module, kept, PREPARE).windows(photos)
    features = features_of(detector.extractor.module, detector.extractor.params, described.rows())
    scores = detector.score([photo.read() for photo in photos])
    kept_scores = detector.description.score(features, detector.arrays)
    np.testing.assert_allclose(scores, kept_scores, rtol=1e-3)
    calibration = -detector.arrays["calibration"]["log_density"]
    assert all(np.isclose(calibration, score, rtol=1e-3).any() for score in scores)


def test_probes_read_kept_descriptions(records, labelled, kept, monkeypatch):
    config = pretext_config(records, kept, evaluators=f"heldout_tags,linear_probe:{labelled}")
    stage = pretext.build(config)
    monkeypatch.setattr(descriptions, "extract_descriptions", None)
    numbers = stage.evaluate(to_host(stage.state.params))
    assert 0 <= numbers["linear_probe/auroc"] <= 1 and np.isfinite(numbers["loss"])


def test_by_default_descriptions_lie_beside_the_records_or_in_the_workdir(
    pretext_run, records, labelled, tmp_path
):
    copy = tmp_path / "records"
    shutil.copytree(records, copy)
    pretext.build(pretext_config(copy, ""))
    assert any((copy / "descriptions").glob("*/*.npy"))
    assert len(open_records(copy).source("train"))
    binary.build(binary_config(pretext_run, labelled, ""), tmp_path / "run")
    assert any((tmp_path / "run" / "descriptions").glob("*/*.npy"))


class Brightness(ImageObjective):
    """Labels that come from pixels."""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.versions": -1}, r"data\.versions = -1 must not be less than zero"),
        ({"data.prepare": "sepia:1"}, r"config\.data\.prepare: perturbation 'sepia:1'.*known are"),
        (
            {"objectives": ObjectivesConfig(extra=(Brightness("b"),))},
            "labels of b come from images",
        ),
        ({"model": None}, r"config\.data\.versions = 2: only for encoders with a fixed descr"),
    ],
)
def test_fields_that_do_not_fit(changes, message, records, kept, tmp_path):
    config = pretext_config(records, kept)
    for name, value in changes.items():
        if name == "model":
            config.model = PretextConfig().model
        elif name.startswith("data."):
            setattr(config.data, name.removeprefix("data."), value)
        else:
            setattr(config, name, value)
    with pytest.raises(UserError, match=message):
        pretext.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_versions_do_not_fit_the_published_encoder(tiny_extractor, labelled, kept, tmp_path):
    with pytest.raises(UserError, match=r"data\.versions = 2: only for"):
        binary.run(binary_config(tiny_extractor, labelled, kept), tmp_path / "run")
    assert not (tmp_path / "run").exists()


TWO = """
import sys
from pathlib import Path
import jax
address, process, records, labelled, teacher, out = sys.argv[1:]
jax.distributed.initialize(address, 2, int(process))
from exif_jax.detection import descriptions
from exif_jax.stages import binary, pretext
from tests.exif_jax.stages.test_descriptions import binary_config, pretext_config
descriptions._PART_ROWS = 6
out = Path(out)
pretext.run(pretext_config(records, out / "kept"), out / "pretext")
binary.run(binary_config(teacher, labelled, out / "kept"), out / "binary")
"""


def test_two_processes_train_as_one(pretext_run, binary_run, records, labelled, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    given = [str(x) for x in (records, labelled, pretext_run, tmp_path)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO, address, str(index), *given],
            cwd=ROOT,
            env=os.environ
            | {
                "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
                # Both compile, so that neither waits for the other longer than gloo allows (30 s).
                "JAX_ENABLE_COMPILATION_CACHE": "0",
                "JAX_DISABLE_MOST_OPTIMIZATIONS": "True",  # compiles sooner
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(2)
    ]
    for process in processes:
        output = process.communicate()[0]
        assert process.returncode == 0, output
    for name, run in (("pretext", pretext_run), ("binary", binary_run)):
        for ours, theirs in zip(metrics(tmp_path / name), metrics(run), strict=True):
            ours.pop("split"), theirs.pop("split")
            assert_close(ours, theirs, rtol=2e-3, atol=1e-4)
