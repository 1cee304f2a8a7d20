"""Validation: the loss that is trained, and qualities of tags that some photos lack."""

import jax.numpy as jnp
import numpy as np
import pytest

from exif_jax.config import ObjectivesConfig, PretextConfig
from exif_jax.evaluation.evaluators.heldout_tags import objective_metrics
from exif_jax.losses import pair_loss
from exif_jax.objectives import build_objectives
from tests.exif_jax.tag_outputs import PHOTOS, TARGETS, outputs_and_labels


def validation(outputs, labels, groups, **config):
    objectives = build_objectives(TARGETS, PretextConfig(**config))
    columns = [[target.name for target in TARGETS].index(o.name) for o in objectives]
    outs = [outputs[objective.name] for objective in objectives]
    return objective_metrics(
        objectives, outs, [labels[:, c] for c in columns], [groups] * len(objectives)
    )


def test_validation_has_no_value_for_a_tag_without_any_photo():
    outputs, labels = outputs_and_labels()
    numbers = validation(outputs, labels, np.arange(PHOTOS))
    assert numbers["concordance/ISO"] == numbers["concordance/mean"] == 1
    assert numbers["balanced_accuracy/Make"] == numbers["balanced_accuracy/mean"] == 1
    assert numbers["count/ISO"] == PHOTOS * (PHOTOS - 1) / 2 and numbers["count/Make"] == 6
    for name in ("FocalLength", "Flash"):
        assert numbers[f"count/{name}"] == 0
        assert not any(key.endswith(name) and not key.startswith("count") for key in numbers)
    assert np.isfinite(list(numbers.values())).all()


def test_photos_of_one_burst_are_not_compared():
    outputs, labels = outputs_and_labels()
    numbers = validation(outputs, labels, np.zeros(PHOTOS, int))
    assert numbers["count/ISO"] == 0 and "concordance/mean" not in numbers


@pytest.mark.parametrize("kind", ["bce", "fidelity"])
@pytest.mark.parametrize("ranking", ["all_pairs", "neighbour"])
def test_the_loss_is_the_one_that_is_trained(kind, ranking):
    outputs, labels = outputs_and_labels()
    numbers = validation(
        outputs,
        labels,
        np.arange(PHOTOS),
        ranking=ranking,
        pair_loss=kind,
        objectives=ObjectivesConfig(tags="ISO", weights="ISO=0.5"),
    )
    # ISO is predicted by its rank: photos i < j differ by j - i, and j has the greater value.
    differences = jnp.array([float(i - j) for j in range(PHOTOS) for i in range(j)])
    expected = pair_loss(differences, jnp.zeros(len(differences)), kind).mean()
    assert numbers["loss"] == pytest.approx(0.5 * float(expected), rel=1e-5)
