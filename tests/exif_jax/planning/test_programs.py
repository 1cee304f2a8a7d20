"""What is planned is what runs: the same shapes, the same program."""

import jax
import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.labelled import find_test_sets, labelled_images
from data_pipelines.perturbations import Augmentation
from data_pipelines.pipeline import labelled_batches
from exif_jax.config import (
    BinaryConfig,
    EvaluationConfig,
    OneClassConfig,
    PretextConfig,
    PublishedEncoder,
    RecordsConfig,
    ResidualCovarianceEncoder,
)
from exif_jax.planning.programs import binary_batch, planned, pretext_batch
from exif_jax.planning.topologies import open_topology, parse
from exif_jax.stages import pretext

TINY = PublishedEncoder(
    width=4, stage_depths=(1, 1, 1), mixer_blocks=1, mixer_heads=2, mixer_head_dim=4, mixer_hidden=8
)


@pytest.fixture(scope="module")
def topology():
    return open_topology(parse("cpu:8"))


def shapes(arrays):
    return {name: (np.shape(x), np.asarray(x).dtype) for name, x in arrays.items()}


def of_structs(structs):
    return {name: (x.shape, x.dtype) for name, x in structs.items()}


def test_the_planned_step_is_the_step_that_trains(records, topology):
    data = RecordsConfig(photos=str(records), patches=2, threads=1)
    config = PretextConfig(batch_size=8, model=TINY, data=data)
    stage = pretext.build(config)
    batch = stage.put(next(iter(stage.data)))
    state, frozen, key = stage.place(jax.random.key(0))
    trained = stage.step.lower(state, frozen, batch, key)
    step = planned(config, topology, None).programs[0]
    assert (step.name, step.images, step.devices, step.in_step) == ("step", 8, 8, True)
    assert step.lower().as_text() == trained.as_text()
    objectives = pretext.open_data(config)[1]
    assert of_structs(pretext_batch(config, TINY.build(), objectives)) == shapes(batch)


def test_batches_of_labelled_images_have_the_planned_shapes(simulated):
    images = labelled_images(find_test_sets(simulated / "labelled"))
    batch = next(iter(labelled_batches(images, Augmentation(), 8, 0, 1)))
    arrays = {k: x for k, x in batch.items() if k not in ("path", "reason", "error")}
    assert of_structs(binary_batch(BinaryConfig(batch_size=8), TINY.build())) == shapes(arrays)


def test_without_data_what_was_published_is_assumed_and_said(topology):
    plan = planned(PretextConfig(model=TINY), topology, None)
    assert [program.name for program in plan.programs] == ["step", "encode", "mix"]
    assert any("as published" in line for line in plan.assumptions)
    plan = planned(BinaryConfig(), topology, TINY)
    assert plan.programs[0].lower().out_info and "--pretext" in plan.assumptions[0]


def test_descriptions_take_the_place_of_images(topology):
    model = ResidualCovarianceEncoder(features=4, components=8)
    config = PretextConfig(batch_size=16, model=model)
    step = planned(config, topology, None).programs[0]
    assert step.lower().out_info
    batch = pretext_batch(config, model.build(), ())
    assert batch["description"].shape[0] == 16 and "image" not in batch


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_iteration_of_em(topology, precision):
    config = OneClassConfig(pca=6, num_components="1-2", precision=precision)
    plan = planned(config, topology, TINY)
    e_step, m_step, *features = plan.programs
    assert [e_step.name, m_step.name] == ["e_step", "m_step"] and len(features) == 2
    assert e_step.images == 900_000 and any("900000" in line for line in plan.assumptions)
    for program in (e_step, m_step):
        leaves = jax.tree.leaves(program.lower().out_info)
        assert precision in {leaf.dtype.name for leaf in leaves}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EvaluationConfig(), "has no step to plan"),
        (PretextConfig(batch_size=12), "does not divide over 8 devices"),
        (OneClassConfig(precision="half"), "precision"),
        (BinaryConfig(extractor="nowhere"), "nowhere"),
    ],
)
def test_mistakes_are_one_message(topology, config, message):
    with pytest.raises(UserError, match=message):
        planned(config, topology, None)
