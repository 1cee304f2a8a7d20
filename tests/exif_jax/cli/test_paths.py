"""`~` is the home directory in every path given, where no shell expands it, too."""

import os
import pwd
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from data_pipelines.prepare import command as prepare
from data_pipelines.prepare.report import tag_report
from data_pipelines.simulated import __main__ as simulated
from data_pipelines.simulated import dataset
from exif_jax.cli import __main__ as cli
from exif_jax.cli import convert, detect, entry
from exif_jax.cli import evaluate as cli_evaluate
from exif_jax.cli import train as cli_train
from exif_jax.cli.paths import expand_home
from exif_jax.cli.sweep import command as cli_sweep

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def given(monkeypatch):
    """What the stages and commands are called with."""
    calls = []
    monkeypatch.setattr(entry, "_watching", lambda given: nullcontext())
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
        ("~other/a", "~other/a"),  # nobody here is called so
        ("~root/a", "ROOT/a"),
        ("--out=~root", "--out=ROOT"),
        ("--config.detectors=~/a:b,~root/c", "--config.detectors=HOME/a:b,ROOT/c"),
        ("--config=~/mine.py:argument", "--config=HOME/mine.py:argument"),
        ("--grid=extractor=~/a,~/b", "--grid=extractor=HOME/a,HOME/b"),
        ("~~/a", "~~/a"),
        ("./~/a", "./~/a"),  # a folder that is called so
        ("--out=./~", "--out=./~"),
        ("gs://bucket/~/a", "gs://bucket/~/a"),
        ("~.jpg", "~.jpg"),
        ("é~/a", "é~/a"),
    ],
)
def test_a_tilde_that_begins_a_path_is_the_home(text, expected, home):
    expected = expected.replace("ROOT", pwd.getpwnam("root").pw_dir)
    assert expand_home(text) == expected.replace("HOME", home)


def test_without_a_home_a_tilde_stays(monkeypatch):
    def nobody(_):
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert expand_home("--out=~/x") == "--out=~/x"


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
    value, workdir, *_ = given[0]
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
    for config, workdir, *_ in given:
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


@pytest.mark.parametrize("flag", ["--out", "--csv", "--html", "--heatmap", "--detector"])
def test_every_path_of_detect(flag, home, given):
    assert cli.main(["detect", "a.jpg", f"{flag}=~/x"]) == 0
    assert cli.main(["detect", "a.jpg", flag, "~/x"]) == 0
    assert [str(getattr(args, flag[2:])) for args in given] == [f"{home}/x"] * 2


def test_every_path_of_prepare_and_tags(home, given, monkeypatch):
    for module in (prepare, tag_report):
        monkeypatch.setattr(module, "run", lambda args: given.append(args) or 0)
    words = ["prepare", "~/photos", "~/*/x.zip", "--out=~/out", "--sidecar=~/a", "--sidecar", "~/b"]
    assert cli.main(words) == 0
    assert cli.main(["tags", "~/records", "--html=~/page.html"]) == 0
    prepared, tags = given
    assert prepared.sources == [f"{home}/photos", f"{home}/*/x.zip"]
    assert (prepared.out, prepared.sidecar) == (f"{home}/out", [f"{home}/a", f"{home}/b"])
    assert (str(tags.records), str(tags.html)) == (f"{home}/records", f"{home}/page.html")


@pytest.mark.parametrize("words", [["--out=~/data"], ["--out", "~/data"]])
def test_the_simulation(words, home, monkeypatch):
    made = []
    monkeypatch.setattr(dataset, "make_dataset", lambda **options: made.append(options))
    assert simulated.main(words) == 0
    assert made[0]["out"] == Path(home) / "data"


@pytest.mark.parametrize(
    "words",
    [
        ["detect", "a.jpg", "--csv=gs://bucket/x.csv"],
        ["convert", "a.npz", "s3://bucket/extractor"],
        ["sweep", "--config=pretext", "--grid=seed=0", "--workdir=gs://bucket/sweep"],
    ],
)
def test_what_is_written_to_local_folders_only_is_refused_elsewhere(words, capsys):
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("this is written to local folders only; copy it there afterwards")


@pytest.mark.parametrize("program", ["train.py", "eval.py"])
def test_the_programs_of_the_checkout(program, home):
    (Path(home) / "mine.py").write_text("def get_config():\n    return None\n")
    done = subprocess.run(
        [sys.executable, program, "--config=~/mine.py"],
        cwd=ROOT,
        env=os.environ | {"HOME": home},
        capture_output=True,
        text=True,
    )
    assert f"{home}/mine.py: no get_config() that returns a" in done.stderr


def test_no_folder_is_called_tilde(home, records, monkeypatch, tmp_path_factory):
    """What is really written, by a command that runs to its end."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert cli.main(["tags", str(records), "--html=~/page.html"]) == 0
    assert (Path(home) / "page.html").is_file() and not list(Path.cwd().iterdir())
