"""Objectives: which are learned, their labels, the weighted sum, and kinds of one's own."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.targets import Target
from exif_jax.config import ObjectivesConfig, PretextConfig
from exif_jax.losses import Rows, pair_loss
from exif_jax.objectives import (
    OBJECTIVES,
    Categorical,
    ImageObjective,
    Ranked,
    TagObjective,
    build_objectives,
    head_sizes,
    labels_of,
)

NAN = float("nan")
TARGETS = (
    Target("FNumber", "ranked"),
    Target("Make", "categorical", ("Norden", "Kestrel", "other")),
    Target("ISO", "ranked"),
    Target("Flash", "categorical", ("on", "off")),
)


def build(tags="all", weights="", extra=(), **config):
    return build_objectives(
        TARGETS, PretextConfig(objectives=ObjectivesConfig(tags, weights, extra), **config)
    )


def names(*arguments, **config):
    return [objective.name for objective in build(*arguments, **config)]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("all", ["FNumber", "Make", "ISO", "Flash"]),
        ("ranked", ["FNumber", "ISO"]),
        ("categorical", ["Make", "Flash"]),
        ("ISO, Make", ["Make", "ISO"]),
        ("-ISO", ["FNumber", "Make", "Flash"]),
        ("-ISO,-categorical", ["FNumber"]),
        ("ranked,Flash,-FNumber", ["ISO", "Flash"]),
    ],
)
def test_the_ablations_of_the_paper_are_lists_of_tags(tags, expected):
    assert names(tags) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Iso",), "'Iso' is no tag here; known are all, ranked"),
        (("-x",), "'-x' is no tag here"),
        (("",), "nothing is left to learn"),
        (("-all",), "nothing is left to learn"),
        (("ISO", "FNumber=2"), "'FNumber' is not learned"),
        (("ISO", "ISO"), "weights = 'ISO': 'ISO' is not NAME=NUMBER"),
    ],
)
def test_what_cannot_be_learned_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        names(*arguments)


@pytest.mark.parametrize("field", ["ranking", "pair_loss"])
def test_unknown_losses_are_refused(field):
    with pytest.raises(UserError, match=rf"config\.{field} = 'x' is not known"):
        build(**{field: "x"})


def test_weights_are_of_the_loss():
    weights = {o.name: o.weight for o in build("all", "ISO=0.25, Make=3")}
    assert weights == {"FNumber": 1, "Make": 3, "ISO": 0.25, "Flash": 1}


def test_one_of_ones_own_takes_the_place_of_a_tag():
    own = Ranked("ISO", pair_loss="fidelity")
    built = build("ISO,Make", extra=(own,))
    assert built == (Categorical("Make", classes=TARGETS[1].classes), own)
    assert head_sizes(built) == (("Make", 3), ("ISO", 1))


def test_a_kind_of_target_of_ones_own_has_its_objective():
    @OBJECTIVES.register("counted")
    @dataclass(frozen=True)
    class Counted(TagObjective):
        kind: ClassVar[str] = "counted"

        @classmethod
        def of(cls, target, config):
            return cls(target.name)

    targets = (*TARGETS, Target("Faces", "counted"))
    (counted,) = build_objectives(
        targets, PretextConfig(objectives=ObjectivesConfig(tags="counted"))
    )
    assert counted == Counted("Faces") and counted.target == targets[-1]


def test_labels_are_values_and_indices_of_classes():
    fnumber, make, _, flash = build()
    np.testing.assert_array_equal(fnumber.encode([2.8, NAN]), np.float32([2.8, NAN]))
    words = ["Kestrel", "", "a maker without a class", "Norden"]
    np.testing.assert_array_equal(make.encode(words), np.float32([1, NAN, 2, 0]))
    # Without a class "other", what has no class is unknown.
    np.testing.assert_array_equal(flash.encode(["off", "strobe"]), np.float32([1, NAN]))


def test_labels_come_from_columns_or_from_images():
    @dataclass(frozen=True)
    class Height(ImageObjective):
        def labels(self, images, sizes):
            return sizes[:, 0]

    objectives = (*build("ISO"), Height("height"), *build("Make"))
    batch = {
        "image": jnp.zeros((2, 4, 4, 3), jnp.uint8),
        "size": jnp.array([[3, 4], [4, 4]]),
        "targets": jnp.array([[100.0, 0.0], [200.0, NAN]]),
    }
    iso, height, make = labels_of(objectives, batch)
    np.testing.assert_array_equal(iso, [100, 200])
    np.testing.assert_array_equal(height, [3, 4])
    np.testing.assert_array_equal(make, [0, NAN])


@pytest.mark.parametrize("kind", ["bce", "fidelity"])
def test_evaluation_compares_all_pairs_with_the_loss_that_is_trained(kind):
    (trained,) = build("ISO", ranking="neighbour", pair_loss=kind)
    assert dataclasses.replace(trained, pairing="all_pairs") == trained.in_evaluation
    rows = Rows(jnp.array([[0.0], [1.0], [3.0]]), jnp.array([1.0, 2.0, 0.0]), jnp.arange(3))
    values, valid = trained.in_evaluation.loss(rows, rows, jnp.array(0))
    pairs = pair_loss(jnp.array([-1.0, -3.0, -2.0]), jnp.array([0.0, 1.0, 1.0]), kind)
    assert int(valid.sum()) == 3
    np.testing.assert_allclose(values.sum(), pairs.sum(), rtol=1e-6)
