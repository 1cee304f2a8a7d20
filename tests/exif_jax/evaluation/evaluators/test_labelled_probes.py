"""Evaluators: the list in the configuration, and detection on labelled images."""

import shutil

import jax
import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.images import find_images
from data_pipelines.records import open_records
from exif_jax.config import PretextConfig, PublishedEncoder
from exif_jax.evaluation import labelled_features
from exif_jax.evaluation.evaluators import EVALUATORS, Context, build_evaluators
from exif_jax.objectives import build_objectives
from exif_jax.stages.pretext import init_params
from exif_jax.training.mapping import to_host


@pytest.fixture(scope="module")
def context(records):
    opened = open_records(records)
    model = PublishedEncoder(
        width=4, stage_depths=(1, 1, 1), mixer_heads=2, mixer_head_dim=4, mixer_hidden=8
    )
    return Context(model.build(), build_objectives(opened.targets, PretextConfig()), opened)


@pytest.fixture(scope="module")
def params(context):
    return to_host(init_params(context.extractor, context.objectives, jax.random.key(0)))


def test_a_list_of_names_with_arguments(context, params, simulated):
    labelled = simulated / "labelled" / "train"
    evaluators = build_evaluators(f"heldout_tags, linear_probe:{labelled},knn:{labelled}", context)
    tags, linear, knn = (evaluate(params) for evaluate in evaluators)
    assert np.isfinite(tags["loss"]) and "concordance/mean" in tags
    assert set(linear) == {"linear_probe/auroc", "linear_probe/tpr_at_fpr_5pct"}
    assert set(knn) == {"knn/auroc", "knn/tpr_at_fpr_5pct"}
    assert all(0 <= value <= 1 for value in (linear | knn).values())


def test_features_of_labelled_images_are_computed_once(context, params, simulated, monkeypatch):
    labelled = simulated / "labelled" / "train"
    calls = []
    extract = labelled_features.extract_features
    monkeypatch.setattr(
        labelled_features, "extract_features", lambda *args: calls.append(args) or extract(*args)
    )
    fresh = Context(context.extractor, context.objectives, context.records)
    for evaluate in build_evaluators(f"linear_probe:{labelled},knn:{labelled}", fresh):
        evaluate(params)
    assert len(calls) == 1


def test_an_unreadable_image_is_named_with_its_reason(context, params, simulated, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(simulated / "labelled" / "train", images)
    broken = find_images([images])[-1]
    broken.write_bytes(broken.read_bytes()[:300])
    fresh = Context(context.extractor, context.objectives, context.records)
    for evaluate in build_evaluators(f"linear_probe:{images},knn:{images}", fresh):
        for again in (params, dict(params)):
            evaluate(again)
    (row,) = fresh.unread.values()
    assert (row["path"], row["reason"]) == (str(broken), "undecodable") and row["message"]


def test_one_of_ones_own(context, params):
    @EVALUATORS.register("parameter_count")
    def parameter_count(context, argument):
        return lambda params: {f"parameters{argument}": sum(map(np.size, jax.tree.leaves(params)))}

    (evaluate,) = build_evaluators("parameter_count:/all", context)
    assert evaluate(params)["parameters/all"] > 1000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heldout_tag", "evaluator 'heldout_tag' is not known; known are heldout_tags"),
        ("knn", "need labelled images"),
        ("knn:/nowhere", "/nowhere: no such directory"),
    ],
)
def test_what_cannot_be_measured_is_refused(context, text, message):
    with pytest.raises(UserError, match=message):
        build_evaluators(text, context)
