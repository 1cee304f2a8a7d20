"""`~` is the home directory in every path given, where no shell expands it, too."""

from pathlib import Path

import pytest

from exif_jax.cli import __main__ as cli
from exif_jax.cli import convert, detect, entry
from exif_jax.cli import evaluate as cli_evaluate
from exif_jax.cli import train as cli_train
from exif_jax.cli.paths import expand_home
from exif_jax.cli.sweep import command as cli_sweep


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def given(monkeypatch):
    """What the stages and commands are called with."""
    calls = []
    monkeypatch.setattr(entry, "_start", lambda flags: None)
    monkeypatch.setattr(cli_train, "train", lambda *call: calls.append(call))
    monkeypatch.setattr(cli_evaluate, "evaluate", lambda *call: calls.append(call))
    for module in (detect, convert, cli_sweep):
        monkeypatch.setattr(module, "run", lambda args: calls.append(args) or 0)
    return calls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~", "HOME"),
        ("~/a", "HOME/a"),
        ("--flag=~/a", "--flag=HOME/a"),
        ("~/a, ~/b,c", "HOME/a, HOME/b,c"),
        ("knn:~/a,linear_probe:~/b", "knn:HOME/a,linear_probe:HOME/b"),
        ("a~", "a~"),
        ("/a~/b", "/a~/b"),
        ("photo~1.jpg", "photo~1.jpg"),
        ("~other/a", "~other/a"),
    ],
)
def test_a_tilde_that_begins_a_path_is_the_home(text, expected, home):
    assert expand_home(text) == expected.replace("HOME", home)


@pytest.mark.parametrize(
    ("command", "config", "field", "text"),
    [
        ("train", "pretext", "data.photos", "~/p"),
        ("train", "pretext", "evaluators", "heldout_tags,linear_probe:~/a,knn:~/b"),
        ("train", "one_class", "data.photos", "~/p"),
        ("train", "one_class", "extractor", "~/run"),
        ("train", "binary", "data.images", "~/i"),
        ("train", "binary", "extractor", "~/run"),
        ("eval", "evaluation", "data.images", "~/i"),
        ("eval", "evaluation", "detectors", "~/a/detector,~/b"),
    ],
)
def test_fields_and_workdir(command, config, field, text, home, given):
    words = [command, f"--config={config}", f"--config.{field}={text}", "--workdir=~/runs/1"]
    assert cli.main(words) == 0
    value, workdir = given[0]
    for name in field.split("."):
        value = getattr(value, name)
    assert value == text.replace("~", home)
    assert workdir == Path(home) / "runs" / "1"


def test_a_configuration_file_and_what_it_says(home, given):
    (Path(home) / "mine.py").write_text(
        "from exif_jax.config import BinaryConfig, LabelledConfig\n\n"
        "def get_config():\n"
        "    return BinaryConfig(extractor='~/run', data=LabelledConfig(images='~/images'))\n"
    )
    for config in (["--config=~/mine.py"], ["--config", "~/mine.py"]):
        assert cli.main(["train", *config, "--workdir", "~/x"]) == 0
    for config, workdir in given:
        assert (config.extractor, config.data.images) == (f"{home}/run", f"{home}/images")
        assert workdir == Path(home) / "x"


def test_arguments_of_the_other_commands(home, given):
    assert cli.main(["detect", "~/a.jpg", "~/folder", "--detector=~/run"]) == 0
    assert cli.main(["convert", "~/a.pth", "~/out"]) == 0
    sweep = ["sweep", "--config=pretext", "--grid=seed=0", "--config.data.photos=~/p"]
    assert cli.main([*sweep, "--workdir=~/s"]) == 0
    detected, converted, swept = given
    here = Path(home)
    assert detected.images == [f"{here}/a.jpg", f"{here}/folder"]
    assert detected.detector == f"{here}/run"
    assert (converted.checkpoint, converted.out) == (here / "a.pth", here / "out")
    assert swept.workdir == here / "s"
    assert swept.rest == [f"--config.data.photos={home}/p"]
