"""train.py and eval.py: a mistake gives one message that names it, and leaves nothing behind."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_pipelines.errors import UserError
from exif_jax.cli.entry import load_config
from exif_jax.cli.evaluate import evaluate
from exif_jax.cli.train import train
from exif_jax.config import (
    BinaryConfig,
    EvaluationConfig,
    LabelledConfig,
    OneClassConfig,
    PhotosConfig,
    PretextConfig,
    RecordsConfig,
    TestImagesConfig,
)
from exif_jax.detection.detectors import save_detector
from exif_jax.models.trained import load_extractor

ROOT = Path(__file__).resolve().parents[3]
PRETEXT = "--config=configs/pretext.py"


def command(program, *arguments):
    return subprocess.run(
        [sys.executable, program, *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("program", "arguments", "message"),
    [
        (
            "train.py",
            [PRETEXT, "--config.batchsize=8"],
            "no field 'batchsize'; did you mean batch_",
        ),
        ("train.py", [PRETEXT, "--config.model.wdth=8"], "no field 'wdth'; did you mean width?"),
        ("train.py", [PRETEXT, "--config.data.zzz=8"], "'zzz'; known are photos, patches, threads"),
        (
            "train.py",
            ["--config=configs/binary.py", "--config.data.augmentation.jpeg_probabilty=0"],
            "no field 'jpeg_probabilty'; did you mean jpeg_probability?",
        ),
        ("train.py", [PRETEXT, "--config.batch_size=many"], "--config.batch_size=many: invalid"),
        ("train.py", [PRETEXT, "--workdr=x"], "Unknown command line flag 'workdr'"),
        ("train.py", [PRETEXT, "more", "words"], "unexpected arguments: more words"),
        ("train.py", ["--config", "configs/no.py"], "--config=configs/no.py: no such config"),
        ("train.py", ["--config=one_clas"], "did you mean one_class? Ours are binary, "),
        ("eval.py", ["--config=configs/evaluation.py", "--config.detector=x"], "mean detectors?"),
        # This one is found only after the start: no stack trace then, either.
        ("train.py", [PRETEXT, "--config.data.photos=no"], "no: no prepared records"),
    ],
)
def test_a_bad_command_line_is_one_message(program, arguments, message, tmp_path):
    result = command(program, *arguments, f"--workdir={tmp_path / 'run'}")
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert not list(tmp_path.iterdir())


def test_missing_flags_are_named():
    assert command("train.py", PRETEXT).stderr == "error: --workdir must be given\n"
    assert command("eval.py").stderr == "error: --config and --workdir must be given\n"


def test_a_misspelt_field_of_an_encoder_of_ones_own_is_named(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\n"
        "from exif_jax.config import ENCODERS, EncoderConfig, PretextConfig\n\n"
        "@ENCODERS.register('mine')\n"
        "@dataclass\n"
        "class Mine(EncoderConfig):\n    depth: int = 1\n\n"
        "def get_config():\n    return PretextConfig(model=Mine())\n"
    )
    result = command("train.py", f"--config={tmp_path / 'mine.py'}", "--config.model.dept=2")
    assert result.stderr == "error: the configuration has no field 'dept'; did you mean depth?\n"
    assert result.returncode == 2


def test_a_file_without_a_configuration_of_ours_is_named(tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {'a': 1}\n")
    result = command("train.py", f"--config={tmp_path / 'mine.py'}")
    assert "mine.py: no get_config() that returns a configuration of ours" in result.stderr


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_help_teaches(program):
    result = command(program, "--help")
    assert result.returncode == 0 and result.stderr == ""
    for word in ("example: exif-jax", "--workdir=DIR", "--coordinator", "demo_pretext", "LABELLED"):
        assert word in result.stdout


def test_help_lists_the_fields():
    result = command("train.py", "--help", "--config=one_class")
    assert result.returncode == 0
    assert "--config.num_components=5\n" in result.stdout
    assert "--config.data.photos=\n" in result.stdout


def pretext(photos, **fields):
    return PretextConfig(batch_size=8, data=RecordsConfig(photos=str(photos)), **fields)


@pytest.fixture
def one_sided(tmp_path):
    """A labelled folder without generated images."""
    folder = tmp_path / "images"
    (folder / "0_real").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(folder / "0_real" / "a.png")
    return folder


def test_configurations_are_not_mixed_up(tmp_path):
    with pytest.raises(UserError, match="EvaluationConfig, which `train` cannot run"):
        train(EvaluationConfig(), tmp_path)
    with pytest.raises(UserError, match="PretextConfig, which `eval` cannot run"):
        evaluate(PretextConfig(), tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PretextConfig(), r"config\.data\.photos is not set"),
        (BinaryConfig(), r"config\.extractor is not set"),
        (OneClassConfig(), r"config\.extractor is not set"),
        (pretext("p", ranking="some"), r"config\.ranking = 'some' is not known: choose all_pairs"),
        (pretext("p", pair_loss="mse"), r"config\.pair_loss = 'mse' is not known"),
        (pretext("p", eval_every=0), r"config\.eval_every = 0 must be greater than zero"),
        (
            dataclasses.replace(pretext("p"), batch_size=12),
            r"config\.batch_size = 12 does not divide over 8 devices",
        ),
    ],
)
def test_a_wrong_field_is_named(config, message, records, tmp_path):
    if isinstance(config, PretextConfig) and config.data.photos:
        config = dataclasses.replace(config, data=RecordsConfig(str(records)))
    with pytest.raises(UserError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_inputs_are_named(tiny_extractor, tmp_path):
    with pytest.raises(UserError, match=r"photos: no prepared records.*exif-jax prepare"):
        train(pretext(tmp_path / "photos"), tmp_path / "run")
    images = LabelledConfig(str(tmp_path / "images"))
    with pytest.raises(UserError, match="images: no such directory of labelled images"):
        train(BinaryConfig(str(tiny_extractor), batch_size=8, data=images), tmp_path / "run")
    with pytest.raises(UserError, match="run1: no extractor here"):
        train(BinaryConfig(str(tmp_path / "run1"), batch_size=8, data=images), tmp_path / "run")
    photos = PhotosConfig(str(tmp_path))
    with pytest.raises(UserError, match="no photos found"):
        train(OneClassConfig(str(tiny_extractor), data=photos), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_one_class_alone_is_refused(one_sided, tiny_extractor, detector, tmp_path):
    binary = BinaryConfig(str(tiny_extractor), batch_size=8, data=LabelledConfig(str(one_sided)))
    with pytest.raises(UserError, match="one class only: 0_real has no 1_fake beside it"):
        train(binary, tmp_path / "run")
    config = EvaluationConfig(str(detector), data=TestImagesConfig(str(one_sided)))
    with pytest.raises(UserError, match="one class only: 0_real has no 1_fake beside it"):
        evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_holds_something_else_is_left_alone(records, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run: choose another"):
        train(pretext(records), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_workdir_of_another_run_is_left_alone(records, tiny_extractor, tmp_path):
    one_class = OneClassConfig(str(tiny_extractor), data=PhotosConfig(str(records)))
    text = json.dumps({"stage": "one_class", "seed": 3})
    (tmp_path / "config.json").write_text(text)
    for config in (pretext(records), one_class):
        with pytest.raises(UserError, match=r"holds another run .*seed: 3 there, 0 now"):
            train(config, tmp_path)
    assert (tmp_path / "config.json").read_text() == text
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture(scope="module")
def detector(tiny_extractor, tmp_path_factory):
    rng = np.random.default_rng(0)
    head = {"kernel": rng.normal(size=(10, 2)).astype(np.float32), "bias": np.zeros(2, np.float32)}
    directory = tmp_path_factory.mktemp("runs") / "first" / "detector"
    extractor = load_extractor(tiny_extractor)
    save_detector(directory, "binary", 0.5, extractor, {"head": {"fc": head}}, {})
    return directory


def test_detectors_must_have_different_names(detector, simulated, tmp_path):
    images = TestImagesConfig(str(simulated / "labelled" / "train"))
    config = EvaluationConfig(f"{detector}, {detector.parent}", data=images)
    with pytest.raises(UserError, match=r"two detectors have the same name \(first\)"):
        evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"detectors": ""}, r"config\.detectors is not set"),
        ({"detectors": "nowhere"}, "nowhere: no such detector directory"),
        ({"perturbations": "jpg:95"}, "jpg"),
        ({"batch_size": 0}, r"config\.batch_size = 0 must be greater"),
        ({"data": TestImagesConfig()}, r"config\.data\.images is not set"),
    ],
)
def test_a_wrong_field_of_the_evaluation_is_named(fields, message, detector, simulated, tmp_path):
    images = TestImagesConfig(str(simulated / "labelled" / "train"))
    config = EvaluationConfig(**{"detectors": str(detector), "data": images} | fields)
    with pytest.raises(UserError, match=message):
        evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_writes_tables_scores_and_plots(detector, simulated, tmp_path, capsys):
    images = TestImagesConfig(str(simulated / "labelled" / "train"))
    config = EvaluationConfig(str(detector), "none,resize:0.5+jpeg:80", batch_size=5, data=images)
    evaluate(config, tmp_path / "run")
    out = capsys.readouterr().out
    assert "first" in out and "resize:0.5+jpeg:80" in out and "auroc" in out.lower()
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {row["perturbation"] for row in rows} == {"none", "resize:0.5+jpeg:80"}
    assert all((row["n_real"], row["n_generated"]) == (6, 6) for row in rows)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"results.csv", "scores.csv", "config.json"} <= names
    assert list((tmp_path / "run" / "plots").glob("*.png"))
    with pytest.raises(UserError, match=r"holds another run .*perturbations"):
        evaluate(dataclasses.replace(config, perturbations="none"), tmp_path / "run")


def test_fields_of_every_part_are_set():
    words = ["--config.data.augmentation.jpeg_probability=0.5", "--config.optimizer.ema=0.9"]
    words += ["--config.data.augmentation.jpeg_qualities=(50, 60)"]
    config = load_config(["--config=binary", *words])
    assert config.data.augmentation.jpeg_probability == 0.5
    assert config.data.augmentation.jpeg_qualities == (50, 60)
    assert config.optimizer.ema == 0.9


def test_a_misspelt_field_of_any_length_is_a_short_message():
    with pytest.raises(UserError, match=r"no field 'a+\.\.\.a+'; known are") as refused:
        load_config(["--config=pretext", f"--config.{'a' * 5000}=1"])
    assert len(str(refused.value)) < 1000


def test_a_name_that_no_disk_can_hold_is_no_configuration():
    with pytest.raises(UserError, match="no such configuration file"):
        load_config([f"--config={'x' * 5000}"])
