"""One-class stage: projection, threshold and division of photos; a whole tiny run, interrupted."""

import dataclasses
import json
import shutil
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.decomposition import PCA

import exif_jax
from data_pipelines.errors import UserError
from data_pipelines.files import write_json
from data_pipelines.photo_sources import ImageSource
from data_pipelines.records import open_records
from exif_jax.config import OneClassConfig, PhotosConfig, to_json
from exif_jax.detection.kinds import project
from exif_jax.stages import one_class
from exif_jax.stages.one_class import _divide, candidate_numbers, principal_projection


def correlated(rows, columns, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) @ rng.normal(size=(columns, columns)) + 3


def test_projection_is_whitened_principal_components():
    x = correlated(60, 8)
    ours = project(x, principal_projection(x, 5))
    theirs = PCA(5, svd_solver="full").fit_transform(x)
    theirs /= theirs.std(axis=0)
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours * signs, theirs, atol=1e-8)
    np.testing.assert_allclose(np.cov(ours.T, bias=True), np.eye(5), atol=1e-8)


def test_without_components_every_coordinate_is_standardised():
    x = correlated(40, 6)
    x[:, 2] = 7.0
    ours = project(x, principal_projection(x, 0))
    expected = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1)
    np.testing.assert_allclose(ours, expected, atol=1e-10)


def test_directions_without_variance_stay_finite():
    x = correlated(30, 3) @ np.ones((3, 5))  # all on one line
    assert np.isfinite(project(x, principal_projection(x, 4))).all()


@pytest.mark.parametrize(("rows", "dimensions"), [(50, 7), (4, 4), (50, -1)])
def test_impossible_dimensions_are_refused(rows, dimensions):
    with pytest.raises(UserError, match=rf"config\.pca = {dimensions} must lie between 0 and"):
        principal_projection(correlated(rows, 6), dimensions)


def test_candidates_are_sorted_numbers():
    assert candidate_numbers("num_components", "5") == [5]
    assert candidate_numbers("num_components", "5, 1,2,2") == [1, 2, 5]
    assert candidate_numbers("num_components", "2-4,8") == [2, 3, 4, 8]


@pytest.mark.parametrize("text", ["", "few", "1,,2", "1.5", "0", "-1,2", "4-2", "0-3", "1-"])
def test_other_candidates_are_refused(text):
    with pytest.raises(UserError, match=r"config\.num_components"):
        candidate_numbers("num_components", text)


def photos(groups, heldout=()):
    return [
        ImageSource(f"{i}.jpg", group, i in heldout, lambda: np.zeros((64, 64, 3), np.uint8))
        for i, group in enumerate(groups)
    ]


@hypothesis.given(
    st.lists(st.integers(0, 30), min_size=30, max_size=60).filter(lambda g: len(set(g)) > 12),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_no_group_is_divided(groups, choosing, prepared, seed):
    held = {i for i, group in enumerate(groups) if group == groups[0]} if prepared else set()
    config = OneClassConfig(heldout_fraction=0.4, seed=seed)
    parts = _divide(photos(groups, held), config, choosing)
    together = np.concatenate([parts.fit, parts.choose, parts.threshold])
    assert sorted(together) == list(range(len(groups)))
    assert bool(len(parts.choose)) == choosing
    if prepared:
        assert set(parts.threshold) == held
    of_part = [{groups[i] for i in part} for part in (parts.fit, parts.choose, parts.threshold)]
    assert sum(map(len, of_part)) == len(set(groups))


def test_too_few_photos_are_refused():
    with pytest.raises(UserError, match=r"1 photos are too few.*config\.heldout_fraction = 0\.3"):
        _divide(photos([0]), OneClassConfig(), False)
    with pytest.raises(UserError, match="too few"):
        _divide(photos([5] * 9), OneClassConfig(), False)  # one burst


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


def test_a_run_writes_a_detector_and_says_how_it_was_made(finished, config):
    facts = json.loads((finished / "detector" / "detector.json").read_text())
    rule = facts["threshold_details"]
    assert (rule["photos"], rule["false_positive_rate"]) == (6, 0.2)
    assert (rule["name"], rule["expected_rate"], rule["warning"]) == (
        "heldout_quantile",
        1 / 7,
        None,
    )
    assert rule["log_density_threshold"] == -facts["threshold"]
    assert len(rule["interval"]) == 2
    assert facts["training_data"] == {
        "photos": config.data.photos,
        "fitted": 18,
        "components_chosen_by": facts["training_data"]["components_chosen_by"],
        "threshold_from": 6,
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


def test_p_values_come_from_the_held_out_photos(finished, records):
    detector, opened = exif_jax.load_detector(finished), open_records(records)
    source = opened.source("validation")
    images = [opened.decode(source[i])["image"] for i in range(len(source))]
    scores = detector.score(images)
    assert detector.heldout_photos == len(scores) == 6
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
    original = one_class.extract_features

    def interrupted(*args):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(original(*args))
        return computed[-1]

    with monkeypatch.context() as patch:
        patch.setattr(one_class, "extract_features", interrupted)
        with pytest.raises(KeyboardInterrupt):
            one_class.run(config, workdir)
    assert len(features_of(workdir)) == 2 and not (workdir / "detector").exists()

    def counted(*args):
        computed.append(original(*args))
        return computed[-1]

    monkeypatch.setattr(one_class, "extract_features", counted)
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
    skipped = {Path(row["path"]).name: row["reason"] for row in map(json.loads, lines)}
    assert skipped.keys() == {"a_text.jpg", "z_cut.jpg"} and all(skipped.values())
    facts = json.loads((tmp_path / "run" / "detector" / "detector.json").read_text())
    data = facts["training_data"]
    assert (data["unreadable"], data["fitted"] + data["threshold_from"]) == (2, 9)


def test_photos_added_after_an_interruption_do_not_shift_the_features(
    tiny_extractor, folder, tmp_path, monkeypatch
):
    config = small(tiny_extractor, folder)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one_class, "principal_projection", stop)
        with pytest.raises(KeyboardInterrupt):
            one_class.run(config, tmp_path / "run")
    shutil.copy(folder / "small_grey.png", folder / "a_first.png")
    one_class.run(config, tmp_path / "run")
    one_class.run(config, tmp_path / "whole")
    results = [tmp_path / name / "detector" / "model.safetensors" for name in ("run", "whole")]
    actual, expected = map(load_file, results)
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


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


def test_more_components_than_photos_are_refused(config, tmp_path):
    with pytest.raises(UserError, match=r"num_components = '19': 18 photos to fit are fewer"):
        one_class.run(dataclasses.replace(config, num_components="19"), tmp_path / "run")


def test_a_workdir_of_another_run_is_left_alone(config, finished):
    before = (finished / "config.json").read_text()
    with pytest.raises(UserError, match=r"holds another run \(pca: 3 there, 2 now\)"):
        one_class.run(dataclasses.replace(config, pca=2), finished)
    assert (finished / "config.json").read_text() == before
