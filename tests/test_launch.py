"""What launches runs: scripts that pass exit statuses on, files that parse, flags that exist."""

import importlib.util
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from absl import flags

from data_pipelines.command_line import MISTAKE
from data_pipelines.early_signals import INTERRUPTED, PREEMPTED, RESTART
from exif_jax.cli.entry import load_config
from exif_jax.config import BinaryConfig, OneClassConfig, PretextConfig, flat, to_json

ROOT = Path(__file__).resolve().parents[1]
LAUNCH = ROOT / "launch"
RESTARTER = LAUNCH / "restart.sh"
STARTED = r"(?:restart\.sh exif-jax train|start --|slurm\.sbatch|gpus\.sh) +(--[^`|\"]*)"
OWN = {"workdir", "distributed", "coordinator", "processes", "process", "config"}


def restart(*command, **variables):
    return subprocess.run(
        ["bash", RESTARTER, *command],
        env={"PATH": "/usr/bin:/bin", "PAUSE": "0", **variables},
        capture_output=True,
        text=True,
    )


def accepted(words):
    """Whether the command line takes them."""
    given = flags.FlagValues()
    for name in OWN - {"config", "distributed"}:
        flags.DEFINE_string(name, None, "", flag_values=given)
    flags.DEFINE_bool("distributed", False, "", flag_values=given)
    return load_config(words, given)


def test_a_run_is_started_again_until_it_is_done_or_to_be_mended(tmp_path):
    count = tmp_path / "count"
    script = f"echo >> {count}; case $(wc -l < {count}) in 1) exit {RESTART};; "
    script += f"2) exit {PREEMPTED};; 3) kill -9 $$;; *) exit {MISTAKE};; esac"
    done = restart("bash", "-c", script)
    assert done.returncode == MISTAKE
    assert len(count.read_text().splitlines()) == 4
    assert restart("bash", "-c", "exit 0").returncode == 0
    assert restart("bash", "-c", f"exit {INTERRUPTED}").returncode == INTERRUPTED
    given_up = restart("bash", "-c", f"exit {RESTART}", RESTARTS="1")
    assert given_up.returncode == RESTART
    assert "no restart is left" in given_up.stderr
    assert restart().returncode == MISTAKE


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "TERM"), (signal.SIGINT, "INT")])
def test_signals_are_passed_on_and_end_it(number, name):
    # It goes on for a while, and its status is what counts.
    script = f"trap 'sleep 0.2; exit 7' {name}; echo ready; while :; do sleep 0.05; done"
    # Not ignored, as it is where tests run in the background; then bash could not trap it.
    start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    start += "os.execvp('bash', ['bash', *sys.argv[1:]])"
    with subprocess.Popen(
        [sys.executable, "-c", start, RESTARTER, "bash", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait() == 7


@pytest.mark.parametrize(
    "path", [*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")], ids=lambda p: p.name
)
def test_scripts_parse_and_tell_how_they_are_used(path):
    subprocess.run(["bash", "-n", path], check=True)
    told = subprocess.run(
        ["bash", path, *(["nonsense"] if path.name == "tpu_vm.sh" else [])],
        env={"PATH": "/usr/bin:/bin", "ZONE": "z", "PROJECT": "p"},
        capture_output=True,
        text=True,
    )
    if path.name != "gpus.sh":  # which has no flag of its own
        assert told.returncode == MISTAKE
        assert path.name in told.stderr


def test_every_field_that_is_set_exists():
    fields = {
        name
        for config in (PretextConfig, OneClassConfig, BinaryConfig)
        for name in flat(to_json(config()))
    }
    found = []
    for path in (*LAUNCH.iterdir(), ROOT / "docs" / "pods.md"):
        found += re.findall(r"--config\.([\w.]+)", path.read_text())
    assert len(found) > 5
    assert set(found) <= fields


def test_commands_are_taken_by_the_command_line():
    commands = []
    for path in (*LAUNCH.iterdir(), ROOT / "docs" / "pods.md"):
        text = re.sub(r"\\\n#? *", " ", path.read_text())
        for line in text.splitlines():
            if found := re.search(STARTED, line):
                commands.append(shlex.split(found[1]))
            if found := re.search(r'--command="exif-jax train ([^"]*)"', line):
                commands.append(shlex.split(found[1]))
    whole = [[word for word in words if "..." not in word] for words in commands]
    whole = [words for words in whole if words]
    assert len(whole) >= 5
    assert all(map(accepted, whole))


def test_the_job_of_a_slice():
    job_set = yaml.safe_load((LAUNCH / "gke_tpu.yaml").read_text())
    spec = job_set["spec"]
    (job,) = (replicated["template"]["spec"] for replicated in spec["replicatedJobs"])
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert job["parallelism"] == job["completions"] == rows * columns // chips
    assert spec["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    rule = job["podFailurePolicy"]["rules"][1]["onExitCodes"]
    assert rule["containerName"] == container["name"]
    assert rule["operator"] == "NotIn"
    assert {RESTART, PREEMPTED, 137} <= set(rule["values"])
    assert not {0, 1, MISTAKE, INTERRUPTED} & set(rule["values"])
    command, *words = container["args"]
    assert command == "train"
    config = accepted(words)
    assert config.batch_size % (rows * columns) == 0
    assert config.data.workers == 16


@pytest.mark.parametrize("name", ["Dockerfile.tpu", "Dockerfile.cuda"])
def test_images_are_made_of_what_is_there(name):
    text = (LAUNCH / name).read_text()
    sources = [word for line in re.findall(r"^COPY (.*)", text, re.M) for word in line.split()[:-1]]
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in kept
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (wanted,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert {"tpu", "cuda"} & set(wanted.split(",")) <= set(extras)


def test_the_costs_that_are_told_are_those_that_are_computed():
    spec = importlib.util.spec_from_file_location("cost", LAUNCH / "cost.py")
    assert spec is not None and spec.loader is not None
    cost = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cost)
    tables = [cost.table(photos, 1, None).splitlines()[2:] for photos in (900_000, 50e6)]
    told = (ROOT / "docs" / "pods.md").read_text()
    for few, many in zip(*tables, strict=True):
        assert f"{few} {many.split(' | ')[-1]}" in told
    assert "| money, at least |" in cost.table(1, 1, 2.5)
