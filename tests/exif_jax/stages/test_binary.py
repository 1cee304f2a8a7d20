"""Binary stage: which images are held out, what the loss and the validation are made of."""

import dataclasses
import json
import shutil
from itertools import islice

import jax
import numpy as np
import piexif
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from data_pipelines import examples
from data_pipelines.errors import UserError
from data_pipelines.images import decode_image, find_images
from exif_jax.config import BinaryConfig, LabelledConfig
from exif_jax.detection.detectors import load_detector
from exif_jax.evaluation import labelled_features
from exif_jax.models.trained import load_extractor
from exif_jax.stages import binary
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, shard, to_host

CLASSES = ("0_real", "1_fake")
BURST = 4  # photographs of one burst; as many are single, and eight images are generated


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled")
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir()
        for index in range(2 * BURST):
            pixels = rng.integers(200 * label, 200 + 55 * label, size=(70, 80, 3), dtype=np.uint8)
            times = f"2022:05:01 10:00:{index:02d}"
            exif = piexif.dump(
                {
                    "0th": {piexif.ImageIFD.Model: b"Kestrel 3"},
                    "Exif": {piexif.ExifIFD.DateTimeOriginal: times.encode()},
                }
            )
            burst = {"exif": exif} if not label and index < BURST else {}
            Image.fromarray(pixels).save(folder / name / f"{index}.jpg", **burst)
    return folder


def config(extractor, images, **fields):
    data = LabelledConfig(str(images), patches=2, threads=1, validation_fraction=0.5)
    return BinaryConfig(str(extractor), steps=0, batch_size=8, data=data, **fields)


def test_groups_of_a_list_are_not_divided(labelled, tiny_extractor, tmp_path):
    files = sorted(labelled.rglob("*.jpg"))
    groups = [index % 4 for index in range(len(files))]  # across the burst
    lines = [
        f"{path},{int('1_fake' in str(path))},{group}"
        for path, group in zip(files, groups, strict=True)
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,group", *lines]))
    train, held_out = binary._images(config(tiny_extractor, tmp_path / "list.csv"))
    assert len(train) == len(held_out) == len(files) // 2
    for label in (0, 1):
        sides = [{i.group for i in side if i.label == label} for side in (train, held_out)]
        assert not sides[0] & sides[1] and len(sides[0]) == len(sides[1]) == 2


@pytest.fixture
def stage(tiny_extractor, labelled, tmp_path, monkeypatch):
    """(the stage that a run hands to the loop, the run's directory)."""
    taken = []
    monkeypatch.setattr(binary, "fit", lambda stage, *_: taken.append(stage))
    binary.run(config(tiny_extractor, labelled, threshold=0.4), tmp_path / "run")
    return taken[0], tmp_path / "run"


def training_images(stage):
    """Names, such as 0_real/3.jpg, of all images of some epochs."""
    paths = [str(path) for batch in islice(iter(stage.data), 8) for path in batch["path"]]
    return {"/".join(path.split("/")[-2:]) for path in paths}


def test_half_of_each_class_is_held_out_and_a_burst_is_not_divided(stage, labelled):
    names = training_images(stage[0])
    photos, generated = (sorted(n for n in names if n.startswith(c)) for c in CLASSES)
    burst = [f"0_real/{index}.jpg" for index in range(BURST)]
    single = [f"0_real/{index}.jpg" for index in range(BURST, 2 * BURST)]
    assert photos in (burst, single)
    assert len(generated) == BURST


def test_other_images_at_the_same_place_are_refused(stage, tiny_extractor, labelled, tmp_path):
    images = shutil.copytree(labelled, tmp_path / "images")
    binary.run(config(tiny_extractor, images, threshold=0.4), stage[1])  # the same, moved
    for index in range(4, 6):
        (images / "0_real" / f"{index}.jpg").unlink()
    message = r"8 photographs then, 6 now: 2 are gone, e\.g\. 0_real/4\.jpg\)"
    with pytest.raises(UserError, match=message):
        binary.run(config(tiny_extractor, images, threshold=0.4), stage[1])


def test_batches_are_half_generated(stage):
    for batch in islice(iter(stage[0].data), 3):
        assert batch["label"].sum() == 4
        for label, path in zip(batch["label"], batch["path"], strict=True):
            assert CLASSES[label] in path


def test_the_validation_is_what_the_exported_detector_says_of_held_out_images(stage, labelled):
    stage, workdir = stage
    params = to_host(stage.state.params)
    numbers = stage.evaluate(params)
    stage.export(params, 3, numbers)
    detector = load_detector(workdir)
    assert (detector.kind, detector.threshold) == ("binary", 0.4)
    assert (detector.facts["step"], detector.facts["validation"]) == (3, numbers)
    counts = detector.facts["training_data"]
    assert (counts["photographs"], counts["generated"]) == (BURST, BURST)
    trained = training_images(stage)
    held = [p for p in find_images([labelled]) if f"{p.parent.name}/{p.name}" not in trained]
    truth = np.array([path.parent.name == CLASSES[1] for path in held])
    scores = detector.score([decode_image(path) for path in held]).astype(np.float64)
    assert numbers["count/photographs"] == numbers["count/generated"] == BURST
    loss = -np.log(np.where(truth, scores, 1 - scores)).mean()
    assert numbers["loss"] == pytest.approx(loss, rel=1e-4)
    assert numbers["accuracy"] == np.mean((scores > 0.4) == truth)
    assert numbers["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert numbers["false_positive_rate"] == np.mean(scores[~truth] > 0.4)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_class_that_cannot_be_divided_is_named(fraction, tiny_extractor, labelled, tmp_path):
    wrong = config(tiny_extractor, labelled)
    wrong.data.validation_fraction = fraction
    with pytest.raises(UserError, match=r"8 photographs are too few to keep .*_fraction = [01]\."):
        binary.run(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()


ALPHA = 0.3


@pytest.fixture(scope="module")
def parts(tiny_extractor):
    """(teacher, other parameters, images that leave one crop only, loss of parameters on them)."""
    teacher = load_extractor(tiny_extractor)
    others = to_host(binary.init_params(teacher.module, jax.random.key(3)))
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(256, size=(8, 64, 64, 3), dtype=np.uint8),
        "size": np.full((8, 2), 64, np.int32),
        "label": rng.integers(2, size=8).astype(np.int32),
        "valid": np.ones(8, np.float32),
    }
    mesh = data_mesh(jax.devices()[:1])
    loss = over_devices(
        binary.make_loss(teacher.module, ALPHA, 2),
        mesh,
        (REPLICATED, REPLICATED, SHARDED, REPLICATED),
        REPLICATED,
    )
    key = jax.random.key(0)
    return teacher, others, batch, lambda p: loss(p, teacher.params, shard(batch, mesh), key)


def test_the_loss_is_cross_entropy_and_distance_to_the_teacher(parts):
    teacher, params, batch, loss = parts
    patches = np.stack([batch["image"]] * 2, axis=1)  # the one crop that fits, twice
    _, theirs = teacher(patches)
    features, ours = dataclasses.replace(teacher, params=params["extractor"])(patches)
    head = params["head"]["fc"]
    logits = np.asarray(features).astype(np.float64) @ head["kernel"] + head["bias"]
    entropy = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(8), batch["label"]])
    distance = sum(np.mean(np.square(ours[name] - theirs[name])) for name in ours)
    total, means = loss(params)
    assert means["cross_entropy"] == pytest.approx(entropy, rel=1e-4)
    assert means["distance"] == pytest.approx(distance, rel=1e-4) and distance > 0
    assert means["accuracy"] == np.mean(logits.argmax(axis=1) == batch["label"])
    assert total == pytest.approx(entropy + ALPHA * distance, rel=1e-4)


def test_a_network_that_equals_the_teacher_has_no_distance(parts):
    teacher, params, _, loss = parts
    total, means = loss({**params, "extractor": teacher.params})
    assert means["distance"] == pytest.approx(0, abs=1e-9)
    assert total == pytest.approx(means["cross_entropy"])


def test_validation_images_are_decoded_as_they_are_needed(stage, monkeypatch):
    decoded = []
    load, extract = examples.load_labelled, labelled_features.extract_features

    def counting(image):
        decoded.append(image)
        return load(image)

    def one_by_one(extractor, params, images):
        def lazily():
            for number, image in enumerate(images, start=1):
                assert len(decoded) == number  # nothing is held that is not yet asked for
                yield image

        return extract(extractor, params, lazily())

    monkeypatch.setattr(examples, "load_labelled", counting)
    monkeypatch.setattr(labelled_features, "extract_features", one_by_one)
    stage[0].evaluate(to_host(stage[0].state.params))
    assert len(decoded) > 1


def test_an_unreadable_validation_image_is_listed_once(tiny_extractor, labelled, tmp_path, caplog):
    images, run = tmp_path / "images", tmp_path / "run"
    shutil.copytree(labelled, images)
    run_config = dataclasses.replace(config(tiny_extractor, images), steps=2, eval_every=1)
    _, validation = binary._images(run_config)
    broken = next(image.path for image in validation if image.label)
    broken.write_bytes(broken.read_bytes()[:300])
    binary.run(run_config, run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    counts = [row["count/generated"] for row in rows if row["split"] == "validation"]
    assert counts == [BURST - 1] * 2
    (row,) = map(json.loads, (run / "skipped.jsonl").read_text().splitlines())
    assert (row["path"], row["reason"]) == (str(broken), "undecodable")
    assert "skipped 1 unreadable images (1 undecodable)" in caplog.text
