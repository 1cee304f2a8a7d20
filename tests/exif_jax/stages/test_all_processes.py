"""Everything but the steps in two processes of two devices: the numbers of one, begun or ended."""

import csv
import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from data_pipelines.files import read_json
from data_pipelines.images import find_images
from data_pipelines.labelled import find_test_sets, labelled_images
from data_pipelines.records import open_records
from exif_jax.cli.evaluate import evaluate
from exif_jax.config import (
    EvaluationConfig,
    ObjectivesConfig,
    OneClassConfig,
    PhotosConfig,
    PretextConfig,
    TestImagesConfig,
)
from exif_jax.detection.detectors import Detector, save_detector
from exif_jax.evaluation.evaluators import Context, build_evaluators
from exif_jax.evaluation.journal import Journal
from exif_jax.evaluation.labelled_features import LabelledFeatures
from exif_jax.models.storage import flatten, unflatten
from exif_jax.models.trained import load_extractor
from exif_jax.objectives import build_objectives
from exif_jax.stages import binary, one_class, photo_features
from exif_jax.stages.pretext import init_params
from exif_jax.training.mapping import to_host
from exif_jax.training.runs import MetricsLog, read_metrics
from exif_jax.training.shares import in_order, raise_everywhere
from tests.test_train import environment

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import sys
from pathlib import Path
from tests.exif_jax.stages.test_all_processes import child
child(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
"""
BATCH = 2
PRETEXT = PretextConfig(objectives=ObjectivesConfig(tags="ISO,Make"))
ONE_TWO = ("by_one_then_two", "scored_by_one_then_two")
TWO_ONE = ("by_two_then_one", "scored_by_two_then_one")


def numbers(folder):
    """What evaluators of both gradient stages say of the photos and images of a folder."""
    paths = json.loads((folder / "paths.json").read_text())
    network = load_extractor(Path(paths["extractor"]))
    params = unflatten(load_file(folder / "params.safetensors"))
    records = open_records(Path(paths["records"]))
    objectives = build_objectives(records.targets, PRETEXT)
    context = Context(network.module, objectives, records)
    found = {}
    for evaluator in build_evaluators(f"heldout_tags,linear_probe:{paths['images']}", context):
        found |= evaluator(params["pretext"])
    images = labelled_images(find_test_sets(Path(paths["images"])))
    held = LabelledFeatures(network.module, images, None, context.unread)
    found |= {f"binary/{k}": x for k, x in binary._evaluator(held, 0.5)(params["binary"]).items()}
    # Fewer images than processes and devices.
    one = LabelledFeatures(network.module, images[1:2], None, {})
    features, own = one(params["binary"]["extractor"])
    found["feature"] = float(in_order(own, features)[1].sum())
    return found, sorted(context.unread)


def configs(folder):
    """Of the one-class stage and of an evaluation."""
    paths = json.loads((folder / "paths.json").read_text())
    mixture = {"num_components": "2", "covariance_type": "diag,spherical", "pca": 3, "steps": 6}
    mixture |= {
        "batch_size": 4,
        "checkpoint_every": 2,
        "false_positive_rate": 0.2,
        "tolerance": 0.0,
    }
    photos = PhotosConfig(paths["records"])
    return (
        OneClassConfig(extractor=paths["extractor"], data=photos, **mixture),
        EvaluationConfig(paths["detector"], "none", BATCH, TestImagesConfig(paths["images"])),
    )


def stopped(owner, name, calls, run):
    """Runs until a method of a class was called so often; its arguments."""
    seen, original = [], getattr(owner, name)

    def stopping(*args):
        if len(seen) == calls:
            raise KeyboardInterrupt
        seen.append(args)
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            run()
    return seen


def scored(run):
    """How many images a run scores."""
    counts, original = [], Detector.score

    def counted(self, images):
        counts.append(len(images))
        return original(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "score", counted)
        run()
    return sum(counts)


def child(address, process, folder):
    """One of two processes, in which nothing but this runs."""
    jax.distributed.initialize(address, 2, process)
    assert (jax.process_count(), jax.device_count()) == (2, 4)
    told = {}
    told["numbers"], told["unread"] = numbers(folder)
    mixture, evaluation = configs(folder)
    one_class.run(mixture, folder / ONE_TWO[0])
    stopped(MetricsLog, "write", 5, lambda: one_class.run(mixture, folder / TWO_ONE[0]))
    told["scored"] = scored(lambda: evaluate(evaluation, folder / ONE_TWO[1]))
    begun = stopped(Detector, "score", 1, lambda: evaluate(evaluation, folder / TWO_ONE[1]))
    told["begun"] = sum(len(images) for _, images in begun)
    try:
        raise_everywhere("no" if process == 0 else "what nobody hears")
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    (folder / f"told_{process}.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def folder(records, simulated, tiny_extractor, tmp_path_factory):
    """What both processes need, and what one of them alone has begun."""
    folder = tmp_path_factory.mktemp("all_processes")
    network = load_extractor(tiny_extractor)
    objectives = build_objectives(open_records(records).targets, PRETEXT)
    pretext = init_params(network.module, objectives, jax.random.key(1))
    rng = np.random.default_rng(0)
    head = {"fc": {"kernel": rng.normal(size=(10, 2)).astype(np.float32), "bias": np.zeros(2)}}
    head = jax.tree.map(np.float32, head)
    params = {"pretext": pretext, "binary": {"extractor": network.params, "head": head}}
    save_file(flatten(to_host(params)), folder / "params.safetensors")
    save_detector(folder / "first" / "detector", "binary", 0.5, network, {"head": head}, {})
    images = folder / "images"
    shutil.copytree(simulated / "labelled" / "train", images)
    broken = find_images([images])[-1]
    broken.write_bytes(broken.read_bytes()[:300])
    paths = {
        "records": records,
        "extractor": tiny_extractor,
        "images": images,
        "detector": folder / "first" / "detector",
    }
    (folder / "paths.json").write_text(json.dumps({k: str(x) for k, x in paths.items()}))
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """What each of two processes says, after one alone has begun some of their work."""
    mixture, evaluation = configs(folder)
    stopped(photo_features, "_save", 1, lambda: one_class.run(mixture, folder / ONE_TWO[0]))
    stopped(Journal, "add", 2, lambda: evaluate(evaluation, folder / ONE_TWO[1]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, address, str(process), str(folder)],
            # Both compile, so that neither waits for the other longer than gloo allows.
            env=environment(2, PYTHONPATH=str(ROOT), JAX_ENABLE_COMPILATION_CACHE="0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    outputs = [process.communicate()[0] for process in children]
    assert [process.returncode for process in children] == [0, 0], "\n".join(outputs)
    return [json.loads((folder / f"told_{process}.json").read_text()) for process in range(2)]


@pytest.fixture(scope="module")
def whole(folder, told):
    """Directories of the runs of one process."""
    mixture, evaluation = configs(folder)
    one_class.run(mixture, folder / "whole")
    evaluate(evaluation, folder / "scored_whole")
    return folder / "whole", folder / "scored_whole"


def test_validation_and_probes(folder, told):
    expected, unread = numbers(folder)
    assert told[0]["numbers"] == told[1]["numbers"]
    assert told[0]["numbers"].keys() == expected.keys() and len(expected) > 10
    for name, value in expected.items():
        assert told[0]["numbers"][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    # Each process lists what it could not read.
    assert len(unread) == 1 and sorted(told[0]["unread"] + told[1]["unread"]) == unread


def assert_same_detector(run, whole):
    a, b = (load_file(path / "detector" / "model.safetensors") for path in (run, whole))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4, atol=1e-5, err_msg=name)
    a, b = (read_json(path / "detector" / "detector.json") for path in (run, whole))
    assert a["threshold"] == pytest.approx(b["threshold"], rel=1e-5)
    assert a["num_components"] == b["num_components"]
    assert a["training_data"] == b["training_data"]
    candidates = [
        [row["heldout_log_likelihood"] for row in facts["mixture"]["candidates"]]
        for facts in (a, b)
    ]
    np.testing.assert_allclose(*candidates, rtol=1e-5)


def test_one_class_begun_by_one_process_and_ended_by_two(folder, told, whole):
    run = folder / ONE_TWO[0]
    assert_same_detector(run, whole[0])
    assert not (run / "em").exists()
    for a, b in zip(
        *(read_metrics(path / "metrics.jsonl") for path in (run, whole[0])), strict=True
    ):
        assert (a["step"], a["split"]) == (b["step"], b["split"])
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_one_class_begun_by_two_processes_and_ended_by_one(folder, told, whole, caplog):
    mixture, _ = configs(folder)
    run = folder / TWO_ONE[0]
    assert not (run / "detector").exists()
    before = read_metrics(run / "metrics.jsonl")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("extract_features", "_save"):  # nothing is computed again
            patch.setattr(photo_features, name, None)
        patch.setattr(one_class, "principal_projection", None)
        one_class.run(mixture, run)
    # Two iterations were saved; of the third, a line was written.
    assert [row["step"] for row in before] == [1, 1, 2, 2, 3]
    assert read_metrics(run / "metrics.jsonl")[:4] == before[:4]
    assert_same_detector(run, whole[0])


def table(run):
    """Of scores.csv."""
    with (run / "scores.csv").open(newline="") as file:
        _, *lines = csv.reader(file)
    return [[*words, float(score)] for *words, score in lines]


def test_no_image_is_scored_twice(folder, told, whole):
    _, evaluation = configs(folder)
    rows = read_json(whole[1] / "results.json")
    images = rows[0]["n_real"] + rows[0]["n_generated"]
    # One had scored two batches; in another run two processes had one each.
    assert sum(each["scored"] for each in told) == images - 2 * BATCH
    assert all(each["scored"] > 0 for each in told)
    assert [each["begun"] for each in told] == [BATCH, BATCH]
    rest = scored(lambda: evaluate(evaluation, folder / TWO_ONE[1]))
    assert rest == images - 2 * BATCH
    for name in (ONE_TWO[1], TWO_ONE[1]):
        assert [path.name for path in (folder / name).glob("scored*")] == ["scored.jsonl"]
        assert table(folder / name) == [
            [*words, pytest.approx(score, rel=1e-4)] for *words, score in table(whole[1])
        ]
        skipped = [(path / "skipped.jsonl").read_bytes() for path in (folder / name, whole[1])]
        assert skipped[0] == skipped[1] != b""


def test_both_hear_what_the_first_one_raises(told):
    assert [each["error"] for each in told] == ["UserError: no"] * 2
