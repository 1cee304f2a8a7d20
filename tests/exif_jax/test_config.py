"""Configurations: every file of configs/ gives one, checks name the field."""

import importlib
import json
from pathlib import Path
from typing import get_args

import pytest

from data_pipelines.errors import UserError
from exif_jax.config import (
    BinaryConfig,
    EvaluationConfig,
    OneClassConfig,
    OptimizerConfig,
    PretextConfig,
    PublishedEncoder,
    ResidualCovarianceEncoder,
    TrainingConfig,
    check_choice,
    check_positive,
    check_set,
    encoder_from_json,
    flat,
    to_json,
)
from exif_jax.training.optimizers import make_optimizer

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_every_file_gives_a_configuration_of_its_own(name):
    get_config = importlib.import_module(f"configs.{name}").get_config
    kinds = {"pretext": PretextConfig, "one_class": OneClassConfig, "binary": BinaryConfig}
    stage = name.removeprefix("demo_").removeprefix("published_").removeprefix("residual_")
    kind = (kinds | {"evaluation": EvaluationConfig})[stage]
    config = get_config()
    assert type(config) is kind
    before = to_json(config)
    config.batch_size += 1
    assert to_json(get_config()) == before


@pytest.mark.parametrize("kind", [*get_args(TrainingConfig), EvaluationConfig])
def test_defaults_of_two_configurations_are_not_shared(kind):
    one, other = kind(), kind()
    assert one.data is not other.data


def test_stages_share_the_fields_of_running():
    common = {"steps", "batch_size", "seed", "checkpoint_every", "eval_every", "log_every"}
    for kind in get_args(TrainingConfig):
        assert common <= to_json(kind()).keys()


def test_json_keeps_everything_and_flat_names_it():
    numbers = flat(to_json(PretextConfig(batch_size=3)))
    assert numbers["batch_size"] == 3
    assert numbers["model.stage_depths"] == [4, 2, 2, 2]
    assert numbers["optimizer.learning_rate"] == 1e-4


def test_a_model_survives_json():
    model = PublishedEncoder(width=4, stage_depths=(1, 2), dtype="bfloat16")
    assert encoder_from_json(json.loads(json.dumps(to_json(model)))) == model


def test_checks_name_the_field_and_the_remedy():
    with pytest.raises(UserError, match=r"config\.ranking = 'all' is not known: choose a or b"):
        check_choice("ranking", "all", ("a", "b"))
    with pytest.raises(UserError, match=r"config\.data\.photos is not set: give --config"):
        check_set("data.photos", "")
    config = PretextConfig()
    check_positive(config, "batch_size", "data.patches")
    config.data.patches = 0
    with pytest.raises(UserError, match=r"config\.data\.patches = 0 must be greater"):
        check_positive(config, "batch_size", "data.patches")


def test_unknown_schedules_and_precisions_are_refused():
    with pytest.raises(UserError, match=r"config\.optimizer\.schedule = 'cosin' is not known"):
        make_optimizer(OptimizerConfig(schedule="cosin"), 10)
    with pytest.raises(UserError, match=r"config\.model\.dtype = 'float16' is not known"):
        PublishedEncoder(dtype="float16").build()
    with pytest.raises(UserError, match=r"config\.model\.remat = 'all' is not known"):
        PublishedEncoder(remat="all").build()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (PublishedEncoder(newton_iterations=2**31), "newton_iterations = 2147483648: not a whole"),
        (PublishedEncoder(mixer_blocks=10**6), "mixer_blocks = 1000000: not a whole number from 0"),
        (PublishedEncoder(stage_depths=(1, 10**6)), "stage_depths = 1000000: not"),
        (PublishedEncoder(stage_depths=(1,) * 99), "stage_depths: stages = 99: not"),
        (PublishedEncoder(width=True), "width = True: not a whole number"),
        (PublishedEncoder(mixer_heads=0.5), "mixer_heads = 0.5: not a whole number"),
        (ResidualCovarianceEncoder(hidden=(1,) * 99), "hidden: layers = 99: not"),
        (ResidualCovarianceEncoder(features=10**9), "features = 1000000000: not"),
    ],
)
def test_networks_that_are_never_built_to_their_end_are_refused(encoder, message):
    with pytest.raises(UserError, match=f"config.model.{message}"):
        encoder.build()
