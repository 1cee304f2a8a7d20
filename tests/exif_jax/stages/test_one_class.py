"""One-class stage: whole tiny runs, interrupted ones, features on disk, wrong fields."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import exif_jax
from data_pipelines.errors import UserError
from data_pipelines.files import write_json
from data_pipelines.records import open_records
from exif_jax.config import OneClassConfig, PhotosConfig, to_json
from exif_jax.models.storage import load_model, save_model
from exif_jax.stages import one_class, photo_features
from exif_jax.stages.one_class import em_devices
from exif_jax.training.runs import MetricsLog


@pytest.fixture(scope="module")
def heldout(records):
    """How many of the 24 photos are held out: about a quarter, in whole groups.

    Which, depends on the bytes of the files, so on the version of the JPEG encoder.
    """
    return len(open_records(records).source("validation"))


def configuration(extractor, source, **fields):
    defaults = {"batch_size": 4, "checkpoint_every": 2, "num_components": "1,2", "pca": 3}
    defaults |= {"false_positive_rate": 0.2, "eval_every": 3, "steps": 12}
    return OneClassConfig(
        extractor=str(extractor), data=PhotosConfig(str(source)), **(defaults | fields)
    )


@pytest.fixture(scope="module")
def config(tiny_extractor, records):
    return configuration(tiny_extractor, records)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one_class") / "run"
    one_class.run(config, workdir)
    return workdir


def test_a_run_writes_a_detector_and_says_how_it_was_made(finished, config, heldout):
    facts = json.loads((finished / "detector" / "detector.json").read_text())
    rule = facts["threshold_details"]
    assert (rule["photos"], rule["false_positive_rate"]) == (heldout, 0.2)
    assert (rule["name"], rule["expected_rate"], rule["warning"]) == (
        "heldout_quantile",
        int(0.2 * (heldout + 1)) / (heldout + 1),
        None,
    )
    assert rule["log_density_threshold"] == -facts["threshold"]
    assert len(rule["interval"]) == 2
    assert facts["training_data"] == {
        "photos": config.data.photos,
        "fitted": 24 - heldout,
        "components_chosen_by": facts["training_data"]["components_chosen_by"],
        "threshold_from": heldout,
        "unreadable": 0,
    }
    assert facts["training_data"]["components_chosen_by"] > 0
    choice = {
        row["num_components"]: row["heldout_log_likelihood"]
        for row in facts["mixture"]["candidates"]
    }
    assert choice.keys() == {1, 2} and facts["num_components"] == max(choice, key=choice.get)
    chosen = [row["num_components"] for row in facts["mixture"]["candidates"] if row["chosen"]]
    assert chosen == [facts["num_components"]]
    assert facts["mixture"]["rows_per_parameter"] > 0
    assert (finished / "selection.png").stat().st_size
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    train = [row["loss"] for row in rows if row["split"] == "train"]
    assert train and train == sorted(train, reverse=True)  # EM never loses likelihood
    assert any(row["split"] == "validation" for row in rows)
    assert (finished / "curves.png").stat().st_size
    assert (finished / "skipped.jsonl").read_text() == ""


def test_the_detector_scores_held_out_photos_as_the_run_did(finished, records):
    detector, opened = exif_jax.load_detector(finished), open_records(records)
    source = opened.source("validation")
    scores = detector.score(opened.decode(source[i])["image"] for i in range(len(source)))
    # The threshold is one of these scores; at most the stated share lies above it.
    assert np.isclose(scores, detector.threshold, rtol=1e-4).any()
    assert (scores > detector.threshold + 1e-3).sum() <= 1


def test_p_values_come_from_the_held_out_photos(finished, records, heldout):
    detector, opened = exif_jax.load_detector(finished), open_records(records)
    source = opened.source("validation")
    images = [opened.decode(source[i])["image"] for i in range(len(source))]
    scores = detector.score(images)
    assert detector.heldout_photos == len(scores) == heldout
    ranks = np.array([(scores >= score - 1e-3).sum() for score in scores])
    np.testing.assert_allclose(detector.p_values(scores), (1 + ranks) / 7, atol=1 / 7 + 1e-9)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"covariance_type": "tied", "shrinkage": "none,ledoit_wolf"}, "tied"),
        ({"covariance_type": "low_rank", "rank": "1,2"}, "low_rank"),
        ({"covariance_type": "diag", "criterion": "bic", "num_components": "1-3"}, "diag"),
        ({"precision": "float32", "restarts": 2}, "full"),
        ({"threshold_rule": "fitting_percentile", "num_components": "1"}, "full"),
    ],
)
def test_every_kind_of_mixture_makes_a_detector(config, fields, kind, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished / "features", workdir / "features")
    fields = {"num_components": "1,2", **fields}
    changed = dataclasses.replace(config, **fields)
    # The features are those of the finished run: only the mixture is fitted again.
    write_json(workdir / "config.json", {"stage": "one_class", **to_json(changed)})
    one_class.run(changed, workdir)
    detector = exif_jax.load_detector(workdir)
    assert detector.facts["covariance_type"] == kind
    assert detector.arrays["gmm"]["means"].dtype == changed.precision
    scores = detector.score([np.zeros((70, 70, 3), np.uint8)])
    assert np.isfinite(scores).all()
    name = detector.facts["threshold_details"]["name"]
    assert name == changed.threshold_rule
    if name == "fitting_percentile":
        assert "fitted" in detector.facts["threshold_details"]["warning"]
    assert not (workdir / "em").exists()


def features_of(workdir):
    return sorted(path.name for path in (workdir / "features").iterdir())


def test_an_interrupted_run_continues_without_computing_again(
    config, finished, tmp_path, monkeypatch, caplog
):
    workdir = tmp_path / "run"
    computed = []
    original = photo_features.extract_features

    def interrupted(*args):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(original(*args))
        return computed[-1]

    with monkeypatch.context() as patch:
        patch.setattr(photo_features, "extract_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one_class.run(config, workdir)
    assert len(features_of(workdir)) == 2 and not (workdir / "detector").exists()

    def counted(*args):
        computed.append(original(*args))
        return computed[-1]

    monkeypatch.setattr(photo_features, "extract_features", counted)
    one_class.run(config, workdir)
    assert len(computed) == 3 == len(features_of(workdir))  # 24 windows, 8 a part
    assert (workdir / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()
    expected = load_file(finished / "detector" / "model.safetensors")
    actual = load_file(workdir / "detector" / "model.safetensors")
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    caplog.set_level("INFO", "exif_jax")
    one_class.run(config, workdir)
    assert "this run is finished" in caplog.text and len(computed) == 3


STREAMED = {"memory_gib": 0.0, "covariance_type": "full,tied", "num_components": "2"}


@pytest.fixture
def streamed(config, finished, tmp_path):
    """A run that reads its features, those of the finished run, from disk for every iteration."""

    def start(name, **fields):
        changed, workdir = dataclasses.replace(config, **(STREAMED | fields)), tmp_path / name
        if not workdir.exists():
            shutil.copytree(finished / "features", workdir / "features")
            write_json(workdir / "config.json", {"stage": "one_class", **to_json(changed)})
        one_class.run(changed, workdir)
        return workdir

    return start


@pytest.mark.parametrize("fields", [{}, {"pca": 0, "threshold_rule": "fitting_percentile"}])
def test_features_read_from_disk_give_the_detector_of_those_in_memory(fields, streamed, caplog):
    caplog.set_level("INFO", "exif_jax")
    workdir = streamed("streamed", **fields)
    assert "24 photos are read from disk for every iteration" in caplog.text
    whole = streamed("whole", memory_gib=1.0, **fields)
    a, b = (load_file(run / "detector" / "model.safetensors") for run in (workdir, whole))
    assert a.keys() == b.keys()
    signs = np.sign((a["projection/matrix"] * b["projection/matrix"]).sum(axis=0))
    for name in a:
        if name == "projection/matrix" or name == "gmm/means":
            a[name] = a[name] * signs
        elif name == "gmm/precisions_cholesky":
            a[name] = a[name] * signs[:, None] * signs
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6, atol=1e-8, err_msg=name)
    paths = (run / "detector" / "detector.json" for run in (workdir, whole))
    a, b = (json.loads(path.read_text()) for path in paths)
    assert a["threshold"] == pytest.approx(b["threshold"], rel=1e-6)
    assert a["mixture"]["iterations"] == b["mixture"]["iterations"] > 1


def test_a_run_that_reads_from_disk_continues_exactly(streamed, monkeypatch):
    whole, written = streamed("whole"), []
    original = MetricsLog.write

    def stopping(log, *row):
        written.append(row)
        if len(written) == 3:
            raise KeyboardInterrupt
        original(log, *row)

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            streamed("stopped")
    stopped = streamed("stopped")
    assert (stopped / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    a, b = (load_file(run / "detector" / "model.safetensors") for run in (stopped, whole))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("memory_gib", [0.0, 1.0])
def test_a_run_continues_where_the_projection_would_differ_in_the_last_bit(
    memory_gib, streamed, monkeypatch
):
    """As it does under another version of NumPy's linear algebra."""
    fields = {"memory_gib": memory_gib, "pca": 3}
    whole, original = streamed("whole", **fields), MetricsLog.write

    def stopping(log, step, split, values):
        original(log, step, split, values)
        if split == "validation":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "write", stopping)
        with pytest.raises(KeyboardInterrupt):
            streamed("stopped", **fields)
    assert list((whole.parent / "stopped" / "em" / "final").glob("*.safetensors"))
    (projection,) = (whole.parent / "stopped" / "em").glob("projection-*.safetensors")
    expected = load_file(whole / "detector" / "model.safetensors")
    for name, array in load_file(projection).items():
        np.testing.assert_array_equal(array, expected[f"projection/{name}"])
    svd = np.linalg.svd

    def rounded_otherwise(*arguments, **options):
        u, singular, directions = svd(*arguments, **options)
        return u, np.nextafter(singular, np.inf), np.nextafter(directions, np.inf)

    monkeypatch.setattr(np.linalg, "svd", rounded_otherwise)
    stopped = streamed("stopped", **fields)
    a, b = (load_file(run / "detector" / "model.safetensors") for run in (stopped, whole))
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_run_begun_before_there_was_memory_gib_continues(config, finished):
    path = finished / "config.json"
    now = json.loads(path.read_text())
    before = {name: value for name, value in now.items() if name != "memory_gib"}
    assert len(before) == len(now) - 1
    write_json(path, before)
    one_class.run(config, finished)
    assert json.loads(path.read_text()) == now


@pytest.mark.parametrize(
    ("platform", "precision", "found"),
    [
        ("tpu", "float64", "cpu"),  # TPUs have no float64
        ("tpu", "float32", "tpu"),
        ("gpu", "float64", "gpu"),
        ("cpu", "float64", "cpu"),
    ],
)
def test_em_runs_where_its_precision_is(platform, precision, found):
    local = [SimpleNamespace(platform=platform)] * 4
    devices = em_devices(local, precision)
    assert {device.platform for device in devices} == {found}
    assert devices == (local if platform == found else jax.local_devices(backend="cpu"))


@pytest.fixture
def folder(simulated, tmp_path):
    """Eight photos and two files that cannot be read."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((simulated / "photos").iterdir())[:8]:
        shutil.copy(path, folder)
    Image.new("L", (30, 20)).save(folder / "small_grey.png")
    data = next(folder.glob("*.jpg")).read_bytes()
    (folder / "a_text.jpg").write_text("no image")
    (folder / "z_cut.jpg").write_bytes(data[: len(data) // 2])
    return folder


def small(extractor, folder):
    return configuration(extractor, folder, num_components="1", pca=2, heldout_fraction=0.4)


def test_unreadable_photos_are_counted_with_the_reason(tiny_extractor, folder, tmp_path):
    one_class.run(small(tiny_extractor, folder), tmp_path / "run")
    lines = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    rows = list(map(json.loads, lines))
    skipped = {Path(row["path"]).name: row["reason"] for row in rows}
    assert skipped == {"a_text.jpg": "not_an_image", "z_cut.jpg": "undecodable"}
    assert all(row["message"] for row in rows)
    facts = json.loads((tmp_path / "run" / "detector" / "detector.json").read_text())
    data = facts["training_data"]
    assert (data["unreadable"], data["fitted"] + data["threshold_from"]) == (2, 9)


def interrupted(config, workdir):
    """A run that is stopped once the features are there."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(one_class, "principal_projection", Mock(side_effect=KeyboardInterrupt))
        one_class.run(config, workdir)


def test_parts_of_the_previous_release_are_continued(tiny_extractor, folder, tmp_path):
    config = small(tiny_extractor, folder)
    interrupted(config, tmp_path / "run")
    for path in (tmp_path / "run" / "features").iterdir():  # it kept the messages alone
        part = dict(np.load(path))
        rows = json.loads(str(part["errors"]))
        part["errors"] = json.dumps([(position, text) for position, _, text in rows])
        np.savez(path, **part)
    one_class.run(config, tmp_path / "run")
    lines = (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()
    why = {(row["reason"], row["message"]) for row in map(json.loads, lines)}
    assert len(why) == 2 and {reason for reason, _ in why} == {"unreadable"}


def test_other_photos_after_an_interruption_are_refused_and_a_moved_folder_is_not(
    tiny_extractor, folder, tmp_path, monkeypatch
):
    interrupted(small(tiny_extractor, folder), tmp_path / "run")
    moved = folder.rename(tmp_path / "moved")
    added = shutil.copy(moved / "small_grey.png", moved / "a_first.png")
    config = small(shutil.copytree(tiny_extractor, tmp_path / "extractor"), moved)
    message = r"11 photographs then, 12 now: 1 is new, e\.g\. a_first\.png\)"
    with pytest.raises(UserError, match=rf"data\.photos = .*moved has other data: {message}"):
        one_class.run(config, tmp_path / "run")
    added.unlink()
    monkeypatch.setattr(photo_features, "extract_features", None)  # nothing is computed again
    one_class.run(config, tmp_path / "run")
    assert (tmp_path / "run" / "detector").is_dir()


def test_another_extractor_at_the_same_place_is_refused(config, tiny_extractor, finished, tmp_path):
    path = shutil.copytree(tiny_extractor, tmp_path / "extractor")
    arrays, facts = load_model(path, "extractor.json")
    arrays["extractor"] = jax.tree.map(lambda x: x + 1, arrays["extractor"])
    save_model(path, "extractor.json", arrays, facts)
    with pytest.raises(UserError, match=r"extractor = .* has other data: other parameters\)"):
        one_class.run(dataclasses.replace(config, extractor=str(path)), finished)


def test_nothing_readable_is_an_error(tiny_extractor, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="photos: none of 1 photos could be read"):
        one_class.run(small(tiny_extractor, tmp_path / "photos"), tmp_path / "run")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"extractor": ""}, r"config\.extractor is not set"),
        ({"extractor": "nowhere"}, "nowhere: no extractor here"),
        ({"false_positive_rate": 1.0}, r"config\.false_positive_rate = 1\.0 must lie between"),
        ({"heldout_fraction": 0.0}, r"config\.heldout_fraction = 0\.0 must lie between"),
        ({"batch_size": 0}, r"config\.batch_size = 0 must be greater than zero"),
        ({"reg_covar": -1.0}, r"config\.reg_covar = -1\.0 must not be less than zero"),
        ({"criterion": "guess"}, r"config\.criterion = 'guess' is not known"),
        ({"precision": "half"}, r"config\.precision = 'half' is not known"),
        ({"covariance_type": "full,round"}, r"config\.covariance_type = 'round' is not known"),
        ({"shrinkage": "much"}, r"config\.shrinkage = 'much' is not known"),
        ({"threshold_rule": "mine"}, r"config\.threshold_rule = 'mine' is not known"),
        ({"rank": "all"}, r"config\.rank = 'all': give a number"),
        ({"restarts": 0}, r"config\.restarts = 0 must be greater than zero"),
        ({"num_components": "two"}, r"config\.num_components = 'two': give a number"),
        ({"data": PhotosConfig()}, r"config\.data\.photos is not set"),
        ({"data": PhotosConfig("nowhere")}, "nowhere: no such directory of photos or records"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_written(config, fields, message, tmp_path):
    with pytest.raises(UserError, match=message):
        one_class.run(dataclasses.replace(config, **fields), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_more_components_than_photos_are_refused(config, heldout, tmp_path):
    photos = 24 - heldout
    message = rf"num_components = '{photos + 1}': {photos} photos to fit are fewer"
    with pytest.raises(UserError, match=message):
        one_class.run(dataclasses.replace(config, num_components=f"{photos + 1}"), tmp_path / "run")


def test_a_workdir_of_another_run_is_left_alone(config, finished):
    before = (finished / "config.json").read_text()
    with pytest.raises(UserError, match=r"holds another run \(pca: 3 there, 2 now\)"):
        one_class.run(dataclasses.replace(config, pca=2), finished)
    assert (finished / "config.json").read_text() == before
