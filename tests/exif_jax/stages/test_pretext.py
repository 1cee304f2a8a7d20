"""Pretext stage: what missing tags do to the loss and to the validation."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json
from exif_jax.config import PretextConfig, RecordsConfig
from exif_jax.objectives import build_objectives
from exif_jax.planning.collectives import collectives
from exif_jax.stages import pretext
from exif_jax.stages.pretext import objective_losses
from exif_jax.training.mapping import REPLICATED, SHARDED, data_mesh, over_devices, shard
from tests.exif_jax.tag_outputs import PHOTOS, TARGETS, outputs_and_labels


def over_photos(losses, compiled=False):
    """What a function of outputs, labels by tag and groups gives for the photos of each device.

    Or its program's text.
    """
    mesh = data_mesh()

    def of_one_device(outputs, labels):
        groups = jnp.arange(len(labels)) + 100 * jax.lax.axis_index("data")
        return losses(outputs, list(labels.T), groups)

    mapped = over_devices(of_one_device, mesh, (SHARDED, SHARDED), SHARDED)
    placed = [shard(x, mesh) for x in outputs_and_labels()]
    return mapped.lower(*placed).compile().as_text() if compiled else mapped(*placed)


@pytest.mark.parametrize("pairing", ["all_pairs", "neighbour"])
def test_a_tag_without_any_value_adds_nothing_to_the_loss(pairing):
    objectives = build_objectives(TARGETS, PretextConfig(ranking=pairing))

    def losses_and_gradients(outputs, labels, groups):
        def total(outputs):
            parts = objective_losses(outputs, labels, groups, objectives)
            return sum(parts.values()), parts

        gradients, parts = jax.grad(total, has_aux=True)(outputs)
        return gradients, {name: part[None] for name, part in parts.items()}

    gradients, parts = over_photos(losses_and_gradients)
    for name in ("FocalLength", "Flash"):
        assert np.asarray(parts[name]).sum() == 0
        assert not np.asarray(gradients[name]).any()
    assert np.asarray(parts["ISO"]).sum() > 0 and np.asarray(gradients["ISO"]).any()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves((gradients, parts)))


@pytest.mark.parametrize("pairing", ["all_pairs", "neighbour"])
def test_ranked_tags_at_once_have_the_losses_of_each_alone(pairing):
    objectives = build_objectives(TARGETS, PretextConfig(ranking=pairing))

    def losses(outputs, labels, groups):
        at_once = objective_losses(outputs, labels, groups, objectives)
        alone = {}
        for objective, column in zip(objectives, labels, strict=True):
            alone |= objective_losses(outputs, [column], groups, (objective,))
        return jax.tree.map(lambda part: part[None], (at_once, alone))

    at_once, alone = over_photos(losses)
    assert at_once.keys() == alone.keys()
    assert all(np.asarray(alone[name]).any() for name in ("ISO", "Make"))
    for name, part in alone.items():
        np.testing.assert_allclose(at_once[name], part, rtol=1e-5, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("pairing", ["all_pairs", "neighbour"])
def test_all_ranked_tags_are_gathered_in_one_collective(pairing):
    objectives = build_objectives(TARGETS, PretextConfig(ranking=pairing))

    def gradients(outputs, labels, groups):
        return jax.grad(
            lambda outputs: sum(objective_losses(outputs, labels, groups, objectives).values())
        )(outputs)

    found = {each.kind: each for each in collectives(over_photos(gradients, compiled=True), 8)}
    # Scores and values of two tags, and both halves of the groups; back come the two scores.
    assert (found["all-gather"].count, found["all-gather"].bytes) == (1, 4 * PHOTOS * (2 + 2 + 2))
    assert (found["reduce-scatter"].count, found["reduce-scatter"].bytes) == (1, 4 * 2)


@pytest.mark.parametrize("groups", [[0, -1, 2**16 - 1, 2**31 - 1], [-(2**31), 5, 65536, 70000]])
def test_groups_and_unknown_values_are_gathered_exactly(groups):
    mesh = data_mesh(jax.devices()[:2])
    scores = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    values = np.array([[1, np.nan, 3, 4]] * 3, np.float32)

    def of_one_device(scores_BTS, values_BT, groups):
        return pretext.whole_batch(jnp.moveaxis(scores_BTS, 0, 1), values_BT.T, groups)

    mapped = over_devices(of_one_device, mesh, (SHARDED, SHARDED, SHARDED), REPLICATED)
    found = mapped(np.moveaxis(scores, 0, 1), values.T, np.array(groups, np.int32))
    for a, b in zip(found, (scores, values, groups), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_continues_with_its_own_records_only(records, tmp_path, monkeypatch):
    monkeypatch.setattr(pretext, "_build", lambda *_: None)
    monkeypatch.setattr(pretext, "fit", lambda *_: None)
    config = PretextConfig(batch_size=8, data=RecordsConfig(photos=str(records)))
    pretext.run(config, tmp_path / "run")
    copy = shutil.copytree(records, tmp_path / "copy")
    moved = dataclasses.replace(config, data=RecordsConfig(photos=str(copy)))
    pretext.run(moved, tmp_path / "run")
    targets = read_json(copy / "targets.json")
    make = next(target for target in targets if target["name"] == "Make")
    make["classes"] = ["Nikon", *make["classes"][1:]]
    write_json(copy / "targets.json", targets)
    with pytest.raises(UserError, match=r"class 0 of Make was \w+, is Nikon now\): choose another"):
        pretext.run(moved, tmp_path / "run")
